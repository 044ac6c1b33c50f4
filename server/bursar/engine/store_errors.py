"""What a failure of Redis means to callers. Redis's own words stay out of messages."""

from __future__ import annotations

import re
from typing import Any

from redis.exceptions import (
    AskError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import TimeoutError as RedisTimeoutError

from bursar.domain.errors import BursarError, InternalError, StoreFull, StoreUnavailable

_NOT_NOW_ERRORS = (
    ReadOnlyError,
    MasterDownError,
    ClusterDownError,
    TryAgainError,
    MovedError,
    AskError,
)
_NOT_NOW_TEXT = re.compile(
    r"(?:^|\s-)(BUSY|READONLY|NOREPLICAS|MISCONF|UNKILLABLE|TRYAGAIN|CLUSTERDOWN)\b"
    r"|attempted to access a non local key|while the cluster is down"
)
"""Answers of a Redis that is there but cannot serve at the moment. Redis before 7 puts what a
command in a script answered behind a text of its own, with a dash before it. A script whose keys
move to another server meanwhile finds some of them not local."""

_FORBIDDEN_TEXT = re.compile(
    r"NOPERM|ACL failure in script|The user executing the script can't (?:run|access)"
)


def translate(error: BaseException) -> BursarError:
    """Return our error for a failure of Redis, which is its cause."""
    ours = _ours(error)
    ours.__cause__ = error
    return ours


def checked(reply: Any) -> Any:  # noqa: ANN401 - as Redis replied
    """Return a reply that is none of Redis's errors.

    Raises:
        BursarError: It is one.
    """
    if isinstance(reply, RedisError | OSError):
        raise translate(reply)
    return reply


def _ours(error: BaseException) -> BursarError:
    if isinstance(error, TimeoutError | RedisTimeoutError):
        return StoreUnavailable("Redis did not answer in time")
    if isinstance(error, OutOfMemoryError):
        return StoreFull("Redis is out of memory and refuses writes")
    if not isinstance(error, ResponseError):
        return StoreUnavailable("Redis cannot be reached")
    text = str(error)
    if "cluster support disabled" in text:
        return StoreUnavailable("this Redis is no cluster, as BURSAR_REDIS_URL says that it is")
    if "OOM" in text:
        return StoreFull("Redis is out of memory and refuses writes")
    if isinstance(error, _NOT_NOW_ERRORS) or _NOT_NOW_TEXT.search(text):
        return StoreUnavailable("Redis cannot serve at the moment")
    if isinstance(error, NoPermissionError) or _FORBIDDEN_TEXT.search(text):
        return InternalError("Redis forbids its user a command or a key that this server needs")
    return InternalError("a script failed in Redis")
