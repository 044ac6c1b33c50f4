"""Settings: defaults, ranges, names that nobody reads, and secrets that never print."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from bursar.service.settings import PREFIX, Settings, default_data_dir
from bursar.service.variables import fault_lines, unknown_variables, variable

CANARY = "never-print-this"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith(PREFIX):
            monkeypatch.delenv(name)


def faults_of(monkeypatch: pytest.MonkeyPatch, **variables: str) -> list[str]:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError) as caught:
        Settings()
    return fault_lines(caught.value)


def test_defaults_serve_this_machine_only() -> None:
    settings = Settings()
    assert settings.listen_address == "127.0.0.1:4500"
    assert settings.redis_url is None
    assert settings.database_url is None
    assert settings.policy_files == ()
    assert settings.shard_count == 64
    assert settings.message_bytes_max == 1_048_576
    assert settings.embedded_redis_restart is True


def test_every_setting_is_described_and_bounded() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
        if field.annotation is int:
            assert {type(limit).__name__ for limit in field.metadata} >= {"Ge", "Le"}, name


def test_variables_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BURSAR_POLICY_FILES", "a.yaml, dir/b.yaml,")
    monkeypatch.setenv("BURSAR_SHARD_COUNT", "4_096")
    monkeypatch.setenv("BURSAR_LOG_LEVEL", "DEBUG")
    monkeypatch.setenv("BURSAR_REFLECTION", "false")
    monkeypatch.setenv("BURSAR_DATA_DIR", "~/bursar-data")
    monkeypatch.setenv("BURSAR_KEY_NAMESPACE", "")
    settings = Settings()
    assert settings.policy_files == (Path("a.yaml"), Path("dir/b.yaml"))
    assert settings.shard_count == 4_096
    assert settings.log_level == "debug"
    assert settings.reflection is False
    assert settings.data_dir == Path.home() / "bursar-data"
    assert settings.key_namespace == "b"


@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        ("BURSAR_SHARD_COUNT", "0", "greater than or equal to 1"),
        ("BURSAR_SHARD_COUNT", "4097", "less than or equal to 4096"),
        ("BURSAR_SHARD_COUNT", "many", "valid integer"),
        ("BURSAR_KEY_NAMESPACE", "B", "match pattern"),
        ("BURSAR_KEY_NAMESPACE", "b" * 17, "match pattern"),
        ("BURSAR_LOG_FORMAT", "xml", "'auto', 'json' or 'console'"),
        ("BURSAR_LISTEN_ADDRESS", "4500", "must be host:port"),
        ("BURSAR_LISTEN_ADDRESS", "::1:4500", "must be host:port"),
        ("BURSAR_LISTEN_ADDRESS", "unix:", "must be host:port"),
        ("BURSAR_LISTEN_ADDRESS", "localhost:65536", "port above 65535"),
        ("BURSAR_HEALTH_LISTEN_ADDRESS", "4501", "must be host:port"),
        ("BURSAR_WORKERS", "0", "greater than or equal to 1"),
        ("BURSAR_WORKERS", "65", "less than or equal to 64"),
        ("BURSAR_REDIS_URL", "localhost:6379", "must start with one of redis://"),
        ("BURSAR_DATABASE_URL", "localhost:5432/bursar", "must start with one of postgresql://"),
        ("BURSAR_DATABASE_URL", "postgresql://u@[h/bursar", "no valid URL"),
        ("BURSAR_DATABASE_URL", "postgresql://u@h:port/bursar", "no valid URL"),
        ("BURSAR_DATABASE_URL", "postgresql://u@h/", "names no database"),
        ("BURSAR_DATABASE_CONNECTIONS_MAX", "1", "greater than or equal to 2"),
        ("BURSAR_DATABASE_TIMEOUT_MS", "99", "greater than or equal to 100"),
    ],
)
def test_a_value_out_of_range_is_refused_by_its_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, fault: str
) -> None:
    (line,) = faults_of(monkeypatch, **{name: value})
    assert line.startswith(f"{name}: ")
    assert fault in line


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:4500", "unix:/run/bursar.sock", "host:1"])
def test_an_address_to_listen_on_is_taken(address: str) -> None:
    assert Settings(listen_address=address).listen_address == address


@pytest.mark.parametrize(
    ("default", "limit"),
    [("DEFAULT_DEADLINE_MS", "DEADLINE_MS_MAX"), ("DEFAULT_TTL_MS", "TTL_MS_MAX")],
)
def test_a_default_above_its_limit_is_refused(
    monkeypatch: pytest.MonkeyPatch, default: str, limit: str
) -> None:
    lines = faults_of(monkeypatch, **{f"BURSAR_{default}": "1001", f"BURSAR_{limit}": "1000"})
    assert lines == [f"BURSAR_{default} is above BURSAR_{limit}"]


def test_workers_need_an_address_that_they_can_share(monkeypatch: pytest.MonkeyPatch) -> None:
    [line] = faults_of(
        monkeypatch, BURSAR_WORKERS="2", BURSAR_LISTEN_ADDRESS="unix:/run/bursar.sock"
    )
    assert line.startswith("BURSAR_WORKERS above 1 needs a host and a port")
    assert Settings(workers=1).listen_address == "unix:/run/bursar.sock"


def test_the_password_in_the_redis_url_never_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BURSAR_REDIS_URL", f"redis://:{CANARY}@redis.example:6379/0")
    settings = Settings()
    assert settings.redis_url is not None
    assert CANARY in settings.redis_url.get_secret_value()
    for text in (repr(settings), str(settings), str(settings.model_dump()), f"{settings!r}"):
        assert CANARY not in text
    assert CANARY not in settings.model_dump_json()


def test_the_password_of_a_refused_redis_url_never_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BURSAR_REDIS_URL", f"http://:{CANARY}@redis.example")
    with pytest.raises(ValidationError) as caught:
        Settings()
    assert CANARY not in str(caught.value)
    assert CANARY not in repr(caught.value)
    assert CANARY not in "".join(fault_lines(caught.value))


def test_the_password_in_the_database_url_never_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BURSAR_DATABASE_URL", f"postgresql://u:{CANARY}@db.example/bursar")
    settings = Settings()
    assert settings.database_url is not None
    assert CANARY in settings.database_url.get_secret_value()
    assert CANARY not in f"{settings!r} {settings} {settings.model_dump()}"
    for url in (
        f"http://:{CANARY}@h/d",
        f"postgresql://:{CANARY}@[h/d",
        f"postgres://u@h:{CANARY}/d",
    ):
        lines = faults_of(monkeypatch, BURSAR_DATABASE_URL=url)
        assert CANARY not in "".join(lines)


def test_a_misspelt_variable_is_noticed_with_the_nearest_name() -> None:
    environ = {"BURSAR_SHARD_COUTN": CANARY, "bursar_log_levle": "x", "PATH": "/bin"}
    assert unknown_variables(environ) == [
        "BURSAR_SHARD_COUTN is no setting; did you mean BURSAR_SHARD_COUNT?",
        "bursar_log_levle is no setting; did you mean BURSAR_LOG_LEVEL?",
    ]


def test_a_variable_like_no_other_is_noticed_without_a_guess() -> None:
    assert unknown_variables({"BURSAR_QQQ": "1"}) == ["BURSAR_QQQ is no setting"]


def test_known_variables_and_those_of_kubernetes_are_no_mistakes() -> None:
    environ = dict.fromkeys(map(variable, Settings.model_fields), "") | {
        "BURSAR_TEST_REDIS_URL": "redis://localhost",
        "BURSAR_SERVICE_HOST": "10.0.0.1",
        "BURSAR_SERVICE_PORT": "4500",
        "BURSAR_SERVICE_PORT_GRPC": "4500",
        "BURSAR_PORT": "tcp://10.0.0.1:4500",
        "BURSAR_PORT_4500_TCP": "tcp://10.0.0.1:4500",
        "BURSAR_PORT_4500_TCP_ADDR": "10.0.0.1",
        "BURSAR_HEADLESS_SERVICE_HOST": "10.0.0.1",
    }
    assert unknown_variables(environ) == []


def test_a_misspelt_port_is_not_taken_for_one_of_kubernetes() -> None:
    assert unknown_variables({"BURSAR_PORT": "4500", "BURSAR_LISTEN_PORT": "4500"}) != []
    assert len(unknown_variables({"BURSAR_PORT": "4500", "BURSAR_LISTEN_PORT": "4500"})) == 2


def test_the_data_folder_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert default_data_dir() == tmp_path / "bursar"
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    assert default_data_dir() == Path.home() / ".local" / "state" / "bursar"
    monkeypatch.delenv("XDG_STATE_HOME")
    assert Settings().data_dir == Path.home() / ".local" / "state" / "bursar"
