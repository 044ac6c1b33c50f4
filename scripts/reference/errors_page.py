"""`docs/reference/errors.md`: why a call can fail, and what to do."""

from __future__ import annotations

import re

from bursar.domain.errors import BursarError
from bursar.service import errors as service_errors
from bursar_client._status import BY_REASON
from reference.contract import elements
from reference.error_texts import ERROR_TEXTS
from reference.tables import generated_head

PREFIX = "ERROR_REASON_"

HEAD = """
A call that fails ends with a gRPC status whose details carry `google.rpc.ErrorInfo`: domain
`bursar`, the reason, and every varying part of the message as metadata. Where a field is wrong
there is also `google.rpc.BadRequest`, with the path of each fault; where waiting helps, also
`google.rpc.RetryInfo`. In a [Batch](api.md#operationerror) the same is in `OperationError`. A
denial is not an error: it is an OK answer with `DECISION_DENIED`.

The Python client raises a class for each reason, all of them `BursarError`; those that the same
call may survive later are `RetryableError`. An answer without these details comes from a proxy or
from gRPC itself; then the status code decides the class.
"""

# What the page says in a line of its own.
_EXAMPLE = re.compile(r"Example: .*?\.(?= |$)")
_SENTENCE = re.compile(r"(?:^|(?<=\. ))[a-z]")
_CODE_SENTENCE = re.compile(r"(?P<code>[A-Z]+(?:_[A-Z]+)*)(?: with RetryInfo)?(?:\.|; ?)")


def errors_page() -> str:
    """Return the page of reasons.

    Raises:
        ValueError: The proto's comment names another code than the server answers with.
        KeyError: A reason has no text, or a text no reason.
    """
    [reasons] = [each for each in elements() if each.name == "ErrorReason"]
    comments = {each.name.removeprefix(PREFIX): each.comment for each in reasons.members}
    del comments["UNSPECIFIED"]
    if comments.keys() ^ ERROR_TEXTS.keys():
        raise KeyError(f"without text, or without reason: {comments.keys() ^ ERROR_TEXTS.keys()}")
    head = generated_head(
        "Errors", "protos/bursar/v1/error_reason.proto", "scripts/reference/error_texts.py"
    )
    return head + HEAD + "".join(_reason(*each) for each in comments.items())


def _reason(name: str, comment: str) -> str:
    code = service_errors._CODES[name].name
    if code not in comment:
        raise ValueError(f"the comment of {name} does not name {code}")
    meaning = _EXAMPLE.sub("", comment.replace("`", ""))
    meaning = _CODE_SENTENCE.sub(lambda found: "" if found["code"] == code else found[0], meaning)
    meaning = _SENTENCE.sub(lambda found: found[0].upper(), " ".join(meaning.split()))
    text = ERROR_TEXTS[name]
    delay_ms = _retry_after_ms(name)
    retry = "none" if delay_ms is None else f"{delay_ms} ms"
    return (
        f"\n## {name}\n\n"
        f"{meaning}\n\n"
        "| | |\n| --- | --- |\n"
        f"| gRPC code | `{code}` |\n"
        f"| Retry after | {retry} |\n"
        f"| Python | `{BY_REASON[name].__name__}` |\n"
        f"| Example | {text.example} |\n"
        f"| What to do | {text.what_to_do} |\n"
    )


def _retry_after_ms(name: str) -> int | None:
    """Return the delay that an error of a reason asks for, or None where it asks for none."""
    waiting: list[type[BursarError]] = [BursarError]
    while waiting:
        kind = waiting.pop()
        if kind.reason == name and kind is not BursarError:
            return kind.retry_after_ms
        waiting += kind.__subclasses__()
    raise KeyError(f"no class has the reason {name}")
