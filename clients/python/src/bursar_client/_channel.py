"""How a channel is configured: balancing, retries, keepalive, address."""

from __future__ import annotations

import json

import grpc

from bursar_client._settings import Settings

RECONNECT_BACKOFF_INITIAL_MS, RECONNECT_BACKOFF_MAX_MS = 100, 2_000
"""First and longest pause between attempts to connect."""

ANSWER_BYTES_MAX = 64 * 1024 * 1024
"""Largest answer. gRPC's own limit of 4 MiB is less than what 1,000 operations may answer, and they
are carried out by then."""

RECONNECT_BACKOFF_MIN_MS = 1_000
"""Least time that an attempt to connect may take."""

UNSHARED = ("grpc.use_local_subchannel_pool", 1)
"""For a process that was forked: else gRPC goes on with its parent's connection, which fails."""


def channel_options(settings: Settings) -> list[tuple[str, str | int]]:
    """Return the options of a channel, for both flavours of gRPC."""
    options: dict[str, str | int] = {
        "grpc.service_config": json.dumps(_service_config(settings)),
        # What a name server says would replace the configuration above.
        "grpc.service_config_disable_resolution": 1,
        "grpc.enable_retries": 1,
        "grpc.max_receive_message_length": ANSWER_BYTES_MAX,
        "grpc.keepalive_time_ms": round(settings.keepalive_interval_s * 1_000),
        "grpc.keepalive_timeout_ms": round(settings.keepalive_timeout_s * 1_000),
        "grpc.keepalive_permit_without_calls": 0,
        # gRPC's own pauses grow to two minutes: long after the server is back, calls would fail.
        "grpc.initial_reconnect_backoff_ms": RECONNECT_BACKOFF_INITIAL_MS,
        "grpc.min_reconnect_backoff_ms": RECONNECT_BACKOFF_MIN_MS,
        "grpc.max_reconnect_backoff_ms": RECONNECT_BACKOFF_MAX_MS,
    }
    options.update(settings.channel_options)
    return list(options.items())


def channel_target(address: str) -> str:
    """Return the gRPC target of an address.

    Args:
        address: `host:port`, several `ip:port` with commas, or anything with a scheme of its
            own such as `dns:///bursar.svc:4500`.
    """
    return f"ipv4:{address}" if "," in address and not _has_scheme(address) else address


def channel_credentials(tls: bool | grpc.ChannelCredentials) -> grpc.ChannelCredentials | None:
    """Return credentials, or None for a channel without encryption."""
    if isinstance(tls, bool):
        return grpc.ssl_channel_credentials() if tls else None
    return tls


def _has_scheme(address: str) -> bool:
    return address.startswith(("dns:", "ipv4:", "ipv6:", "unix:", "xds:"))


def _service_config(settings: Settings) -> dict[str, object]:
    config: dict[str, object] = {
        "loadBalancingConfig": [{"round_robin": {}}],
        "retryThrottling": {
            "maxTokens": settings.retry_throttle_tokens,
            "tokenRatio": settings.retry_throttle_ratio,
        },
    }
    if settings.retry_attempts_max > 1:
        retry_policy = {
            "maxAttempts": settings.retry_attempts_max,
            "initialBackoff": f"{settings.retry_backoff_initial_s:.3f}s",
            "maxBackoff": f"{settings.retry_backoff_max_s:.3f}s",
            "backoffMultiplier": settings.retry_backoff_multiplier,
            "retryableStatusCodes": ["UNAVAILABLE"],
        }
        # The empty name stands for every method: all of them may be repeated. What a stream has
        # carried is sent again by operation instead.
        config["methodConfig"] = [
            {"name": [{}], "retryPolicy": retry_policy},
            {"name": [{"service": "bursar.v1.BudgetAuthorityService", "method": "Session"}]},
        ]
    return config
