"""What can be tuned, with defaults that suit a service on the same network as the server."""

from __future__ import annotations

from dataclasses import dataclass

RETRY_ATTEMPTS_MAX = 5
"""gRPC makes no more attempts than this, whatever it is told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Times, bounds and retries of a client.

    Attributes:
        reserve_timeout_s: For a reserve, check or extend in total, its retries included.
        call_timeout_s: For a batch and for calls that only read.
        settle_timeout_s: How long a commit, release or record is retried before the caller goes
            on and the background takes over; 0: a single attempt.
        settle_attempt_timeout_s: For one attempt of those.
        settle_deadline_s: When the background gives a settlement up, from its first attempt. The
            server keeps answers for 15 min (BURSAR_TOMBSTONE_MS): a retry after that could book
            twice, so this must be less.
        settle_backlog_max: Settlements that may wait in the background, 1 or more.
        settle_backoff_initial_s: First pause between attempts to settle; doubled each time.
        settle_backoff_max_s: Longest such pause.
        retry_attempts_max: Attempts that gRPC makes when a server cannot be reached, 1 to 5.
        retry_backoff_initial_s: First pause between those.
        retry_backoff_max_s: Longest such pause.
        retry_backoff_multiplier: Growth of that pause, 1 or more.
        retry_throttle_tokens: Failures, halved, after which gRPC stops to retry, 1 to 1,000.
        retry_throttle_ratio: How much of a failure each success makes up for; above 0.
        session: Whether reserves, commits, releases, extends and records go over one stream, where
            they are sent together and cost a fraction; False: each is a unary call.
        session_in_flight_max: Operations that may wait for an answer over it, 1 or more. Those
            beyond wait for room as long as their own timeout, then fail as Overloaded: unsent.
        session_age_s_max: When a stream is replaced, so that load spreads to other servers.
        session_retry_interval_s: How long all are unary calls after streams were refused.
        keepalive_interval_s: Between pings of a connection with calls.
        keepalive_timeout_s: How long a ping may take before the connection is given up.
        channel_options: Further options of the gRPC channel; they win over the above.
    """

    reserve_timeout_s: float = 2.0
    call_timeout_s: float = 5.0
    settle_timeout_s: float = 5.0
    settle_attempt_timeout_s: float = 2.0
    settle_deadline_s: float = 840.0
    settle_backlog_max: int = 10_000
    settle_backoff_initial_s: float = 0.05
    settle_backoff_max_s: float = 5.0
    retry_attempts_max: int = 4
    retry_backoff_initial_s: float = 0.02
    retry_backoff_max_s: float = 0.2
    retry_backoff_multiplier: float = 2.0
    retry_throttle_tokens: int = 10
    retry_throttle_ratio: float = 0.1
    session: bool = True
    session_in_flight_max: int = 4_096
    session_age_s_max: float = 300.0
    session_retry_interval_s: float = 300.0
    keepalive_interval_s: float = 60.0
    keepalive_timeout_s: float = 20.0
    channel_options: tuple[tuple[str, str | int], ...] = ()

    def __post_init__(self) -> None:
        for name in (
            "reserve_timeout_s",
            "call_timeout_s",
            "settle_attempt_timeout_s",
            "settle_deadline_s",
            "settle_backlog_max",
            "settle_backoff_initial_s",
            "settle_backoff_max_s",
            "retry_backoff_initial_s",
            "retry_backoff_max_s",
            "retry_throttle_tokens",
            "retry_throttle_ratio",
            "session_in_flight_max",
            "session_age_s_max",
            "session_retry_interval_s",
            "keepalive_interval_s",
            "keepalive_timeout_s",
        ):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be more than 0, is {getattr(self, name)}")
        if self.settle_timeout_s < 0:
            raise ValueError(f"settle_timeout_s must be 0 or more, is {self.settle_timeout_s}")
        if not 1 <= self.retry_attempts_max <= RETRY_ATTEMPTS_MAX:
            raise ValueError(
                f"retry_attempts_max must be 1 to {RETRY_ATTEMPTS_MAX}, "
                f"is {self.retry_attempts_max}"
            )
        if self.retry_backoff_multiplier < 1:
            raise ValueError(
                f"retry_backoff_multiplier must be 1 or more, is {self.retry_backoff_multiplier}"
            )
