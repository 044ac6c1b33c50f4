"""The variables of the environment that settings are read from, and what is wrong with them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping

from pydantic import ValidationError

from bursar.service.settings import PREFIX, Settings

# Other programs of the project read these; they are no settings of the server.
OTHER_PREFIXES = ("BURSAR_TEST_", "BURSAR_FAILPOINTS")

# Kubernetes adds these to every container in the namespace of a Service named bursar or
# bursar-something. Its <SERVICE>_PORT is told from a misspelt setting by its value.
SERVICE_LINK = re.compile(
    r"[A-Z0-9_]+_(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?"
    r"|PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)"
)
SERVICE_LINK_PORT = re.compile(r"(?:tcp|udp|sctp)://.*")


def variable(field: str) -> str:
    """Return the environment variable of a field of Settings."""
    return PREFIX + field.upper()


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """List the BURSAR_* variables that no setting reads.

    Args:
        environ: The environment, such as os.environ.

    Returns:
        One line for each, with the nearest setting's name where one is near; never a value.
    """
    known = [variable(field) for field in Settings.model_fields]
    lines = []
    for name in sorted(environ):
        upper = name.upper()
        if not upper.startswith(PREFIX) or upper in known or upper.startswith(OTHER_PREFIXES):
            continue
        if _is_service_link(name, environ[name]):
            continue
        nearest = difflib.get_close_matches(upper, known, n=1, cutoff=0.75)
        hint = f"; did you mean {nearest[0]}?" if nearest else ""
        lines.append(f"{name} is no setting{hint}")
    return lines


def _is_service_link(name: str, value: str) -> bool:
    """Say whether Kubernetes put this variable into the environment for a Service."""
    if name.endswith("_PORT") and SERVICE_LINK_PORT.fullmatch(value):
        return True
    return SERVICE_LINK.fullmatch(name) is not None


def fault_lines(error: ValidationError) -> list[str]:
    """List what is wrong with the settings, one line for each variable, without its value."""
    lines = []
    for fault in error.errors(include_input=False, include_url=False, include_context=False):
        name = variable(str(fault["loc"][0])) + ": " if fault["loc"] else ""
        lines.append(name + fault["msg"].removeprefix("Value error, "))
    return lines
