"""Data folders of a private PostgreSQL: one is made for the whole run, and every other is a copy.

To make one takes seconds of a processor and hundreds of syncs; a test that is not about the very
first start of a PostgreSQL learns nothing from them.
"""

from __future__ import annotations

import atexit
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from bursar.embedded.postgres_cluster import Cluster
from bursar.embedded.postgres_programs import find_postgres, user_for

COPY_TIMEOUT_S = 60.0


def make_postgres_data(folder: Path) -> Path:
    """Let a folder of `EmbeddedPostgres` have its data already, as a first start leaves them.

    Args:
        folder: What `EmbeddedPostgres` is given; one that has data is left as it is.

    Returns:
        The same folder.
    """
    if not (folder / "data").exists():
        folder.mkdir(parents=True, exist_ok=True)
        # Keeps owner and mode, which PostgreSQL insists on.
        subprocess.run(
            ["cp", "-a", str(_original() / "data"), str(folder / "data")],
            check=True,
            timeout=COPY_TIMEOUT_S,
        )
    return folder


@cache
def _original() -> Path:
    """Make the data that are copied; they are removed when the run ends."""
    folder = Path(tempfile.mkdtemp(prefix="bursar-postgres-data-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    cluster = Cluster(folder / "data", user_for(folder / "data"))
    programs = find_postgres(None, cluster.run_as)
    assert programs is not None, "there is no PostgreSQL here"
    cluster.create(programs)
    return folder
