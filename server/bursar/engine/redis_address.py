"""Where Redis is, as a URL says it. Nothing that this says of a URL has any part of it.

redis://user:password@host:6379/0                      one server
rediss://user:password@host:6380/0?ssl_ca_certs=/ca    one server, TLS
unix:///run/redis/redis.sock?db=0                      one server on this machine
redis+cluster://user:password@host:6379,host2:6379     a cluster; rediss+cluster with TLS
redis+sentinel://user:password@host:26379,host2:26379/mymaster/0
who is master now; rediss+sentinel
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from urllib.parse import parse_qsl, unquote, urlsplit

PORT = 6379
SENTINEL_PORT = 26379
HOSTS_MAX = 64


class Kind(Enum):
    """What answers at the address."""

    ONE = "one"
    CLUSTER = "cluster"
    SENTINEL = "sentinel"


SCHEMES: Mapping[str, tuple[Kind, bool]] = {
    "redis": (Kind.ONE, False),
    "rediss": (Kind.ONE, True),
    "unix": (Kind.ONE, False),
    "redis+cluster": (Kind.CLUSTER, False),
    "rediss+cluster": (Kind.CLUSTER, True),
    "redis+sentinel": (Kind.SENTINEL, False),
    "rediss+sentinel": (Kind.SENTINEL, True),
}

TLS_OPTIONS = (
    "ssl_ca_certs",
    "ssl_ca_path",
    "ssl_certfile",
    "ssl_keyfile",
    "ssl_password",
    "ssl_cert_reqs",
    "ssl_check_hostname",
)
SENTINEL_OPTIONS = ("sentinel_username", "sentinel_password")

_USERINFO = re.compile(r"(?:(?P<user>[^:@]*)(?::(?P<password>[^@]*))?@)?(?P<hosts>[^@]*)")
_ESCAPES = "in a user or a password write @ : / ? # as %40 %3A %2F %3F %23"
_TRUE, _FALSE = ("1", "true", "yes"), ("0", "false", "no")
_VERIFY = {
    "required": ssl.CERT_REQUIRED,
    "optional": ssl.CERT_OPTIONAL,
    "none": ssl.CERT_NONE,
}


class AddressInvalid(ValueError):
    """A URL that names no Redis; says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Tls:
    """How to check a server and to say who we are.

    Attributes:
        ca_file: Certificates to trust; empty: those of the system, if there is no folder either.
        ca_folder: The same, as a folder.
        certificate_file: Our own, or empty.
        key_file: Of our own, or empty where the certificate's file has it.
        key_password: Of the key, or empty.
        verify: Whether the server must prove who it is.
        check_hostname: Whether its certificate must be of the host that we connect to.
    """

    ca_file: str = ""
    ca_folder: str = ""
    certificate_file: str = ""
    key_file: str = ""
    key_password: str = field(default="", repr=False)
    verify: ssl.VerifyMode = ssl.CERT_REQUIRED
    check_hostname: bool = True

    def context(self) -> ssl.SSLContext:
        """Return what connections are opened with.

        Raises:
            AddressInvalid: A file cannot be used.
        """
        context = ssl.create_default_context()
        context.check_hostname = self.check_hostname and self.verify is not ssl.CERT_NONE
        context.verify_mode = self.verify
        try:
            if self.ca_file or self.ca_folder:
                context.load_verify_locations(self.ca_file or None, self.ca_folder or None)
        except OSError:
            raise AddressInvalid(
                "ssl_ca_certs or ssl_ca_path cannot be read as certificates"
            ) from None
        try:
            if self.certificate_file:
                context.load_cert_chain(
                    self.certificate_file, self.key_file or None, self.key_password
                )
        except OSError:
            raise AddressInvalid(
                "ssl_certfile, ssl_keyfile and ssl_password do not make a certificate with its key"
            ) from None
        return context


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """Where Redis is.

    Attributes:
        kind: What answers there.
        hosts: Names or addresses with ports; the first of them, or any for cluster and sentinel.
        path: Of a socket on this machine, instead of hosts.
        database: Number.
        username: Of an ACL user; empty: the default one.
        password: Of the user, or empty.
        master: What the sentinels call it.
        sentinel_username: Of an ACL user of the sentinels, or empty.
        sentinel_password: The same.
        tls: None: plain.
    """

    kind: Kind
    hosts: tuple[tuple[str, int], ...] = ()
    path: str = ""
    database: int = 0
    username: str = ""
    password: str = field(default="", repr=False)
    master: str = ""
    sentinel_username: str = ""
    sentinel_password: str = field(default="", repr=False)
    tls: Tls | None = None


def parse_address(url: str) -> RedisAddress:
    """Return where a URL says that Redis is.

    Raises:
        AddressInvalid: It does not say.
    """
    scheme, mark, _ = url.partition("://")
    if not mark or scheme not in SCHEMES:
        known = ", ".join(f"{each}://" for each in SCHEMES)
        raise AddressInvalid(f"must start with one of {known}")
    kind, is_tls = SCHEMES[scheme]
    try:
        parts = urlsplit(url)
    except ValueError:
        raise AddressInvalid("is no valid URL") from None
    found = _USERINFO.fullmatch(parts.netloc)
    if found is None or parts.fragment:
        raise AddressInvalid(f"is no valid URL; {_ESCAPES}")
    options = _options(parts.query, kind, is_tls)
    username, password = (unquote(found[each] or "") for each in ("user", "password"))
    if scheme == "unix":
        if found["hosts"] or not parts.path:
            raise AddressInvalid("must have the path of a socket after unix://")
        database = _database(options.get("db", ""))
        path = unquote(parts.path)
        return RedisAddress(
            kind, path=path, database=database, username=username, password=password
        )
    hosts = _hosts(found["hosts"], SENTINEL_PORT if kind is Kind.SENTINEL else PORT)
    if kind is Kind.ONE and len(hosts) > 1:
        raise AddressInvalid("names several servers; that is for +cluster:// and +sentinel://")
    master, database = _path(parts.path, kind, options)
    return RedisAddress(
        kind,
        hosts,
        database=database,
        username=username,
        password=password,
        master=master,
        sentinel_username=options.get("sentinel_username", ""),
        sentinel_password=options.get("sentinel_password", ""),
        tls=_tls(options) if is_tls else None,
    )


def address_fault(url: str) -> str | None:
    """Return what is wrong with a URL or the files that it names, without any part of it."""
    try:
        address = parse_address(url)
        if address.tls is not None:
            address.tls.context()
    except AddressInvalid as error:
        return str(error)
    return None


def _options(query: str, kind: Kind, is_tls: bool) -> dict[str, str]:
    known = ["db"] if kind is Kind.ONE else []
    known += TLS_OPTIONS if is_tls else ()
    known += SENTINEL_OPTIONS if kind is Kind.SENTINEL else ()
    given = parse_qsl(query, keep_blank_values=True)
    if any(name not in known for name, _ in given):
        what = f"options other than {', '.join(known)}" if known else "options, and takes none"
        raise AddressInvalid(f"has {what}; {_ESCAPES}")
    return dict(given)


def _hosts(text: str, port: int) -> tuple[tuple[str, int], ...]:
    hosts = []
    for each in text.split(","):
        try:
            parts = urlsplit(f"//{each}")
            name, number = parts.hostname, parts.port
        except ValueError:
            raise AddressInvalid(f"has a host or a port that is none; {_ESCAPES}") from None
        if not name or number == 0:
            raise AddressInvalid(f"has a host or a port that is none; {_ESCAPES}")
        hosts.append((unquote(name), number or port))
    if len(hosts) > HOSTS_MAX:
        raise AddressInvalid(f"names more than {HOSTS_MAX} servers")
    return tuple(hosts)


def _path(path: str, kind: Kind, options: Mapping[str, str]) -> tuple[str, int]:
    """Return master and database."""
    names = [unquote(each) for each in path.strip("/").split("/") if each]
    match kind:
        case Kind.CLUSTER:
            if names not in ([], ["0"]):
                raise AddressInvalid("has a path; a cluster has one database only")
            return "", 0
        case Kind.SENTINEL:
            if not 1 <= len(names) <= 2:  # noqa: PLR2004 - master and database
                raise AddressInvalid("must end with /MASTER or /MASTER/DATABASE")
            return names[0], _database(names[1] if names[1:] else "")
        case _:
            if len(names) > 1 or (names and "db" in options):
                raise AddressInvalid("must end with one database number")
            return "", _database(names[0] if names else options.get("db", ""))


def _database(text: str) -> int:
    if text and not re.fullmatch(r"[0-9]{1,5}", text):
        raise AddressInvalid("must have a number as its database")
    return int(text or 0)


def _tls(options: Mapping[str, str]) -> Tls:
    verify = options.get("ssl_cert_reqs", "required")
    if verify not in _VERIFY:
        raise AddressInvalid(f"has ssl_cert_reqs that is none of {', '.join(_VERIFY)}")
    check = options.get("ssl_check_hostname", "true").lower()
    if check not in _TRUE + _FALSE:
        raise AddressInvalid("has ssl_check_hostname that is neither true nor false")
    return Tls(
        ca_file=options.get("ssl_ca_certs", ""),
        ca_folder=options.get("ssl_ca_path", ""),
        certificate_file=options.get("ssl_certfile", ""),
        key_file=options.get("ssl_keyfile", ""),
        key_password=options.get("ssl_password", ""),
        verify=_VERIFY[verify],
        check_hostname=check in _TRUE,
    )
