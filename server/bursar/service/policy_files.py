"""Policy files that a server is started with: read and checked before anything is opened."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import structlog

from bursar.domain.errors import Fault, PolicyInvalid
from bursar.domain.policy_lint import lint
from bursar.domain.policy_text import parse_policy

_log = structlog.get_logger(__name__)


def read_policy_files(files: Sequence[Path]) -> list[tuple[str, str]]:
    """Return name and text of each file; warnings are logged.

    Raises:
        PolicyInvalid: A file cannot be read or its document has faults, or two are of one org.
    """
    found: list[tuple[str, str]] = []
    orgs: set[str] = set()
    for file in files:
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise PolicyInvalid(str(file), (Fault("(file)", f"cannot be read: {error}"),)) from None
        document = parse_policy(text, str(file))
        if document.org in orgs:
            fault = Fault("org", f"{document.org!r} has a policy already; give one file for each")
            raise PolicyInvalid(str(file), (fault,))
        orgs.add(document.org)
        for warning in lint(document):
            _log.warning(
                "policy_warning", file=str(file), path=warning.path, why=warning.description
            )
        found.append((file.name, text))
    return found
