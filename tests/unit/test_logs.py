"""Logs: one form for all, levels, and no secrets in any of them."""

from __future__ import annotations

import io
import json
import logging
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from pydantic import SecretStr

from bursar.service.logs import configure_logging

CANARY = "never-print-this"
URL = f"redis://user:{CANARY}@redis.example:6379/0"


class Terminal(io.StringIO):
    """A stderr that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_json_has_the_event_and_its_fields(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "json")
    structlog.get_logger("bursar.engine").info("shard_cold", shard=3, epoch="e1")
    captured = capsys.readouterr()
    (line,) = lines(captured.err)
    assert captured.out == ""
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "shard_cold",
        "shard": 3,
        "epoch": "e1",
        "level": "info",
        "logger": "bursar.engine",
    }


def test_the_standard_librarys_logs_take_the_same_form(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "json")
    logging.getLogger("grpc").warning("port %s is taken", 4500, extra={"attempt": 2})
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.warn("old call", UserWarning, stacklevel=1)
    first, second = lines(capsys.readouterr().err)
    assert (first["event"], first["logger"]) == ("port 4500 is taken", "grpc")
    assert (first["level"], first["attempt"]) == ("warning", 2)
    assert "old call" in second["event"]


def test_lines_below_the_level_are_not_written(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("warning", "json")
    structlog.get_logger().info("quiet")
    logging.getLogger("grpc").info("quiet")
    structlog.get_logger().error("loud")
    assert [line["event"] for line in lines(capsys.readouterr().err)] == ["loud"]


def test_configuring_twice_writes_each_line_once(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "json")
    configure_logging("info", "json")
    structlog.get_logger().info("once")
    assert len(lines(capsys.readouterr().err)) == 1


@pytest.mark.parametrize(
    ("stream", "is_json"), [(io.StringIO(), True), (Terminal(), False)], ids=["pipe", "terminal"]
)
def test_auto_is_console_on_a_terminal_only(
    monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, is_json: bool
) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    configure_logging("info", "auto")
    structlog.get_logger().info("started", port=4500)
    assert "started" in stream.getvalue()
    assert stream.getvalue().startswith("{") is is_json


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_no_secret_is_written(capsys: pytest.CaptureFixture[str], log_format: str) -> None:
    configure_logging("debug", log_format)
    log = structlog.get_logger()
    log.info("connected", url=URL, nested={"urls": [URL]}, also=SecretStr(URL))
    log.info("connected", password=CANARY, Authorization=f"Bearer {CANARY}", token=CANARY)
    log.info("connected", url=f"redis://redis.example?password={CANARY}&db=1")
    logging.getLogger("redis").warning("cannot reach %s", URL)
    try:
        raise ConnectionError(f"no answer from {URL}")
    except ConnectionError:
        log.exception("failed")
        logging.getLogger("redis").exception("failed")
    written = capsys.readouterr().err
    assert CANARY not in written
    assert "redis.example" in written
    assert "ConnectionError" in written
    assert "db=1" in written


def test_counts_of_tokens_are_no_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "json")
    structlog.get_logger().info("reserved", output_tokens=12, by="user@example.com")
    (line,) = lines(capsys.readouterr().err)
    assert (line["output_tokens"], line["by"]) == (12, "user@example.com")


@pytest.mark.parametrize(("level", "log_format"), [("loud", "json"), ("info", "xml")])
def test_an_unknown_level_or_format_is_refused(level: str, log_format: str) -> None:
    with pytest.raises(ValueError, match="no log"):
        configure_logging(level, log_format)
