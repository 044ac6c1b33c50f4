"""URLs of Redis: what each form means, and that a refused one is told without any part of it."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from bursar.engine.redis_address import (
    HOSTS_MAX,
    AddressInvalid,
    Kind,
    RedisAddress,
    Tls,
    address_fault,
    parse_address,
)
from bursar.service.settings import Settings

CANARY = "c4n4ry"


def one(host: str = "h", port: int = 6379, **given: object) -> RedisAddress:
    return RedisAddress(Kind.ONE, ((host, port),), **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "url,expected",
    [
        ("redis://h", one()),
        ("redis://h/", one()),
        ("redis://h:7000/3", one(port=7000, database=3)),
        ("redis://h?db=4", one(database=4)),
        ("redis://[::1]:7000", one("::1", 7000)),
        ("redis://:pw@h", one(password="pw")),  # noqa: S106
        ("redis://us:p%40%2F%3A@h", one(username="us", password="p@/:")),  # noqa: S106
        ("rediss://h", one(tls=Tls())),
        (
            "rediss://h?ssl_ca_certs=%2Fca.pem&ssl_certfile=/c.pem&ssl_keyfile=/k.pem&ssl_password=s",
            one(
                tls=Tls(
                    ca_file="/ca.pem",
                    certificate_file="/c.pem",
                    key_file="/k.pem",
                    key_password="s",  # noqa: S106
                )
            ),
        ),
        (
            "rediss://h?ssl_check_hostname=false&ssl_ca_path=/ca",
            one(tls=Tls(ca_folder="/ca", check_hostname=False)),
        ),
        ("rediss://h?ssl_cert_reqs=none", one(tls=Tls(verify=ssl.CERT_NONE))),
        ("unix:///run/a.sock", RedisAddress(Kind.ONE, path="/run/a.sock")),
        (
            "unix://u:p@/run/a%20b?db=2",
            RedisAddress(
                Kind.ONE,
                path="/run/a b",
                database=2,
                username="u",
                password="p",  # noqa: S106
            ),
        ),
        ("redis+cluster://a", RedisAddress(Kind.CLUSTER, (("a", 6379),))),
        ("redis+cluster://a:1,b:2/0", RedisAddress(Kind.CLUSTER, (("a", 1), ("b", 2)))),
        (
            "rediss+cluster://u:p@a,[::2]:7",
            RedisAddress(
                Kind.CLUSTER,
                (("a", 6379), ("::2", 7)),
                username="u",
                password="p",  # noqa: S106
                tls=Tls(),
            ),
        ),
        (
            "redis+sentinel://a,b:2/main",
            RedisAddress(Kind.SENTINEL, (("a", 26379), ("b", 2)), master="main"),
        ),
        (
            "rediss+sentinel://u:p@a/main/3?sentinel_username=v&sentinel_password=q",
            RedisAddress(
                Kind.SENTINEL,
                (("a", 26379),),
                database=3,
                username="u",
                password="p",  # noqa: S106
                master="main",
                sentinel_username="v",
                sentinel_password="q",  # noqa: S106
                tls=Tls(),
            ),
        ),
    ],
)
def test_forms(url: str, expected: RedisAddress) -> None:
    """Goal: each documented form means what it says. Method: a table."""
    assert parse_address(url) == expected
    assert address_fault("redis://h") is None


@pytest.mark.parametrize(
    "url,words",
    [
        (CANARY, "must start with"),
        (f"{CANARY}://h", "must start with"),
        (f"valkey+{CANARY}://h", "must start with"),
        ("redis://", "a host"),
        (f"redis://:{CANARY}@", "a host"),
        (f"redis://:{CANARY}@h:port", "a host or a port"),
        (f"redis://:{CANARY}@h:70000", "a host or a port"),
        (f"redis://:{CANARY}@h:0", "a host or a port"),
        (f"redis://:{CANARY}@h,", "a host or a port"),
        (f"redis://:{CANARY}@[::1", "valid"),
        (f"redis://:a@{CANARY}@h", "%40"),
        (f"redis://:a/{CANARY}@h", "port"),
        (f"redis://:a?{CANARY}@h", "%3F"),
        (f"redis://:a#{CANARY}@h", "%23"),
        (f"redis://h/{CANARY}", "number"),
        ("redis://h/1/2", "one database"),
        ("redis://h/1?db=2", "one database"),
        (f"redis://h?{CANARY}=1", "options other than db"),
        (f"redis://h?ssl_ca_certs={CANARY}", "options other than db"),
        ("redis://a,b", "several servers"),
        (f"rediss://h?ssl_cert_reqs={CANARY}", "ssl_cert_reqs"),
        (f"rediss://h?ssl_check_hostname={CANARY}", "ssl_check_hostname"),
        ("unix://", "path"),
        (f"unix://{CANARY}", "path"),
        (f"unix://{CANARY}/run/a", "path"),
        ("redis+cluster://a/1", "one database only"),
        (f"redis+cluster://a?{CANARY}=1", "takes none"),
        ("redis+sentinel://a", "/MASTER"),
        ("redis+sentinel://a/m/x", "number"),
        ("redis+sentinel://a/m/1/2", "/MASTER"),
        ("redis+cluster://" + ",".join(["a"] * (HOSTS_MAX + 1)), str(HOSTS_MAX)),
        (f"rediss://h?ssl_ca_certs=/no/{CANARY}", "cannot be read"),
        (f"rediss://h?ssl_certfile=/no/{CANARY}", "certificate with its key"),
    ],
)
def test_faults(url: str, words: str) -> None:
    """Goal: what is wrong is named, and nothing of the URL is told. Method: a table."""
    fault = address_fault(url)
    assert fault is not None
    assert words in fault
    assert CANARY not in fault


def test_a_file_that_is_no_certificate(tmp_path: Path) -> None:
    """Goal: a wrong file is found at the start, not when it is used. Method: an empty one."""
    wrong = tmp_path / "ca.pem"
    wrong.write_text("no certificate")
    fault = address_fault(f"rediss://h?ssl_ca_certs={wrong}")
    assert fault is not None
    assert str(wrong) not in fault


def test_secrets_do_not_print() -> None:
    """Goal: an address in a log has no password. Method: print one with all of them."""
    address = parse_address(
        f"rediss+sentinel://u:{CANARY}@a/m?sentinel_password={CANARY}&ssl_password={CANARY}"
    )
    assert CANARY not in repr(address)
    with pytest.raises(AddressInvalid):
        parse_address("")


def test_settings_name_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Goal: a bad URL ends the start with the variable's name. Method: settings from it."""
    monkeypatch.setenv("BURSAR_REDIS_URL", f"redis+sentinel://:{CANARY}@a")
    with pytest.raises(ValueError, match="MASTER") as caught:
        Settings()
    assert "redis_url" in str(caught.value)
    assert CANARY not in str(caught.value)
