"""`docs/reference/policy.md`: every field of a policy document."""

from __future__ import annotations

from typing import Any

from reference.policy_schema import (
    DURATION_PATTERN,
    IDENTIFIER_PATTERN,
    METER_PATTERN,
    MONEY_PATTERN,
    PARTITION_PATTERN,
    policy_schema,
)
from reference.policy_texts import MODELS
from reference.tables import generated_head, table

HEAD = """
A policy document is YAML or JSON. It is read strictly: an unknown key, a key
given twice, an alias (`*name`) or a binary float is refused, with the path of the fault;
`on`, `off`, `yes` and `no` are words, times stay text, and a number with a decimal point is an
exact decimal. A tag (`!!str`) and a key without a value are refused too: a setting that is not
meant is left out. Numbers may have underscores: `limit: {tokens: 1_000_000}`.

`bursar check-policy FILE` tells every fault of a document, and warns of what is valid but odd.
[policy.schema.json](policy.schema.json) is the same as a JSON Schema, for editors; what
contradicts itself between two fields only `check-policy` finds. What budgets and windows mean is
in [budgets and windows](../concepts/budgets-and-windows.md), ladders are in
[degradation](../concepts/degradation.md).

| Type | What is written |
| --- | --- |
| identifier | 1 to 63 of `a-z`, `0-9` and `-`, beginning with a letter, not ending with `-` |
| text | 1 to 256 bytes without control characters |
| pattern | a text in which `*` stands for any characters, `?` for one, `[ab]` for one of these |
| duration | whole numbers with units, largest first: `90s`, `15m`, `24h`, `7d`, `1h30m`, `250ms`; \
1 ms to 400 days |
| money | a decimal, 0 to 9,007,199.254740991: `12`, `0.60` or `"0.60"`; a price is 0 to 100,000 \
with at most 12 decimals |
| name | 1 to 63 of `a-z`, `0-9` and `_`, beginning with a letter |
| attribute | `team`, `feature`, `agent`, `user`, `task`, `provider`, `model` or `labels.KEY` |
"""

NAMED_PATTERNS = {
    IDENTIFIER_PATTERN: "identifier",
    DURATION_PATTERN: "duration",
    METER_PATTERN: "name",
    PARTITION_PATTERN: "attribute",
}
PLURALS = {"text": "texts", "name": "names", "attribute": "attributes"}


def policy_page() -> str:
    """Return the page of policy documents."""
    schema = policy_schema()
    models = {"Policy": schema, **schema["$defs"]}
    parts = [generated_head("Policy documents", "server/bursar/domain/policy_document.py"), HEAD]
    for name, (title, text) in MODELS.items():
        model = models[name.removesuffix("Document")]
        required = model.get("required", [])
        rows = [
            (f"`{field}`", _type_text(each), _default_text(each, field in required), _own(each))
            for field, each in model["properties"].items()
        ]
        parts.append(f"\n## {title}\n\n{text}\n\n")
        parts.append(table(("Field", "Type", "Default", "Meaning"), rows))
    return "".join(parts)


def _own(schema: dict[str, Any]) -> str:
    return str(schema["description"])


def _default_text(schema: dict[str, Any], required: bool) -> str:
    if required:
        return "required"
    default = schema.get("default")
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if default in (None, "", []):
        return "none"
    return f"`{default:_}`" if isinstance(default, int) else f"`{default}`"


def _type_text(schema: dict[str, Any]) -> str:
    """Return a schema's type in words."""
    if "anyOf" in schema:
        kinds = [_type_text(each) for each in schema["anyOf"] if each.get("type") != "null"]
        if "money" in kinds:
            kinds = [kind for kind in kinds if not kind.startswith("number")]
        if any(kind.startswith("list of ") for kind in kinds) and "maxItems" in schema:
            kinds[-1] += f", at most {schema['maxItems']}"
        *first, last = dict.fromkeys(kinds)
        return f"{', '.join(first)} or {last}" if first else last
    if "$ref" in schema:
        title = MODELS[schema["$ref"].rpartition("/")[2] + "Document"][0]
        return f"[{title.lower()}](#{title.lower().replace(' ', '-')})"
    if "const" in schema:
        return f"`{str(schema['const']).lower()}`"
    if "enum" in schema:
        return ", ".join(f"`{each}`" for each in schema["enum"])
    return _plain_type_text(schema)


def _plural(kind: str) -> str:
    return PLURALS.get(kind, f"({kind})" if "," in kind else kind)


def _plain_type_text(schema: dict[str, Any]) -> str:
    match schema["type"]:
        case "array":
            most = f", at most {schema['maxItems']:_}" if "maxItems" in schema else ""
            return f"list of {_plural(_type_text(schema['items']))}{most}"
        case "integer" | "number":
            return f"{schema['type']}, {schema['minimum']:_} to {schema['maximum']:_}"
        case "boolean":
            return "`true` or `false`"
        case "object":
            return f"map to {_type_text(schema['additionalProperties'])}"
        case _:
            if schema.get("pattern") == MONEY_PATTERN:
                return "money"
            return NAMED_PATTERNS.get(schema.get("pattern", ""), "text")
