"""Generate the reference pages from the code that they describe.

Run it with `make gen`. `--check` writes nothing and fails where a page differs from
what the code says.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from reference.api_page import api_page
from reference.cli_page import cli_page
from reference.errors_page import errors_page
from reference.policy_page import policy_page
from reference.policy_schema import schema_text
from reference.settings_page import settings_page

ROOT = Path(__file__).resolve().parent.parent

# Each generated file, relative to the root, and the function that returns its text.
PAGES: dict[str, Callable[[], str]] = {
    "docs/reference/api.md": api_page,
    "docs/reference/cli.md": cli_page,
    "docs/reference/errors.md": errors_page,
    "docs/reference/policy.md": policy_page,
    "docs/reference/policy.schema.json": schema_text,
    "docs/reference/settings.md": settings_page,
}


def main() -> int:
    """Generate, or check that nothing would change."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail where a file would change")
    parser.add_argument("--root", type=Path, default=ROOT, help="where the pages are")
    arguments = parser.parse_args()
    stale = []
    for name, render in PAGES.items():
        path, text = arguments.root / name, render()
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if not arguments.check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    if not arguments.check:
        return 0
    for name in stale:
        sys.stderr.write(f"{name} is not what the code says; run `make gen`\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
