"""Policy documents as text: YAML or JSON, read strictly."""

from __future__ import annotations

import re
from collections.abc import Hashable
from decimal import Decimal
from typing import Any

import yaml

from bursar.domain.errors import Fault, PolicyInvalid
from bursar.domain.policy_document import PolicyDocument, validate_policy

DOCUMENT_BYTES_MAX = 4 * 1024 * 1024


class _StrictLoader(yaml.SafeLoader):
    """YAML as people mean it in a policy.

    Decimals stay exact, `on` and `off` are words, times stay text, a repeated key is an error, and
    there are no aliases, which could make a small document huge.
    """

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(
                problem="aliases are not allowed", problem_mark=event.start_mark
            )
        node: yaml.Node | None = super().compose_node(parent, index)
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = key_node.value
            if key in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"key {key!r} is given twice", problem_mark=key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def _decimal(loader: _StrictLoader, node: yaml.ScalarNode) -> Decimal:
    return Decimal(str(loader.construct_scalar(node)).replace("_", ""))


_StrictLoader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("tag:yaml.org,2002:bool", r"^(?:true|false)$", "tf"),
    ("tag:yaml.org,2002:null", r"^(?:null|~|)$", ["n", "~", ""]),
    ("tag:yaml.org,2002:int", r"^[-+]?(?:0|[1-9][0-9_]*)$", "-+0123456789"),
    ("tag:yaml.org,2002:float", r"^[-+]?[0-9][0-9_]*\.[0-9]+$", "-+0123456789"),
):
    _StrictLoader.add_implicit_resolver(_tag, re.compile(_pattern), list(_first))
_StrictLoader.add_constructor("tag:yaml.org,2002:float", _decimal)


def parse_policy(text: str, source: str) -> PolicyDocument:
    """Read a policy document.

    Args:
        text: YAML, or JSON, which is YAML too; at most DOCUMENT_BYTES_MAX bytes.
        source: What to call it in an error, such as a file's name.

    Raises:
        PolicyInvalid: The text is no YAML or the document has faults; every one is listed.
    """
    size = len(text.encode())
    if size > DOCUMENT_BYTES_MAX:
        fault = f"is {size} bytes, more than {DOCUMENT_BYTES_MAX}"
        raise PolicyInvalid(source, (Fault("(document)", fault),))
    try:
        content = yaml.load(text, Loader=_StrictLoader)  # noqa: S506 - a subclass of SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "(document)"
        raise PolicyInvalid(source, (Fault(place, str(error.problem)),)) from None
    except (yaml.YAMLError, RecursionError) as error:
        raise PolicyInvalid(source, (Fault("(document)", str(error)),)) from None
    if not isinstance(content, dict):
        fault = "must be a mapping with org and budgets"
        raise PolicyInvalid(source, (Fault("(document)", fault),))
    return validate_policy(content, source)
