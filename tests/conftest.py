"""Fixtures for every tier: one Redis for the whole run, a namespace of its own for each test."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator

import pytest

from bursar.embedded.redis_process import EmbeddedRedis


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a Redis: that of BURSAR_TEST_REDIS_URL, else a private one for this run."""
    given = os.environ.get("BURSAR_TEST_REDIS_URL")
    if given:
        yield given
        return
    with EmbeddedRedis(tmp_path_factory.mktemp("redis")) as redis:
        yield redis.url


@pytest.fixture
def key_namespace() -> str:
    """A namespace that no other test uses, so that all can share one Redis."""
    return "t" + secrets.token_hex(4)
