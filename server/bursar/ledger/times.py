"""Instants between milliseconds since the epoch and what PostgreSQL takes, exactly."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_MICROSECOND = timedelta(microseconds=1)


def to_time(ms: int) -> datetime:
    """Return an instant as PostgreSQL takes it."""
    return _EPOCH + timedelta(milliseconds=ms)


def to_ms(time: datetime) -> int:
    """Return an instant in milliseconds, rounded down."""
    return (time - _EPOCH) // _MILLISECOND


def to_us(time: datetime) -> int:
    """Return an instant in microseconds: all that PostgreSQL keeps."""
    return (time - _EPOCH) // _MICROSECOND


def from_us(us: int) -> datetime:
    """Return what `to_us` was given."""
    return _EPOCH + timedelta(microseconds=us)
