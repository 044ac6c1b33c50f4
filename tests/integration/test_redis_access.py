"""Who may use a Redis and how: users with few rights, passwords, TLS, sockets, databases."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from engine_calls import MODELS, ask, commit, granted, refused
from engine_world import MINUTE, open_world
from ledger_world import lose_all, open_ledger_world, spend
from test_script_calls import DOCUMENTS, everything_that_can_happen

from bursar.domain.errors import InternalError, StoreUnavailable
from bursar.engine.store import Store
from engine_redis import OwnRedis, own_redis
from redis_cluster import RedisCluster, redis_cluster
from redis_programs import REDIS_PROGRAMS
from shards import look_at_new_runs

ROOT = Path(__file__).parents[2]
PASSWORD = "p4ss/w:rd"  # noqa: S105
IN_URL = "p4ss%2Fw%3Ard"
POLICY = f"""
org: acme
budgets:
  - {{name: day, limit: {{tokens: 10000}}, window: day}}
{MODELS}
"""


def rights(key_namespace: str = "b") -> list[str]:
    """Return the words of the rule that the documentation gives, for a namespace of a test."""
    text = (ROOT / "docs" / "operate" / "redis.md").read_text(encoding="utf-8")
    [rule] = re.findall(r"^ACL SETUSER bursar .*$", text, re.MULTILINE)
    return rule.replace("PASSWORD", PASSWORD).replace("~{b", f"~{{{key_namespace}").split()


def as_user(url: str) -> str:
    return url.replace("://", f"://bursar:{IN_URL}@")


@pytest.mark.parametrize("program", REDIS_PROGRAMS)
async def test_the_documented_rights_are_enough(
    program: Path, database_url: str, key_namespace: str, tmp_path: Path
) -> None:
    """Goal: a user with the rights that the documentation lists can do all that a server does.

    Method: every verb in every way, a rebuild after a loss, and a comparison, as that user. It can
    do nothing else; with one right less, the same fails and says why.
    """
    with own_redis(tmp_path, executable=program) as own:
        with own.client() as client:
            client.execute_command(*rights(key_namespace))
        url = as_user(own.url)
        async with open_world(own.url, key_namespace, *DOCUMENTS, shards=4) as world:
            world.servers.clear()
            await world.server(url=url)
            await everything_that_can_happen(world)
        async with open_ledger_world(own.url, database_url, key_namespace, POLICY) as ledgers:
            server = await ledgers.server(redis_url=url)
            ledgers.servers.remove(server)
            ledgers.servers.insert(0, server)
            await spend(ledgers, 3)
            await lose_all(ledgers)
            await ledgers.until_warm()
            await ledgers.record_all()
            report = await server.ledger.verifier(0, org="", deep=True, repair=True)
            assert not report.differences
            [facts] = await server.store.facts()
            is_valkey = program.name == "valkey-server"
            assert facts.name == ("Valkey" if is_valkey else "Redis")
            assert facts.problems() == []
            assert [reply for reply, _ in await server.store.run_all([], 1)] == []
        assert_forbidden(own)
        await assert_one_less_is_said(own, url, key_namespace)


def assert_forbidden(own: OwnRedis) -> None:
    """Check that the user can do nothing that a server does not need."""
    with own.client() as client:
        client.set("other", "secret")
        client.execute_command("AUTH", "bursar", PASSWORD)
        for command in (
            ("FLUSHALL",),
            ("KEYS", "*"),
            ("CONFIG", "SET", "maxmemory", "1"),
            ("GET", "other"),
            ("SET", "other", "x"),
            ("EVAL", "return redis.call('GET', KEYS[1])", "1", "other"),
            ("SCRIPT", "FLUSH"),
            ("ACL", "LIST"),
            ("SHUTDOWN",),
        ):
            with pytest.raises(Exception, match=r"(?i)no permission|NOPERM|can't access"):
                client.execute_command(*command)


async def assert_one_less_is_said(own: OwnRedis, url: str, key_namespace: str) -> None:
    with own.client() as client:
        client.execute_command("ACL", "SETUSER", "bursar", "-xadd")
    async with open_world(own.url, key_namespace, POLICY) as world:
        server = await world.server(url=url)
        world.lossy = True
        error = await refused(server.authority, ask("a", input_tokens=9))
        assert isinstance(error, InternalError)
        assert "forbids" in error.message


async def test_the_rights_on_a_cluster(
    tmp_path_factory: pytest.TempPathFactory, key_namespace: str
) -> None:
    """Goal: the same rights are enough on a cluster, also while a slot moves.

    Method: the user on every server of a cluster; reserve and settle before, during and after.
    """
    with redis_cluster(tmp_path_factory.mktemp("acl")) as cluster:
        for each in cluster.servers:
            cluster.ask(each, *rights(key_namespace))
        async with open_world(cluster.url, key_namespace, POLICY) as world:
            server = await world.server(url=as_user(cluster.url))
            one = await granted(server.authority, ask("a", input_tokens=9))
            await _moved(cluster, world.keys.meta(0))
            await look_at_new_runs(server.engine)
            await server.authority.settle(commit(one, input_tokens=9))
            world.clock.at_ms += MINUTE
            await server.authority.sweep(10)
            assert await server.store.time_ms() > 0


async def _moved(cluster: RedisCluster, key: str) -> None:
    target = next(each for each in cluster.primaries() if each is not cluster.owner(key))
    for _ in cluster.move(key, target, page=100):
        pass


@pytest.mark.parametrize("user", ["", "bursar"])
async def test_a_wrong_password_is_unavailable(tmp_path: Path, user: str) -> None:
    """Goal: a password that Redis refuses is told without it. Method: none, a wrong one, the right.

    The default user has the password, or an ACL user.
    """
    with own_redis(tmp_path) as own:
        with own.client() as client:
            if user:
                client.execute_command(*rights())
                client.execute_command("ACL", "SETUSER", "default", "off")
            else:
                client.config_set("requirepass", PASSWORD)
        for login, is_right in (
            ("", False),
            (f"{user}:wr0ng@", False),
            (f"{user}:{IN_URL}@", True),
        ):
            store = Store(own.url.replace("://", f"://{login}"))
            if is_right:
                assert await store.time_ms() > 0
            else:
                with pytest.raises(StoreUnavailable) as caught:
                    await store.time_ms()
                assert "wr0ng" not in caught.value.message
            await store.close()


async def test_sockets_and_databases(tmp_path: Path) -> None:
    """Goal: the URL's database and socket are used. Method: the same key in two databases."""
    socket = tmp_path / "r.sock"
    with own_redis(tmp_path, "--unixsocket", str(socket)) as own:
        for database, url in ((1, f"unix://{socket}?db=1"), (2, f"{own.url}/2")):
            store = Store(url)
            await store.add_member("{b00}:r", f"in {database}")
            assert await store.members("{b00}:r") == {f"in {database}".encode()}
            await store.close()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a CA, and certificates of it for localhost and for a client."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("there is no openssl to make certificates with")
    folder = tmp_path_factory.mktemp("certificates")
    new = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    for name, more in (
        ("ca", ["-nodes", "-addext", "keyUsage=critical,keyCertSign"]),
        ("localhost", ["-nodes", "-addext", "subjectAltName=DNS:localhost", *_signed(folder)]),
        ("client", ["-passout", "pass:k3y", *_signed(folder)]),
    ):
        files = ["-keyout", str(folder / f"{name}.key"), "-out", str(folder / f"{name}.pem")]
        command = [openssl, *new, "-days", "2", "-subj", f"/CN={name}", *files, *more]
        subprocess.run(command, check=True, capture_output=True)
    return folder


def _signed(folder: Path) -> list[str]:
    plain = ["-addext", "basicConstraints=critical,CA:FALSE"]
    return ["-CA", str(folder / "ca.pem"), "-CAkey", str(folder / "ca.key"), *plain]


@asynccontextmanager
async def tls_before(own: OwnRedis, folder: Path) -> AsyncIterator[int]:
    """Take TLS off connections to a Redis, of clients that show a certificate."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(folder / "ca.pem"))
    context.load_cert_chain(folder / "localhost.pem", folder / "localhost.key")
    context.verify_mode = ssl.CERT_REQUIRED

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", own.port)
        await asyncio.gather(carry(reader, back), carry(there, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_tls(certificates: Path, tmp_path: Path, key_namespace: str) -> None:
    """Goal: both sides prove who they are, and a server that does not is not spoken to.

    Method: a Redis behind TLS with a certificate for localhost; with and without its CA, by another
    name, with and without a certificate of our own.
    """
    ours = f"ssl_certfile={certificates}/client.pem&ssl_keyfile={certificates}/client.key"
    ours += "&ssl_password=k3y"
    ca = f"ssl_ca_certs={certificates}/ca.pem"
    with own_redis(tmp_path) as own:
        async with tls_before(own, certificates) as port:
            good = f"rediss://localhost:{port}/0?{ca}&{ours}"
            async with open_world(own.url, key_namespace, POLICY) as world:
                server = await world.server(url=good)
                await granted(server.authority, ask("a", input_tokens=9))
            by_address = good.replace("localhost", "127.0.0.1")
            for url, serves in (
                (by_address, False),
                (f"{by_address}&ssl_check_hostname=false", True),
                (f"rediss://localhost:{port}/0?{ours}", False),
                (f"rediss://127.0.0.1:{port}/0?{ours}&ssl_cert_reqs=none", True),
                (f"rediss://localhost:{port}/0?{ca}", False),
                (f"redis://localhost:{port}/0", False),
            ):
                store = Store(url, timeout_ms=2_000)
                if serves:
                    assert await store.time_ms() > 0
                else:
                    with pytest.raises(StoreUnavailable):
                        await store.time_ms()
                await store.close()
