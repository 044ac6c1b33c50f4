"""Policy documents as text: YAML or JSON, read strictly."""

from __future__ import annotations

import json
import re
from collections.abc import Hashable
from decimal import Decimal
from typing import Any

import yaml

from bursar.domain.errors import Fault, PolicyInvalid
from bursar.domain.policy_document import PolicyDocument
from bursar.domain.policy_faults import shown
from bursar.domain.policy_validation import validate_policy

DOCUMENT_BYTES_MAX = 4 * 1024 * 1024

DEPTH_MAX = 16
"""How deep mappings and lists may be nested; what a policy can say is 7 deep."""

_WHOLE = r"[-+]?(?:0|[1-9][0-9_]{0,29})"
_IS_WHOLE = re.compile(rf"^{_WHOLE}$")
_IS_DECIMAL = re.compile(rf"^{_WHOLE}\.[0-9]{{1,30}}$")


class _StrictLoader(yaml.SafeLoader):
    """YAML as people mean it in a policy.

    Decimals stay exact, `on` and `off` are words, times stay text, keys are text, a repeated key is
    an error, and so are tags, which change what a value is, and aliases, which could make a small
    document huge. A number that has another form than usual, such as `010` or `1e3`, stays text:
    it is then refused at its place in the document.
    """

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            raise _refusal("aliases are not allowed", event)
        if event.tag is not None:
            raise _refusal("tags are not allowed; put text in quotes", event)
        if self._depth == DEPTH_MAX:
            raise _refusal(f"is nested more than {DEPTH_MAX} deep", event)
        self._depth += 1
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        mapping: dict[Hashable, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise _refusal("a key must be a text", key_node)
            if key_node.value in mapping:
                raise _refusal(f"key {shown(key_node.value)} is given twice", key_node)
            mapping[key_node.value] = self.construct_object(value_node, deep=deep)
        return mapping


def _refusal(problem: str, at: Any) -> yaml.MarkedYAMLError:  # noqa: ANN401 - event or node
    return yaml.MarkedYAMLError(problem=problem, problem_mark=at.start_mark)


def _decimal(loader: _StrictLoader, node: yaml.ScalarNode) -> Decimal:
    return Decimal(str(loader.construct_scalar(node)).replace("_", ""))


_StrictLoader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false)$"), "tf"),
    ("tag:yaml.org,2002:null", re.compile(r"^(?:null|~|)$"), ["n", "~", ""]),
    ("tag:yaml.org,2002:int", _IS_WHOLE, "-+0123456789"),
    ("tag:yaml.org,2002:float", _IS_DECIMAL, "-+0123456789"),
):
    _StrictLoader.add_implicit_resolver(_tag, _pattern, list(_first))
_StrictLoader.add_constructor("tag:yaml.org,2002:float", _decimal)


def parse_policy(text: str, source: str) -> PolicyDocument:
    """Read a policy document.

    Args:
        text: YAML or JSON; at most DOCUMENT_BYTES_MAX bytes.
        source: What to call it in an error, such as a file's name.

    Raises:
        PolicyInvalid: The text is no YAML or the document has faults; every one is listed.
    """
    size = len(text.encode(errors="surrogatepass"))
    if size > DOCUMENT_BYTES_MAX:
        fault = f"is {size} bytes, more than {DOCUMENT_BYTES_MAX}"
        raise PolicyInvalid(source, (Fault("(document)", fault),))
    try:
        content = _parse_json(text) or yaml.load(text, Loader=_StrictLoader)  # noqa: S506 - safe
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        assert mark is not None, "what is raised while a text is read has its place"
        place = f"line {mark.line + 1}, column {mark.column + 1}"
        raise PolicyInvalid(source, (Fault(place, str(error.problem)),)) from None
    except yaml.reader.ReaderError as error:
        fault = f"character {error.position + 1}, U+{error.character:04X}, is not allowed"
        raise PolicyInvalid(source, (Fault("(document)", fault),)) from None
    except (ValueError, OverflowError) as error:
        # What PyYAML does not guard against, such as an escape beyond Unicode.
        raise PolicyInvalid(source, (Fault("(document)", f"is no YAML: {error}"),)) from None
    if not isinstance(content, dict):
        fault = "must be a mapping with org and budgets"
        raise PolicyInvalid(source, (Fault("(document)", fault),))
    return validate_policy(content, source)


def _parse_json(text: str) -> object:
    """Return what a JSON document says, or None where it is none, or has something to refuse.

    YAML has nearly all of JSON in it, but no tabs and no characters written as two escapes. What
    is wrong with a document is left to the reader of YAML to say.
    """
    if not text.lstrip("\ufeff \t\r\n").startswith("{"):
        return None
    try:
        return json.loads(
            text.removeprefix("\ufeff"),
            object_pairs_hook=_unique,
            parse_int=_json_number,
            parse_float=_json_number,
            parse_constant=str,
        )
    except (ValueError, RecursionError):
        return None


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        raise ValueError("a key is given twice")
    return mapping


def _json_number(text: str) -> int | Decimal | str:
    if _IS_WHOLE.match(text):
        return int(text)
    return Decimal(text) if _IS_DECIMAL.match(text) else text
