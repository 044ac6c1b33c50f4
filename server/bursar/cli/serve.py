"""`bursar serve` and `bursar check-policy`: the server, and what it would say of a policy."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
import uvloop
from pydantic import ValidationError
from rich.console import Console

from bursar.domain.errors import BursarError, Fault, PolicyInvalid
from bursar.domain.policy_document import PolicyDocument
from bursar.domain.policy_lint import lint
from bursar.domain.policy_text import parse_policy
from bursar.service.logs import configure_logging
from bursar.service.process import load_policies
from bursar.service.process import serve as run_server
from bursar.service.settings import Settings, fault_lines, unknown_variables

PolicyFiles = Annotated[
    list[Path] | None,
    typer.Option("--policy", help="Policy document to enforce; may be given for several orgs."),
]


def serve(
    policy: PolicyFiles = None,
    listen: Annotated[
        str | None, typer.Option(help="Address to serve on, such as 127.0.0.1:4500.")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder of the private Redis's data.")
    ] = None,
) -> None:
    """Serve gRPC until SIGTERM or Ctrl-C.

    Without BURSAR_REDIS_URL it runs a private redis-server in the data folder. Every setting is a
    variable of the environment: see docs/reference/settings.md. Options win over variables.
    """
    errors = Console(stderr=True)
    given: dict[str, Any] = {"policy_files": policy, "listen_address": listen, "data_dir": data_dir}
    lines = unknown_variables(os.environ)
    try:
        settings = Settings(**{name: value for name, value in given.items() if value})
    except ValidationError as error:
        lines += fault_lines(error)
    if lines:
        for line in lines:
            errors.print(line, style="red", markup=False)
        raise typer.Exit(2)
    configure_logging(settings.log_level, settings.log_format)
    if not settings.policy_files:
        errors.print(
            "no policy: every request would be refused. Give one with --policy FILE or "
            "BURSAR_POLICY_FILES.",
            style="red",
        )
        raise typer.Exit(2)
    try:
        policies = load_policies(settings.policy_files)
        uvloop.run(run_server(settings, policies, _announce))
    except (BursarError, OSError, TimeoutError) as error:
        errors.print(str(error) or "Redis did not answer in time", style="red", markup=False)
        raise typer.Exit(1) from None


def _announce(address: str) -> None:
    """Say where the server listens, for scripts that asked for any free port."""
    sys.stdout.write(f"bursar serves on {address}\n")
    sys.stdout.flush()


def check_policy(
    files: Annotated[list[Path], typer.Argument(help="Policy documents.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check policy documents: every fault with its path, then warnings. Exit code 1 if refused."""
    console = Console()
    reports = [_report(file) for file in files]
    if as_json:
        sys.stdout.write(json.dumps(reports, indent=2) + "\n")
    else:
        for report in reports:
            _print_report(console, report)
    if any(report["errors"] for report in reports):
        raise typer.Exit(1)


def _report(file: Path) -> dict[str, object]:
    try:
        document: PolicyDocument = parse_policy(file.read_text(encoding="utf-8"), str(file))
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


def _print_report(console: Console, report: dict[str, object]) -> None:
    errors, warnings = report["errors"], report["warnings"]
    assert isinstance(errors, list)
    assert isinstance(warnings, list)
    if errors:
        console.print(f"[red]refused[/] {report['file']}")
    else:
        console.print(
            f"[green]accepted[/] {report['file']}: org {report['org']}, {report['budgets']} budgets"
        )
    for style, rows in (("red", errors), ("yellow", warnings)):
        for row in rows:
            console.print(f"  [{style}]{row['path']}[/]: ", end="")
            console.print(row["description"], markup=False, highlight=False)
