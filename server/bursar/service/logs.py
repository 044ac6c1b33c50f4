"""Structured logs: an event's name and its fields, on stderr, without secrets."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any

import structlog

HIDDEN = "***"

# Whole names only: "output_tokens" is no secret.
SECRET_FIELDS = frozenset(
    {"api_key", "apikey", "authorization", "credentials", "password", "secret", "token"}
)

# A URL's user and password, and a password among its parameters.
URL_USER = re.compile(r"(?<=://)[^\s/\"'<>]*@")
URL_PASSWORD = re.compile(r"(?<=[?&])((?:password|username)=)[^\s&\"'<>]*", re.IGNORECASE)


def configure_logging(level: str, log_format: str) -> None:
    """Send the logs of Bursar and of its libraries to stderr in one form.

    Args:
        level: The least level that is written: "debug", "info", "warning" or "error".
        log_format: "json" (one object a line), "console" (for people), or "auto": console
            where stderr is a terminal, else json.

    Raises:
        ValueError: There is no such level or format.
    """
    threshold = logging.getLevelNamesMapping().get(level.upper())
    if threshold is None:
        raise ValueError(f"no log level {level!r}")
    if log_format not in ("auto", "json", "console"):
        raise ValueError(f"no log format {log_format!r}")
    console = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    shared = _shared_processors()
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *shared],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _Renderer(console),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(threshold)
    logging.captureWarnings(capture=True)


def hide_secrets(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Hide the values of fields that are secrets by their name."""
    for name in event:
        if name.lower() in SECRET_FIELDS:
            event[name] = HIDDEN
    return event


def _shared_processors() -> list[structlog.typing.Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        # The text of a traceback has no values of variables, unlike the pretty forms.
        structlog.processors.format_exc_info,
        hide_secrets,
    ]


class _Renderer:
    """Render one line and hide the passwords of URLs anywhere in it.

    The finished line is searched, not each field, so that nested values and the texts of
    exceptions are covered too.
    """

    def __init__(self, console: bool) -> None:
        self._render: structlog.typing.Processor
        if console:
            self._render = structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(),
                exception_formatter=structlog.dev.plain_traceback,
            )
        else:
            self._render = structlog.processors.JSONRenderer()

    def __call__(self, logger: Any, method: str, event: MutableMapping[str, Any]) -> str:  # noqa: ANN401 - structlog's own signature
        line = self._render(logger, method, event)
        if isinstance(line, bytes | bytearray | tuple | Mapping):
            raise TypeError("the renderers of a log line return text")
        return URL_PASSWORD.sub(rf"\g<1>{HIDDEN}", URL_USER.sub(f"{HIDDEN}@", line))
