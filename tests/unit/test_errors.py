"""Errors: what they say and carry; the service's tests show how they travel.

Goal: an error names what is wrong and every varying part of its message. Method: one of each form.
"""

from __future__ import annotations

import inspect

import pytest

from bursar.domain import errors
from bursar.domain.errors import (
    BursarError,
    Fault,
    FieldInvalid,
    LimitExceeded,
    PolicyInvalid,
    ReservationNotFound,
    StoreUnavailable,
)

CLASSES = [
    each for _, each in inspect.getmembers(errors, inspect.isclass) if issubclass(each, BursarError)
]


def test_parts_of_the_message_are_metadata() -> None:
    """Goal: nobody needs to parse a message. Method: a text and a number."""
    error = ReservationNotFound("there is no x", reservationId="x", settleTimeMs=5)
    assert str(error) == error.message == "there is no x"
    assert error.metadata == {"reservationId": "x", "settleTimeMs": "5"}
    assert error.retry_after_ms is None
    assert StoreUnavailable("away").retry_after_ms == 200


def test_faults_are_listed() -> None:
    """Goal: every fault is in the message and apart. Method: two fields, a list, a policy."""
    faults = (Fault("a.b", "is wrong"), Fault("c", "too"))
    assert str(FieldInvalid(*faults)) == "a.b: is wrong; c: too"
    assert FieldInvalid(*faults).faults == faults
    too_long = LimitExceeded("labels", "entries", 33, 32)
    assert too_long.faults == (Fault("labels", "has 33 entries, more than 32"),)
    assert too_long.metadata == {"given": "33", "limit": "32"}
    invalid = PolicyInvalid("acme.yaml", faults)
    assert str(invalid) == "the policy in acme.yaml is refused:\n  a.b: is wrong\n  c: too"
    assert (invalid.source, invalid.faults) == ("acme.yaml", faults)


@pytest.mark.parametrize("error", CLASSES)
def test_every_error_has_a_reason_and_is_in_the_tree(error: type[BursarError]) -> None:
    """Goal: the tree in the module's docstring is complete. Method: every class of the module."""
    assert error.reason.isupper()
    assert errors.__doc__ is not None
    assert error.__name__ in errors.__doc__
