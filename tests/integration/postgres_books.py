"""What the tests of the private PostgreSQL write into it and read from it."""

from __future__ import annotations

from bursar.embedded.postgres_process import EmbeddedPostgres
from databases import execute, fetch


def book(url: str, amount: int = 42) -> None:
    execute(url, "CREATE TABLE IF NOT EXISTS spent (amount int)")
    fetch(url, "INSERT INTO spent VALUES ($1)", amount)


def booked(url: str) -> list[int]:
    return [row["amount"] for row in fetch(url, "SELECT amount FROM spent ORDER BY amount")]


def postgres_pid(postgres: EmbeddedPostgres) -> int:
    assert postgres.pid is not None
    return postgres.pid
