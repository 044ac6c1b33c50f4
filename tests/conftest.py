"""Fixtures for every tier: one Redis and one PostgreSQL for the whole run.

Each test has a namespace of its own in the one and a database of its own in the other.
"""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import Iterator

import pytest

from bursar.embedded.postgres_process import EmbeddedPostgres
from bursar.embedded.redis_process import EmbeddedRedis
from databases import drop_database, new_database, template
from postgres_data import make_postgres_data
from redis_cluster import redis_cluster


def pytest_configure() -> None:
    """Let Ctrl-C reach the processes that tests start, also where a shell runs us in background.

    Such a shell has its background commands ignore SIGINT, and what they start inherits that.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a PostgreSQL: that of BURSAR_TEST_DATABASE_URL, else a private one for this run.

    Its user may create databases; the database that it names stays empty.
    """
    given = os.environ.get("BURSAR_TEST_DATABASE_URL")
    if given:
        with template(given):
            yield given
        return
    # Nothing of a test has to outlive a power failure.
    settings = {"fsync": "off", "full_page_writes": "off", "max_connections": "300"}
    folder = make_postgres_data(tmp_path_factory.mktemp("postgres"))
    with EmbeddedPostgres(folder, settings=settings) as postgres, template(postgres.url):
        yield postgres.url


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory, postgres_url: str) -> Iterator[str]:
    """The URL of a Redis: that of BURSAR_TEST_REDIS_URL, else a private one for this run.

    There is a PostgreSQL then as well, for `databases.own_database`: no server runs without one.
    """
    given = os.environ.get("BURSAR_TEST_REDIS_URL")
    if given:
        yield given
        return
    with EmbeddedRedis(tmp_path_factory.mktemp("redis")) as redis:
        yield redis.url


@pytest.fixture(scope="session")
def cluster_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a private Redis Cluster for this run; tests that harm one have their own."""
    with redis_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster.url


@pytest.fixture
def key_namespace() -> str:
    """A namespace that no other test uses, so that all can share one Redis."""
    return "t" + secrets.token_hex(4)


@pytest.fixture
def database_url(postgres_url: str) -> Iterator[str]:
    """The URL of a database that no other test uses, with the schema of this release."""
    url = new_database(postgres_url)
    yield url
    drop_database(postgres_url, url)
