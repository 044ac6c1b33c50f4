"""`docs/reference/policy.schema.json`: a JSON Schema of policy documents, for editors and CI.

It describes one document as JSON. What contradicts itself between fields is beyond a schema:
`bursar check-policy` has the last word.
"""

from __future__ import annotations

import json
from typing import Any, get_args

from pydantic import AfterValidator, BeforeValidator
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from bursar.domain import policy_values
from bursar.domain.policy_document import PolicyDocument
from reference.policy_texts import FIELDS, MODELS

DIALECT = "https://json-schema.org/draft/2020-12/schema"

MONEY_PATTERN = r"^(0|[1-9][0-9]{0,29})(\.[0-9]{1,30})?$"
DURATION_PATTERN = r"^(?=[0-9])([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$"
IDENTIFIER_PATTERN = r"^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$"

PARTITION_PATTERN = rf"^({'|'.join(policy_values.MATCHABLE)}|labels\.[a-z][a-z0-9_.-]{{0,62}})$"
LABEL_KEY_PATTERN = r"^[a-z][a-z0-9_.-]{0,62}$"
METER_PATTERN = r"^[a-z][a-z0-9_]{0,62}$"
ACTIONS = ("switch_model", "cap_output", "finish", "serve_cached", "queue", "deny", "notify")

# What a model's own validator says, as far as a schema can.
BESIDES: dict[str, dict[str, Any]] = {
    "LimitDocument": {"minProperties": 1, "maxProperties": 1},
    "OverdraftDocument": {"minProperties": 1, "maxProperties": 1},
    "CarryMostDocument": {"minProperties": 1, "maxProperties": 1},
    "CarryOverDocument": {
        "anyOf": [
            {"required": [name], "properties": {name: {"const": True}}}
            for name in ("unused", "debt")
        ]
    },
    "RungDocument": {"anyOf": [{"required": [action]} for action in ACTIONS]},
    "BudgetDocument": {
        "anyOf": [
            {"required": ["window"]},
            {"properties": {"limit": {"required": ["concurrency"]}}},
        ]
    },
}
# What the texts in a list are like.
ITEMS = {
    ("BudgetDocument", "per"): {"pattern": PARTITION_PATTERN},
    ("PolicyDocument", "meters"): {"pattern": METER_PATTERN},
}


def _validator(annotated: Any) -> Any:  # noqa: ANN401 - an Annotated type is no type
    """Return the function that an Annotated type validates with."""
    found = (AfterValidator, BeforeValidator)
    return next(each.func for each in get_args(annotated) if isinstance(each, found))


# What a validator written in Python says, in the words of JSON Schema.
AFTER = {
    _validator(policy_values.Identifier): {"pattern": IDENTIFIER_PATTERN},
    _validator(policy_values.Duration): {"pattern": DURATION_PATTERN},
    _validator(policy_values.Text): {
        "minLength": 1,
        "maxLength": policy_values.TEXT_BYTES_MAX,
    },
    _validator(policy_values.Message): {"maxLength": policy_values.MESSAGE_CHARS_MAX},
    _validator(policy_values.LabelKey): {"pattern": LABEL_KEY_PATTERN},
}
TEXT_OR_LIST = _validator(policy_values.Patterns)


class _PolicySchema(GenerateJsonSchema):
    """Adds what pydantic cannot see in validators that are functions."""

    def function_after_schema(
        self, schema: core_schema.AfterValidatorFunctionSchema
    ) -> JsonSchemaValue:
        """Return a type's schema with what its validator asks for besides."""
        return super().function_after_schema(schema) | AFTER.get(schema["function"]["function"], {})

    def function_before_schema(
        self, schema: core_schema.BeforeValidatorFunctionSchema
    ) -> JsonSchemaValue:
        """Return a list's schema so that a single text stands for a list of one."""
        inner = super().function_before_schema(schema)
        if schema["function"]["function"] is not TEXT_OR_LIST:
            return inner
        return {"anyOf": [inner["items"], inner]}


def policy_schema() -> dict[str, Any]:
    """Return the JSON Schema of a policy document.

    Raises:
        KeyError: A model or field has no text, or a text belongs to none.
    """
    schema = PolicyDocument.model_json_schema(by_alias=True, schema_generator=_PolicySchema)
    models = {**schema.pop("$defs"), "PolicyDocument": schema}
    if models.keys() ^ MODELS.keys():
        raise KeyError(f"without text, or without model: {models.keys() ^ MODELS.keys()}")
    for name, model in models.items():
        _describe(name, model)
    published = _standard(models.pop("PolicyDocument"))
    definitions = {_short(name): _standard(models[name]) for name in MODELS if name in models}
    return {"$schema": DIALECT, **published, "$defs": definitions}


def schema_text() -> str:
    """Return the file."""
    return json.dumps(policy_schema(), indent=2) + "\n"


def _describe(name: str, model: dict[str, Any]) -> None:
    """Put title and texts into a model's schema."""
    texts = FIELDS[name]
    if model["properties"].keys() ^ texts.keys():
        raise KeyError(f"{name}: {model['properties'].keys() ^ texts.keys()}")
    model["title"], model["description"] = MODELS[name]
    for field, field_schema in model["properties"].items():
        field_schema.pop("title", None)
        field_schema["description"] = texts[field]
        for part in field_schema.get("anyOf", [field_schema]):
            part.get("items", part).update(ITEMS.get((name, field), {}))
    model.update(BESIDES.get(name, {}))


def _short(name: str) -> str:
    return name.removesuffix("Document")


def _standard(node: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Return a schema in the words of the standard alone, with our names of models."""
    if isinstance(node, list):
        return [_standard(each) for each in node]
    if not isinstance(node, dict):
        return node
    if "ge" in node and "le" in node:
        rest = {key: value for key, value in node.items() if key not in ("anyOf", "ge", "le")}
        return {**_money(float(node["ge"]), float(node["le"])), **rest}
    if {"type": "null"} in node.get("anyOf", ()):
        # A setting without a value is refused: it is left out.
        others = [each for each in node["anyOf"] if each != {"type": "null"}]
        rest = {key: value for key, value in node.items() if key != "anyOf"}
        node = {**rest, **(others[0] if len(others) == 1 else {"anyOf": others})}
        return _standard(node)
    if "patternProperties" in node:
        # Said so that a key of another form is refused too.
        [(pattern, value)] = node["patternProperties"].items()
        rest = {key: each for key, each in node.items() if key != "patternProperties"}
        names = {"propertyNames": {"pattern": pattern}, "additionalProperties": value}
        return _standard(rest | names)
    found = {}
    for key, value in node.items():
        if key == "$ref":
            found[key] = "#/$defs/" + _short(value.rpartition("/")[2])
        elif key == "default" and (value is None or isinstance(value, dict)):
            continue  # It says the same as leaving the field out.
        else:
            found[key] = _standard(value)
    return found


def _money(least: float, most: float) -> dict[str, Any]:
    return {
        "anyOf": [
            {"type": "number", "minimum": least, "maximum": most},
            {"type": "string", "pattern": MONEY_PATTERN},
        ]
    }
