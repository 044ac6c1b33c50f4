"""An example of each reason of an error, and what to do about it.

`tests/e2e/test_documents.py` provokes the examples that a client can provoke.
"""

from __future__ import annotations

from typing import NamedTuple


class ErrorText(NamedTuple):
    """What the page says of a reason besides the proto's comment; `...` is what varies."""

    example: str
    what_to_do: str


RETRY_LATER = "Retry with the same content after RetryInfo's delay; the Python client does."

ERROR_TEXTS = {
    "FIELD_INVALID": ErrorText(
        "estimate.input_tokens: must be 0 to 1000000000, is -1",
        "Correct the fields that BadRequest names. Nothing was booked.",
    ),
    "LIMIT_EXCEEDED": ErrorText(
        "operations: has 1001 entries, more than 1000",
        "Send less in one call; metadata says `given` and `limit`.",
    ),
    "REQUEST_ID_REUSED": ErrorText(
        "request_id 'r-1' was used before with other content; use a new id for a new request",
        "Use a new id for a new request, and keep a retry's content as it was, `ttl`, `accepts` "
        "and `priority` included.",
    ),
    "RESERVATION_NOT_FOUND": ErrorText(
        "there is no reservation acme..., or it ended too long ago; book its usage with Record",
        "Book real usage with Record. The Python client does this by itself.",
    ),
    "RESERVATION_COMMITTED": ErrorText(
        "reservation acme... was committed at ... ms; book further usage with Record",
        "Nothing, if the first commit was right; else book the difference with Record.",
    ),
    "RESERVATION_RELEASED": ErrorText(
        "reservation acme... was released at ... ms; book further usage with Record",
        "Book real usage with Record. The Python client does this by itself.",
    ),
    "RESERVATION_EXPIRED": ErrorText(
        "reservation acme... expired at ... ms; settle it with a final commit",
        "Send a final Commit with what was used and not committed yet. To work on, reserve anew. "
        "Extend longer calls before they expire.",
    ),
    "SEQUENCE_MISMATCH": ErrorText(
        "this is partial commit 3, but number 1 is next",
        "Number partial commits 1, 2, 3, ... without a gap; go on with `expectedSequence`.",
    ),
    "ORG_ACCESS_DENIED": ErrorText(
        "org 'nobody' is not known here; give it a policy",
        "Check the spelling; give the server the org's policy with `--policy`.",
    ),
    "STORE_UNAVAILABLE": ErrorText(
        "Redis cannot be reached",
        f"{RETRY_LATER} See [Redis](../operate/redis.md).",
    ),
    "STORE_FULL": ErrorText(
        "Redis is out of memory and refuses writes",
        "Give Redis more memory; see [capacity](../operate/capacity.md). Nothing was booked.",
    ),
    "SHARD_COLD": ErrorText(
        "the data of shard {b21} is gone from Redis; nothing is decided from it until it is "
        "rebuilt",
        "Retry. Servers rebuild it by themselves, or go on as before where Redis was only started "
        "anew and lacks nothing; see [recovery](../operate/recovery.md).",
    ),
    "CLOCK_BEHIND": ErrorText(
        "this server's clock is behind what shard {b21} has seen; check its time source",
        "Retry; if it stays, look at the clock of the host of Redis, which all servers follow.",
    ),
    "JOURNAL_FULL": ErrorText(
        "more calls wait to be recorded than may: nothing new is granted until PostgreSQL has "
        "caught up; settling goes on",
        "Retry later. Operators: PostgreSQL is away or too slow; `bursar status` says since when.",
    ),
    "LEDGER_UNAVAILABLE": ErrorText(
        "PostgreSQL cannot be reached or does not answer",
        "Retry. Reserve, Commit and Release do not need it; what reads or changes the record does.",
    ),
    "NOT_DURABLE": ErrorText(
        "carried out, but not recorded in time; the same request may be retried",
        "Retry the same request: it is answered once it is as durable as the setting wants.",
    ),
    "DRAINING": ErrorText(
        "the server is shutting down; call another one",
        "Retry at once on another server: connect with `dns:///` so that there is one.",
    ),
    "SERVER_OVERLOADED": ErrorText(
        "the org has its share of what the server does at once: 512 calls are in progress",
        "Nothing was done. Retry after RetryInfo's delay, with fewer calls at once. Operators: see "
        "[too much load](../operate/capacity.md#when-there-is-too-much-load).",
    ),
    "DEADLINE_EXCEEDED": ErrorText(
        "the deadline had passed before the call began",
        "Retry with the same request_id and a longer deadline.",
    ),
    "CONCURRENT_CHANGE": ErrorText(
        "reservation acme... changed 4 times meanwhile; try again",
        "Retry. Do not extend and partly commit one reservation from many places at once.",
    ),
    "INTERNAL": ErrorText(
        "the server failed; its log has the details under call id ...",
        "Look for that call id in the server's log and report it. The outcome of a writing call "
        "is unknown; the same request_id may be retried safely.",
    ),
    "POLICY_CONFLICT": ErrorText(
        "the policy of acme was changed meanwhile; read it again",
        "Look at what changed (`bursar policies acme`), and repeat the change on top of it.",
    ),
    "POLICY_NOT_FOUND": ErrorText(
        "the policy of acme has no budget 'chatbot'",
        "Check the spelling; `bursar policy acme` and `bursar freezes acme` list what there is.",
    ),
}
"""By the reason's name without prefix, in the contract's order."""
