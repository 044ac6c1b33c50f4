"""Options of the chaos suite."""

from __future__ import annotations

import os
import random

import pytest

SEED_VARIABLE = "BURSAR_TEST_CHAOS_SEED"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--short",
        action="store_true",
        default=False,
        help="a part of the chaos suite, within four minutes",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is not in the short form."""
    if config.getoption("--short", default=False):
        skip = pytest.mark.skip(reason="not in the short form")
        for item in items:
            if item.get_closest_marker("chaos") and not item.get_closest_marker("chaos_short"):
                item.add_marker(skip)


@pytest.fixture
def seed() -> int:
    """The seed of a run: that of BURSAR_TEST_CHAOS_SEED, else a new one; always printed."""
    given = os.environ.get(SEED_VARIABLE)
    chosen = int(given) if given else random.SystemRandom().randrange(2**32)
    print(f"{SEED_VARIABLE}={chosen}")
    return chosen
