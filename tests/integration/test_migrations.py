"""The schema: brought up to date by whoever comes first, and refused where it does not fit.

Method: real databases, and dbmate as users run it.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest

from bursar.domain.errors import MigrationFailed, SchemaUnknown
from bursar.ledger import schema
from bursar.ledger.schema import MIGRATIONS, check_schema, find_dbmate, migrate, status, versions
from databases import drop_database, execute, fetch, new_database, url_of

FIRST = "0001_ledger.sql"
SHAPE = """
    SELECT table_name, column_name, data_type, is_nullable, column_default
    FROM information_schema.columns WHERE table_schema = 'public'
    ORDER BY table_name, column_name
"""
INDEXES = "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1"


@pytest.fixture
def empty_url(postgres_url: str) -> Iterator[str]:
    """The URL of a database without a schema."""
    url = new_database(postgres_url, migrated=False)
    yield url
    drop_database(postgres_url, url)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of migrations as a release has it: one before, and one that takes away."""
    (tmp_path / "post").mkdir()
    write(
        tmp_path / "0001_first.sql",
        "CREATE TABLE installation (oldest_schema text);"
        "INSERT INTO installation VALUES ('0001'); CREATE TABLE old (x int);",
        "DROP TABLE installation, old;",
    )
    write(tmp_path / "0002_second.sql", "CREATE TABLE new (x int);", "DROP TABLE new;")
    write(
        tmp_path / "post" / "0003_no_old.sql",
        "DROP TABLE old;UPDATE installation SET oldest_schema = '0002';",
        "CREATE TABLE old (x int);",
    )
    return tmp_path


def write(file: Path, up: str, down: str = "") -> None:
    file.write_text(f"-- migrate:up\n{up}\n-- migrate:down\n{down}\n", encoding="utf-8")


def shape(url: str) -> list[tuple[object, ...]]:
    return [tuple(row) for query in (SHAPE, INDEXES) for row in fetch(url, query)]


def dbmate(url: str, *arguments: str) -> None:
    command = [str(find_dbmate()), "--url", url, "--no-dump-schema"]
    subprocess.run([*command, "-d", str(MIGRATIONS), *arguments], check=True, capture_output=True)


async def check(url: str, migrations: Path = MIGRATIONS) -> None:
    connection = await asyncpg.connect(url)
    try:
        await check_schema(connection, migrations=migrations)
    finally:
        await connection.close()


async def status_of(url: str, migrations: Path = MIGRATIONS) -> schema.SchemaStatus:
    connection = await asyncpg.connect(url)
    try:
        return await status(connection, migrations=migrations)
    finally:
        await connection.close()


async def test_a_fresh_database_gets_the_schema_once(empty_url: str) -> None:
    with pytest.raises(SchemaUnknown, match="no schema yet: run `bursar migrate`"):
        await check(empty_url)
    assert migrate(empty_url) == list(versions(MIGRATIONS).values())
    await check(empty_url)
    assert migrate(empty_url) == []
    assert migrate(empty_url, stage="post") == list(versions(MIGRATIONS / "post").values())
    await check(empty_url)


def test_several_at_once_apply_each_migration_once(empty_url: str) -> None:
    """Goal: servers that start together on a new database all start."""
    together = threading.Barrier(4)

    def run(_: int) -> list[str]:
        together.wait(timeout=10)
        return migrate(empty_url)

    with ThreadPoolExecutor(max_workers=4) as threads:
        applied = [name for names in threads.map(run, range(4)) for name in names]
    assert sorted(applied) == list(versions(MIGRATIONS).values())
    assert len(fetch(empty_url, "SELECT * FROM installation")) == 1


def test_down_takes_back_all_that_up_made(empty_url: str) -> None:
    before = shape(empty_url)
    migrate(empty_url)
    made = shape(empty_url)
    for _ in versions(MIGRATIONS):
        dbmate(empty_url, "rollback")
    left = [row for row in shape(empty_url) if "schema_migrations" not in str(row)]
    assert left == before
    migrate(empty_url)
    assert shape(empty_url) == made


async def test_pre_leaves_what_older_releases_use_and_post_takes_it(
    empty_url: str, folder: Path
) -> None:
    assert migrate(empty_url, migrations=folder) == ["0001_first.sql", "0002_second.sql"]
    assert fetch(empty_url, "SELECT * FROM old") == []
    found = await status_of(empty_url, folder)
    assert found.pending_post == ("0003_no_old.sql",)
    assert (found.oldest_schema, found.newest_known) == ("0001", "0002")
    assert migrate(empty_url, stage="post", migrations=folder) == ["0003_no_old.sql"]
    with pytest.raises(asyncpg.UndefinedTableError):
        fetch(empty_url, "SELECT * FROM old")
    found = await status_of(empty_url, folder)
    assert (found.pending_pre, found.pending_post, found.oldest_schema) == ((), (), "0002")
    await check(empty_url, folder)


async def test_post_brings_pre_with_it(empty_url: str, folder: Path) -> None:
    applied = migrate(empty_url, stage="post", migrations=folder)
    assert applied == ["0001_first.sql", "0002_second.sql", "0003_no_old.sql"]


async def test_an_older_release_works_until_the_database_wants_a_newer_one(
    empty_url: str, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    older = tmp_path_factory.mktemp("older")
    (older / "0001_first.sql").write_bytes((folder / "0001_first.sql").read_bytes())
    migrate(empty_url, migrations=folder)
    await check(empty_url, older)
    migrate(empty_url, stage="post", migrations=folder)
    with pytest.raises(
        SchemaUnknown,
        match="this release is older than the database wants: it knows the schema up to 0001, "
        "and the database needs 0002: install a newer release",
    ):
        await check(empty_url, older)


async def test_a_newer_release_names_what_is_missing_and_the_command(
    database_url: str, folder: Path
) -> None:
    (folder / FIRST).write_bytes((MIGRATIONS / FIRST).read_bytes())
    (folder / "0001_first.sql").unlink()
    with pytest.raises(
        SchemaUnknown, match=r"older than this release, without 0002_second\.sql: run `bursar"
    ):
        await check(database_url, folder)


def test_a_statement_that_fails_changes_nothing_and_is_named(empty_url: str, folder: Path) -> None:
    write(folder / "0002_second.sql", "CREATE TABLE new (x int); CREATE TABLE old (y int);")
    with pytest.raises(MigrationFailed, match=r"at 0002_second\.sql: .*\"old\" already exists"):
        migrate(empty_url, migrations=folder)
    assert fetch(empty_url, "SELECT to_regclass('new') IS NULL AS gone")[0]["gone"]
    assert fetch(empty_url, "SELECT version FROM schema_migrations")[0]["version"] == "0001"
    write(folder / "0002_second.sql", "CREATE TABLE new (x int);")
    assert migrate(empty_url, migrations=folder) == ["0002_second.sql"]


def test_what_fails_is_said_without_the_password() -> None:
    """Method: an escape that dbmate cannot read makes it print the whole URL."""
    with pytest.raises(MigrationFailed, match=r"could not be migrated: .*bursar:\*+@127") as caught:
        migrate("postgresql://bursar:s3cr%zzt@127.0.0.1:1/bursar")
    assert "s3cr" not in str(caught.value)


def test_a_lock_that_nobody_lets_go_ends_the_wait(
    empty_url: str, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    monkeypatch.setattr(schema, "MIGRATE_TIMEOUT_S", 1.0)
    write(folder / "0002_second.sql", "SELECT pg_sleep(60);")
    with pytest.raises(MigrationFailed, match="did not end within 1 s"):
        migrate(empty_url, migrations=folder)


def test_variables_for_dbmate_itself_do_not_matter(
    empty_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("DBMATE_MIGRATIONS_TABLE=elsewhere\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DBMATE_MIGRATIONS_TABLE", "elsewhere")
    monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1:1/other")
    migrate(empty_url)
    assert fetch(empty_url, "SELECT version FROM schema_migrations") != []
    assert list(tmp_path.iterdir()) == [tmp_path / ".env"]


@asynccontextmanager
async def over_tcp(url: str) -> AsyncIterator[str]:
    """Let a PostgreSQL that has a Unix socket be reached on a loopback port."""
    parts = urlsplit(url)
    path = f"{parse_qs(parts.query)['host'][0]}/.s.PGSQL.5432"

    async def hand_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_reader, to_writer = await asyncio.open_unix_connection(path)
        await asyncio.gather(hand_on(reader, to_writer), hand_on(to_reader, writer))

    async with await asyncio.start_server(join, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        yield f"postgresql://bursar@127.0.0.1:{port}{parts.path}"


async def test_a_database_without_tls_is_migrated_over_tcp(
    empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Goal: a URL that servers can use is good for migrations too."""
    if os.environ.get("BURSAR_TEST_DATABASE_URL"):
        pytest.skip("the PostgreSQL of this run is not a private one, and may have TLS")
    monkeypatch.delenv("PGSSLMODE", raising=False)
    async with over_tcp(empty_url) as url:
        assert await asyncio.to_thread(migrate, url) == list(versions(MIGRATIONS).values())
        await check(url)


def bursar(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "BURSAR_DATABASE_URL"} | variables
    return subprocess.run(
        [sys.executable, "-m", "bursar.cli.main", *arguments],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        timeout=60,
    )


def test_the_command_says_what_it_applied(empty_url: str) -> None:
    before = bursar("migrate", "--status", "--database-url", empty_url)
    assert before.returncode == 1
    assert f"pending {FIRST}" in before.stdout
    assert "unusable: the database has no schema yet: run `bursar migrate`" in before.stdout
    done = bursar("migrate", BURSAR_DATABASE_URL=empty_url)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"applied {FIRST}" in done.stdout
    again = bursar("migrate", "--post", BURSAR_DATABASE_URL=empty_url)
    assert (again.returncode, again.stdout) == (0, "the schema is up to date\n")
    after = bursar("migrate", "--status", BURSAR_DATABASE_URL=empty_url)
    assert after.returncode == 0
    assert after.stdout.endswith("usable by this release\n")


def test_the_command_prints_json(empty_url: str) -> None:
    before = bursar("migrate", "--status", "--json", "--database-url", empty_url)
    assert before.returncode == 1
    answer = json.loads(before.stdout)
    assert (answer["usable"], answer["applied"], answer["pending"]) == (False, [], [FIRST])
    done = bursar("migrate", "--json", "--database-url", empty_url)
    assert json.loads(done.stdout) == {"applied": [FIRST]}
    execute(empty_url, "UPDATE installation SET oldest_schema = '9999'")
    after = bursar("migrate", "--status", "--json", "--database-url", empty_url)
    assert after.returncode == 1
    assert "this release is older than the database wants" in json.loads(after.stdout)["why_not"]


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        ((), 2, "no database: give --database-url or BURSAR_DATABASE_URL"),
        (("--database-url", "redis://h/0"), 2, "must start with one of postgresql://"),
        (("--database-url", "postgresql://u:s3cr3t@[h/d"), 2, "is no valid URL"),
        (("--database-url", "postgresql://u:s3cr3t@h"), 2, "names no database"),
        (("--database-url", "postgresql://u:s3cr3t@127.0.0.1:1/d"), 1, "connection refused"),
        (("--status", "--database-url", "postgresql://u:s3cr3t@127.0.0.1:1/d"), 1, "reached"),
    ],
)
def test_the_command_says_what_is_wrong(arguments: tuple[str, ...], code: int, text: str) -> None:
    done = bursar("migrate", *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert text in done.stderr
    assert "s3cr3t" not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_database_that_is_not_there_is_not_made(postgres_url: str) -> None:
    done = bursar("migrate", "--database-url", url_of(postgres_url, "nobody_made_it"))
    assert done.returncode == 1
    assert 'database "nobody_made_it" does not exist' in done.stderr


def test_every_migration_has_a_number_of_its_own_and_a_way_back() -> None:
    files = [*MIGRATIONS.glob("*.sql"), *MIGRATIONS.glob("post/*.sql")]
    numbers = [file.name.partition("_")[0] for file in files]
    assert sorted(set(numbers)) == sorted(numbers)
    for file in files:
        assert file.name[:4].isdecimal() and file.name[4] == "_", file
        text = file.read_text(encoding="utf-8")
        assert "-- migrate:up" in text, file
        assert text.partition("-- migrate:down")[2].strip(), file
