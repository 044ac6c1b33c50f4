"""Goal: the public names, signatures and settings are what is documented, and nothing else."""

from __future__ import annotations

import inspect
import json
import pkgutil
import subprocess
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path

import grpc
import pytest
from scripted_server import UNAVAILABLE, ScriptedServer

import bursar_client
from bursar_client import AsyncClient, AsyncReservation, Client, Reservation, Settings
from bursar_client._channel import channel_credentials, channel_options, channel_target


def test_public_names() -> None:
    names = {
        name
        for name, value in vars(bursar_client).items()
        if not name.startswith("_") and not inspect.ismodule(value) and name != "annotations"
    }
    assert sorted(names) == bursar_client.__all__ == sorted(bursar_client.__all__)


def test_modules_are_private() -> None:
    for module in pkgutil.iter_modules(bursar_client.__path__):
        assert module.name.startswith("_") or module.name == "pb"


def test_values_are_frozen_and_slotted() -> None:
    for name in bursar_client.__all__:
        value = getattr(bursar_client, name)
        if is_dataclass(value):
            assert value.__dataclass_params__.frozen, name  # type: ignore[union-attr]
            assert "__slots__" in vars(value), name


def test_public_names_are_documented() -> None:
    for name in bursar_client.__all__:
        value = getattr(bursar_client, name)
        if isinstance(value, type):
            assert value.__doc__, name


@pytest.mark.parametrize(
    ("asynchronous", "synchronous"), [(AsyncClient, Client), (AsyncReservation, Reservation)]
)
def test_both_flavours_have_the_same_names(asynchronous: type, synchronous: type) -> None:
    def signatures(kind: type) -> dict[str, list[str]]:
        return {
            name: list(inspect.signature(value).parameters)
            for name, value in inspect.getmembers(kind, inspect.isfunction)
            if not name.startswith("_")
        }

    assert signatures(asynchronous) == signatures(synchronous)


def test_both_clients_take_the_same_arguments() -> None:
    def arguments(kind: type) -> dict[str, object]:
        parameters = inspect.signature(kind).parameters
        return {name: each.default for name, each in parameters.items() if name != "sleep"}

    assert arguments(AsyncClient) == arguments(Client)


@pytest.mark.parametrize("name", [each.name for each in fields(Settings)])
def test_settings_are_documented(name: str) -> None:
    assert Settings.__doc__ is not None and f"{name}: " in Settings.__doc__


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("reserve_timeout_s", 0),
        ("settle_timeout_s", -1),
        ("settle_backlog_max", 0),
        ("retry_attempts_max", 0),
        ("retry_attempts_max", 6),
        ("retry_backoff_multiplier", 0.5),
        ("session_in_flight_max", 0),
        ("session_age_s_max", 0),
        ("session_retry_interval_s", 0),
    ],
)
def test_settings_out_of_range(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        Settings(**{name: value})  # type: ignore[arg-type]


def test_default_channel() -> None:
    options = dict(channel_options(Settings()))
    config = json.loads(str(options["grpc.service_config"]))
    assert config["loadBalancingConfig"] == [{"round_robin": {}}]
    assert config["retryThrottling"] == {"maxTokens": 10, "tokenRatio": 0.1}
    every, session = config["methodConfig"]
    assert session == {
        "name": [{"service": "bursar.v1.BudgetAuthorityService", "method": "Session"}]
    }
    assert every == {
        "name": [{}],
        "retryPolicy": {
            "maxAttempts": 4,
            "initialBackoff": "0.020s",
            "maxBackoff": "0.200s",
            "backoffMultiplier": 2.0,
            "retryableStatusCodes": ["UNAVAILABLE"],
        },
    }
    assert options["grpc.keepalive_time_ms"] == 60_000
    assert options["grpc.keepalive_timeout_ms"] == 20_000


def test_given_channel_options_win() -> None:
    settings = Settings(channel_options=(("grpc.keepalive_time_ms", 5),), retry_attempts_max=1)
    options = dict(channel_options(settings))
    assert options["grpc.keepalive_time_ms"] == 5
    assert "methodConfig" not in json.loads(str(options["grpc.service_config"]))


@pytest.mark.parametrize(
    ("address", "target"),
    [
        ("localhost:4500", "localhost:4500"),
        ("dns:///bursar.svc:4500", "dns:///bursar.svc:4500"),
        ("10.0.0.1:1,10.0.0.2:2", "ipv4:10.0.0.1:1,10.0.0.2:2"),
        ("ipv6:[::1]:1,[::1]:2", "ipv6:[::1]:1,[::1]:2"),
    ],
)
def test_addresses(address: str, target: str) -> None:
    assert channel_target(address) == target


def test_credentials() -> None:
    given = grpc.ssl_channel_credentials()
    assert channel_credentials(given) is given
    assert channel_credentials(False) is None
    assert isinstance(channel_credentials(True), grpc.ChannelCredentials)


def test_example_of_the_readme(server: ScriptedServer) -> None:
    readme = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    code = readme.split("```python\n")[1].split("```")[0]
    assert "127.0.0.1:4500" in code
    ended = subprocess.run(  # noqa: S603
        [sys.executable, "-W", "error", "-c", code.replace("127.0.0.1:4500", server.address)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == readme.split("```output\n")[1].split("```")[0]
    assert server.only().tokens() == (1_200, 87)


_FORGETFUL = """
import sys
from bursar_client import Client, Settings

settings = Settings(
    settle_timeout_s=0, settle_backoff_initial_s=600, settle_backoff_max_s=600, retry_attempts_max=1
)
client = Client(sys.argv[1], settings=settings)
with client.reserve(org="acme", model="gpt-5", input_tokens=1) as r:
    r.commit(input_tokens=77, output_tokens=0)
"""


def test_process_that_forgets_to_close_is_told(server: ScriptedServer) -> None:
    server.always["Commit"] = UNAVAILABLE
    ended = subprocess.run(  # noqa: S603
        [sys.executable, "-W", "always::ResourceWarning", "-c", _FORGETFUL, server.address],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "settle_forgotten" in ended.stderr and "input_tokens=77" in ended.stderr
    assert "ResourceWarning" in ended.stderr
