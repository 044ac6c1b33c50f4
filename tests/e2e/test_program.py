"""The commands of `bursar` as one program: what is there, what is said of it, what is imported."""

from __future__ import annotations

import sys

import pytest
import typer.main
from bursar_processes import run_bursar
from typer.testing import CliRunner

from bursar.cli.commands import COMMANDS_OF_MODULE, program

APP = program()


def test_help_says_what_everything_is() -> None:
    """Goal: no option without a word. Method: every parameter of every command."""
    group = typer.main.get_command(APP)
    commands = group.commands  # type: ignore[attr-defined]
    assert len(commands) == 25
    for name, command in commands.items():
        for parameter in command.params:
            assert parameter.help, f"{name} {parameter.name}"
        shown = CliRunner().invoke(APP, [name, "--help"], prog_name="bursar")
        assert shown.exit_code == 0
        assert f"Usage: bursar {name}" in shown.output
        assert command.help.splitlines()[0].endswith(".")


@pytest.mark.parametrize("name", [name for names in COMMANDS_OF_MODULE.values() for name in names])
def test_a_command_needs_its_own_module_only(name: str) -> None:
    """Goal: the table of commands is right. Method: what is there for one is that of all."""
    alone, all_of_them = (
        typer.main.get_command(each).commands  # type: ignore[attr-defined]
        for each in (program(only_for=name), APP)
    )
    [expected] = [names for names in COMMANDS_OF_MODULE.values() if name in names]
    assert tuple(alone) == expected
    assert alone[name].callback.__module__ == all_of_them[name].callback.__module__
    assert list(all_of_them) == [each for names in COMMANDS_OF_MODULE.values() for each in names]


@pytest.mark.parametrize(
    ("name", "module"),
    [("serve", "serve"), ("check-policy", "serve"), ("migrate", "migrate")],
)
def test_what_talks_to_no_server_loads_no_client(name: str, module: str) -> None:
    """Goal: a server starts without what only callers need. Method: look at what was imported."""
    look = "import sys; from bursar.cli.main import run\ntry: run()\nfinally: print(*sys.modules)"
    ended = run_bursar(name, "--help", program=(sys.executable, "-c", look))
    assert ended.returncode == 0
    loaded = ended.stdout.splitlines()[-1].split()
    assert f"bursar.cli.{module}" in loaded
    assert "bursar_client" not in loaded
    assert "grpc" not in loaded
