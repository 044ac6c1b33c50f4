"""`bursar serve` and `bursar check-policy`: the server, and what it would say of a policy."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from bursar.cli.address import ADDRESS_VARIABLE
from bursar.cli.garbage import none_looked_for
from bursar.cli.printing import console, plural, print_error, print_plain

if TYPE_CHECKING:
    from bursar.domain.errors import Fault
    from bursar.service.settings import Settings

# The server's modules are imported where they are needed: the other commands start faster.

EXIT_SETTINGS = 2
_OPTIONS = {
    "policy_files": "--policy",
    "listen_address": "--listen",
    "data_dir": "--data-dir",
    "workers": "--workers",
}

PolicyFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--policy",
        help="Policy document to apply at the start; may be given for several orgs. Without any, "
        "the policies of the database decide.",
    ),
]


def serve(
    policy: PolicyFiles = None,
    listen: Annotated[
        str | None, typer.Option(help="Address to serve on, such as 127.0.0.1:4500.")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder of the private Redis's data.")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(help="Processes that serve on the address together, 1 to 64."),
    ] = None,
) -> None:
    """Serve gRPC until SIGTERM or Ctrl-C.

    Without BURSAR_REDIS_URL it runs a private redis-server in the data folder. Every setting is a
    variable of the environment (docs/reference/settings.md), and options win over variables. Exit
    code 1 if it cannot serve, 2 if a setting is wrong.
    """
    from bursar.domain.errors import BursarError
    from bursar.service.logs import configure_logging
    from bursar.service.policy_files import read_policy_files

    given: dict[str, Any] = {
        "policy_files": policy or None,
        "listen_address": listen or None,
        "data_dir": data_dir,
        "workers": workers,
    }
    settings = _settings({name: value for name, value in given.items() if value is not None})
    configure_logging(settings.log_level, settings.log_format)
    try:
        files = read_policy_files(settings.policy_files)
        if settings.workers == 1:
            _serve_alone(settings, files)
        else:
            _serve_with_workers(settings, files)
    except (BursarError, OSError) as error:
        from bursar.service.process import fault_of

        print_error(fault_of(error))
        raise typer.Exit(1) from None


def _serve_alone(settings: Settings, policy_files: list[tuple[str, str]]) -> None:
    with none_looked_for():
        import uvloop

        from bursar.service.process import ServerProcess
        from bursar.service.process import serve as run_server

    uvloop.run(run_server(ServerProcess(settings, policy_files=policy_files), _announce))


def _serve_with_workers(settings: Settings, policy_files: list[tuple[str, str]]) -> None:
    import asyncio

    from bursar.service.workers import serve_with_workers

    asyncio.run(serve_with_workers(settings, policy_files, _announce))


def _settings(given: Mapping[str, Any]) -> Settings:
    """Return the settings of the options and the environment; every fault ends the command."""
    from pydantic import ValidationError

    from bursar.service.settings import Settings
    from bursar.service.variables import fault_lines, unknown_variables

    # The variable of the commands that are clients may well be set for the server too.
    lines = unknown_variables({k: v for k, v in os.environ.items() if k != ADDRESS_VARIABLE})
    try:
        settings = Settings(**given)
    except ValidationError as error:
        lines += [_in_words_of_options(line, given) for line in fault_lines(error)]
    if not lines:
        return settings
    for line in lines:
        print_error(line)
    raise typer.Exit(EXIT_SETTINGS)


def _in_words_of_options(line: str, given: Mapping[str, Any]) -> str:
    from bursar.service.variables import variable

    for name, option in _OPTIONS.items():
        if name in given and line.startswith(f"{variable(name)}:"):
            return option + line.removeprefix(variable(name))
    return line


def _announce(address: str) -> None:
    """Say where the server listens, for scripts that asked for any free port."""
    sys.stdout.write(f"bursar serves on {address}\n")
    sys.stdout.flush()


def check_policy(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="Policy documents.")],
    strict: Annotated[bool, typer.Option("--strict", help="Refuse warnings too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check policy documents: every fault with its path, then warnings.

    Exit code 0 if all are accepted, 1 if one is refused.
    """
    reports = [_report(file) for file in files]
    if as_json:
        sys.stdout.write(json.dumps(reports, indent=2) + "\n")
    else:
        out = console()
        for report in reports:
            _print_report(out, report)
    if any(report["errors"] or (strict and report["warnings"]) for report in reports):
        raise typer.Exit(1)


def _report(file: Path) -> dict[str, object]:
    from bursar.domain.errors import Fault, PolicyInvalid
    from bursar.domain.policy_lint import lint
    from bursar.domain.policy_text import parse_policy

    try:
        document = parse_policy(file.read_text(encoding="utf-8"), str(file))
    except PolicyInvalid as error:
        return {"file": str(file), "errors": _rows(error.faults), "warnings": []}
    except (OSError, UnicodeDecodeError) as error:
        fault = Fault("(file)", f"cannot be read: {error}")
        return {"file": str(file), "errors": _rows((fault,)), "warnings": []}
    return {
        "file": str(file),
        "org": document.org,
        "budgets": len(document.budgets),
        "errors": [],
        "warnings": _rows(tuple(lint(document))),
    }


def _rows(faults: tuple[Fault, ...]) -> list[dict[str, str]]:
    return [{"path": fault.path, "description": fault.description} for fault in faults]


def _print_report(out: Console, report: dict[str, object]) -> None:
    errors, warnings = report["errors"], report["warnings"]
    assert isinstance(errors, list)
    assert isinstance(warnings, list)
    if errors:
        print_plain(out, ("refused", "red"), f" {report['file']}")
    else:
        assert isinstance(report["budgets"], int)
        what = f"org {report['org']}, {plural(report['budgets'], 'budget')}"
        print_plain(out, ("accepted", "green"), f" {report['file']}: {what}")
    for word, style, rows in (("error", "red", errors), ("warning", "yellow", warnings)):
        for row in rows:
            print_plain(out, "  ", (word, style), f" {row['path']}: {row['description']}")


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(serve)
    app.command("check-policy")(check_policy)
