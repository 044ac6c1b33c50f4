"""How long a worker that ends again and again is not started again."""

from __future__ import annotations

from itertools import pairwise

from bursar.service.workers import BACKOFF_MAX_S, BACKOFF_MIN_S, backoff_s


def test_a_healthy_worker_is_started_again_at_once() -> None:
    assert backoff_s(0) == 0


def test_it_doubles_up_to_a_bound() -> None:
    """Goal: neither a storm of starts nor a wait without end. Method: more than ever happen."""
    waits = [backoff_s(failures) for failures in range(1, 5_000)]
    assert waits[0] == BACKOFF_MIN_S
    assert waits[-1] == BACKOFF_MAX_S
    assert all(later in (2 * wait, BACKOFF_MAX_S) for wait, later in pairwise(waits))
