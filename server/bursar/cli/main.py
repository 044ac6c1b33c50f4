"""The `bursar` command and its subcommands."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

# What gRPC's core has to say of a server that is away is said better by whoever called it.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import typer

from bursar import __version__
from bursar.cli import credit, freeze, operate, policy, show
from bursar.cli.demo import demo
from bursar.cli.ledger import ledger
from bursar.cli.migrate import migrate
from bursar.cli.rebuild import rebuild
from bursar.cli.render import print_error
from bursar.cli.replay import replay
from bursar.cli.serve import check_policy, serve
from bursar.cli.status import status
from bursar.cli.usage import usage
from bursar.cli.verify import verify

EXIT_USAGE = 2


class _Program(typer.Typer):
    """The same name and the same first look, however it is started."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - typer's own signature
        """Run the command of this process's arguments."""
        try:
            "".join(sys.argv).encode()
        except UnicodeEncodeError:
            print_error("an argument is no valid UTF-8")
            sys.exit(EXIT_USAGE)
        return super().__call__(*args, prog_name="bursar", **kwargs)


app = _Program(
    name="bursar",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"bursar {__version__}\n")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """The budget authority for LLM spend."""


app.command()(serve)
app.command("check-policy")(check_policy)
app.command()(migrate)
operate.add_to(app)
show.add_to(app)
app.command()(usage)
app.command()(ledger)
policy.add_to(app)
credit.add_to(app)
freeze.add_to(app)
app.command()(status)
app.command()(verify)
app.command()(rebuild)
app.command()(replay)
app.command()(demo)

if __name__ == "__main__":
    app()
