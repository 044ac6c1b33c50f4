"""Every setting of the server, read from the environment as BURSAR_<NAME>.

`docs/reference/settings.md` is generated from this file by `make gen`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from bursar.engine.redis_address import address_fault

PREFIX = "BURSAR_"

DATABASE_SCHEMES = ("postgresql://", "postgres://")
ADDRESS = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+):(?P<port>\d{1,5})")
PORT_MAX = 65_535


def default_data_dir() -> Path:
    """Return the folder for this user's data: $XDG_STATE_HOME/bursar or ~/.local/state/bursar."""
    state_home = Path(os.environ.get("XDG_STATE_HOME", ""))
    # The XDG specification says to ignore a relative path.
    if not state_home.is_absolute():
        state_home = Path.home() / ".local" / "state"
    return state_home / "bursar"


class Settings(BaseSettings):
    """The server's settings; each is a variable BURSAR_<NAME> of the environment.

    An empty variable counts as not set.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
        # The URL of Redis may carry a password.
        hide_input_in_errors=True,
    )

    listen_address: str = Field(
        "127.0.0.1:4500",
        description="Address to serve gRPC on. Port 0 takes a free port.",
        json_schema_extra={"range_text": "host:port, [IPv6]:port, unix:/path"},
    )
    health_listen_address: str | None = Field(
        None,
        description="Address that answers health, and nothing else, for all workers together. "
        "Port 0 takes a free port.",
        json_schema_extra={"range_text": "host:port, [IPv6]:port, unix:/path"},
    )
    workers: int = Field(
        1,
        ge=1,
        le=64,
        description="Processes that serve on the address together, under one that only supervises; "
        "with 1 the process itself serves.",
    )
    redis_url: SecretStr | None = Field(
        None,
        description="Redis to keep counters in. Without it the server runs a private "
        "redis-server in the data folder. It may hold a password and is never printed.",
        json_schema_extra={
            "range_text": "`redis://`, `unix://`, `redis+cluster://` or `redis+sentinel://` URL; "
            "with `rediss` for TLS"
        },
    )
    database_url: SecretStr | None = Field(
        None,
        description="PostgreSQL to keep the ledger in. Without it the server runs a private "
        "PostgreSQL in the data folder. It may hold a password and is never printed.",
        json_schema_extra={"range_text": "`postgresql://` URL"},
    )
    data_dir: Path = Field(
        default_factory=default_data_dir,
        description="Folder for the data of the private redis-server and PostgreSQL.",
        json_schema_extra={
            "default_text": "`$XDG_STATE_HOME/bursar`, else `~/.local/state/bursar`",
            "range_text": "path",
        },
    )
    policy_files: Annotated[tuple[Path, ...], NoDecode] = Field(
        (),
        description="Policy documents to enforce, separated by commas.",
        json_schema_extra={"range_text": "paths"},
    )
    shard_count: int = Field(
        64,
        ge=1,
        le=4_096,
        description="Parts of the key space; fixed when the data is first written.",
    )
    key_namespace: str = Field(
        "b",
        pattern=r"^[a-z][a-z0-9]{0,15}$",
        description="First letters of every key, so that installations can share one Redis.",
    )
    redis_connections_max: int = Field(
        32,
        ge=1,
        le=1_024,
        description="Connections that one process opens at most to Redis, to each server of a "
        "cluster.",
    )
    redis_timeout_ms: int = Field(
        1_000,
        ge=10,
        le=60_000,
        description="How long one call to Redis may take; after it the outcome is unknown.",
    )
    database_connections_max: int = Field(
        16, ge=2, le=512, description="Connections to PostgreSQL that one process opens at most."
    )
    database_timeout_ms: int = Field(
        5_000,
        ge=100,
        le=600_000,
        description="How long one statement in PostgreSQL may take; after it the outcome is "
        "unknown.",
    )
    default_deadline_ms: int = Field(
        2_000,
        ge=10,
        le=600_000,
        description="Deadline of a call whose caller sends none; at most `BURSAR_DEADLINE_MS_MAX`.",
    )
    deadline_ms_max: int = Field(
        60_000, ge=10, le=600_000, description="Longest deadline that a caller's call may have."
    )
    message_bytes_max: int = Field(
        1_048_576, ge=4_096, le=67_108_864, description="Largest request message."
    )
    concurrent_rpcs_max: int = Field(
        1_024,
        ge=1,
        le=65_536,
        description="Calls in progress at most, sessions apart; more are refused at once with "
        "RESOURCE_EXHAUSTED. An org may have as many as are left for all: half of them where it is "
        "alone.",
    )
    concurrent_operations_max: int = Field(
        8_192,
        ge=1,
        le=1_048_576,
        description="Operations in progress at most, those of batches and sessions included; more "
        "are refused like calls, and shared in the same way. At least "
        "`BURSAR_BATCH_OPERATIONS_MAX`.",
    )
    queue_wait_ms_max: int = Field(
        250,
        ge=10,
        le=60_000,
        description="How long what is let in may take to end, as fast as things end at the time: "
        "more than that many, and more than 512, are refused, also below the two bounds above. "
        "More than an acknowledgement takes, with `BURSAR_DURABILITY=ledger`.",
    )
    batch_operations_max: int = Field(
        1_000,
        ge=1,
        le=10_000,
        description="Operations in one batch call, and in one message of a session, at most.",
    )
    session_in_flight_max: int = Field(
        4_096,
        ge=1,
        le=1_000_000,
        description="Operations of one session that may wait for their answers; while there are "
        "as many, nothing more of it is read.",
    )
    default_ttl_ms: int = Field(
        120_000,
        ge=100,
        le=86_400_000,
        description="Time after which an unsettled hold expires, where the caller asks for none; "
        "at most `BURSAR_TTL_MS_MAX`.",
    )
    ttl_ms_max: int = Field(
        86_400_000,
        ge=100,
        # Counters outlive their last use by COUNTER_RETENTION_MS, which must exceed this well.
        le=86_400_000,
        description="Longest time to live of a hold that a caller may ask for.",
    )
    tombstone_ms: int = Field(
        900_000,
        ge=1_000,
        le=604_800_000,
        description="How long the answer of a settled hold is kept for retries.",
    )
    expired_tombstone_ms: int = Field(
        86_400_000,
        ge=1_000,
        le=2_592_000_000,
        description="How long an expired hold is kept, so that a late commit is still booked.",
    )
    journal_entries_max: int = Field(
        100_000,
        ge=100,
        le=100_000_000,
        description="Entries of one shard's journal that may wait to be recorded; at this many "
        "nothing new is granted, and settling goes on.",
    )
    recent_calls_max: int = Field(
        20_000,
        ge=0,
        le=10_000_000,
        description="Acknowledged calls that a server keeps until they are recorded, to send them "
        "again where Redis loses them.",
    )
    durability: Literal["redis", "replicated", "ledger"] = Field(
        "redis",
        description="What an acknowledged call survives: `redis` a crash of Redis that keeps its "
        "append-only file; `replicated` also the loss of that Redis, where a replica has it; "
        "`ledger` the loss of all of Redis: it is in PostgreSQL.",
    )
    replicas: int = Field(
        1,
        ge=1,
        le=16,
        description="Replicas that must have a call before it is acknowledged, with `durability` "
        "`replicated`.",
    )
    record_interval_ms: int = Field(
        50,
        ge=1,
        le=10_000,
        description="Longest time between two looks for what waits to be recorded.",
    )
    verify_interval_ms: int = Field(
        300_000,
        ge=100,
        le=86_400_000,
        description="Time between two comparisons of Redis with the record.",
    )
    verify_repairs: bool = Field(
        True,
        description="Whether the comparison sets what differs in Redis to what the record says; "
        "each difference is logged either way.",
    )
    watch_interval_ms: int = Field(
        200,
        ge=10,
        le=10_000,
        description="Time between two looks at every shard, for data that is lost or rebuilt; the "
        "same on all servers. They wait for three of each other's looks, or 3 s if that is longer.",
    )
    sweep_interval_ms: int = Field(
        1_000, ge=10, le=60_000, description="Time between two sweeps for expired holds."
    )
    sweep_batch: int = Field(
        500, ge=1, le=5_000, description="Holds of one shard that one sweep expires at most."
    )
    clock_skew_ms_max: int = Field(
        5_000,
        ge=0,
        le=3_600_000,
        description="How far this server's clock may be behind the newest time that a shard saw.",
    )
    clock_sync_interval_ms: int = Field(
        10_000,
        ge=100,
        le=3_600_000,
        description="Time between two comparisons of this server's clock with that of Redis.",
    )
    drain_delay_ms: int = Field(
        0,
        ge=0,
        le=300_000,
        description="Time between reporting NOT_SERVING and closing the port at a shutdown, so "
        "that load balancers notice.",
    )
    drain_grace_ms: int = Field(
        10_000,
        ge=0,
        le=600_000,
        description="Time that calls in progress have to end at a shutdown.",
    )
    policy_poll_interval_ms: int = Field(
        500,
        ge=10,
        le=60_000,
        description="Time between two looks for new policies and freezes where PostgreSQL tells of "
        "none; it usually tells at once.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least level of a log line that is written."
    )
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="Form of the log; auto is console on a terminal, else json."
    )
    reflection: bool = Field(True, description="Serve gRPC reflection.")
    connection_age_ms_max: int = Field(
        600_000,
        ge=1_000,
        le=86_400_000,
        description="Age at which a connection is closed softly, so that load spreads to new "
        "servers.",
    )
    embedded_redis_restart: bool = Field(
        True, description="Start the private redis-server again where it has died."
    )

    @field_validator("policy_files", mode="before")
    @classmethod
    def _split_at_commas(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("log_level", "log_format", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("data_dir")
    @classmethod
    def _expand_home(cls, value: Path) -> Path:
        return value.expanduser()

    @field_validator("listen_address", "health_listen_address")
    @classmethod
    def _known_address(cls, value: str | None) -> str | None:
        if value is None:
            return None
        found = ADDRESS.fullmatch(value)
        if value.removeprefix("unix:") in ("", value) and found is None:
            raise ValueError("must be host:port, [IPv6]:port or unix:/path")
        if found is not None and int(found["port"]) > PORT_MAX:
            raise ValueError(f"has a port above {PORT_MAX}")
        return value

    @field_validator("redis_url")
    @classmethod
    def _known_redis(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and (fault := address_fault(value.get_secret_value())):
            raise ValueError(fault)
        return value

    @field_validator("database_url")
    @classmethod
    def _known_database(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and (fault := database_url_fault(value.get_secret_value())):
            raise ValueError(fault)
        return value

    @model_validator(mode="after")
    def _defaults_within_limits(self) -> Self:
        if self.default_deadline_ms > self.deadline_ms_max:
            raise ValueError("BURSAR_DEFAULT_DEADLINE_MS is above BURSAR_DEADLINE_MS_MAX")
        if self.batch_operations_max > self.concurrent_operations_max:
            raise ValueError(
                "BURSAR_BATCH_OPERATIONS_MAX is above BURSAR_CONCURRENT_OPERATIONS_MAX"
            )
        if self.default_ttl_ms > self.ttl_ms_max:
            raise ValueError("BURSAR_DEFAULT_TTL_MS is above BURSAR_TTL_MS_MAX")
        return self

    @model_validator(mode="after")
    def _workers_share_a_port(self) -> Self:
        if self.workers > 1 and self.listen_address.startswith("unix:"):
            raise ValueError(
                "BURSAR_WORKERS above 1 needs a host and a port in BURSAR_LISTEN_ADDRESS: "
                "processes cannot share a Unix socket"
            )
        return self


def database_url_fault(url: str) -> str | None:
    """Return what is wrong with the URL of a PostgreSQL, without any part of it, or None."""
    if not url.startswith(DATABASE_SCHEMES):
        return f"must start with one of {', '.join(DATABASE_SCHEMES)}"
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return "is no valid URL"
    return None if parts.path.strip("/") else "names no database: it must end with /DATABASE"
