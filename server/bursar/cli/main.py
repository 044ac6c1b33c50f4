"""The `bursar` command and its subcommands."""

from __future__ import annotations

import typer

from bursar.cli import operate, show
from bursar.cli.demo import demo
from bursar.cli.replay import replay
from bursar.cli.serve import check_policy, serve

app = typer.Typer(
    name="bursar",
    help="The budget authority for LLM spend.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command()(serve)
app.command("check-policy")(check_policy)
operate.add_to(app)
show.add_to(app)
app.command()(replay)
app.command()(demo)

if __name__ == "__main__":
    app()
