"""The `bursar` command as a process: `python -m bursar.cli.main` is the same."""

from __future__ import annotations

import sys

from bursar.cli.commands import program
from bursar.cli.garbage import none_looked_for
from bursar.cli.printing import print_error

EXIT_USAGE = 2


def run() -> None:
    """Run the command of this process's arguments, under the same name however it is started."""
    try:
        "".join(sys.argv).encode()
    except UnicodeEncodeError:
        print_error("an argument is no valid UTF-8")
        sys.exit(EXIT_USAGE)
    with none_looked_for():
        bursar = program(only_for=sys.argv[1] if len(sys.argv) > 1 else "")
    bursar(prog_name="bursar")


if __name__ == "__main__":
    run()
