"""Generated files are what their sources say, and the published schema is that of the server."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from json_schema import violations

from bursar.domain.errors import PolicyInvalid
from bursar.domain.policy_text import parse_policy

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "docs" / "reference"
SCHEMA: dict[str, Any] = json.loads((REFERENCE / "policy.schema.json").read_text("utf-8"))


def run_script(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a script of the repository so that it leaves nothing behind."""
    return subprocess.run(
        [sys.executable, "-B", str(ROOT / "scripts" / name), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


@pytest.mark.parametrize("script", ["generate_protos.py", "generate_reference.py"])
def test_generated_files_are_current(script: str) -> None:
    """Goal: nobody forgets `make gen`. Method: generate again and compare; nothing is written."""
    result = run_script(script, "--check")
    assert result.returncode == 0, result.stderr


def test_a_stale_page_is_noticed(tmp_path: Path) -> None:
    """Goal: the test above can fail. Method: check copies, of which two are not current."""
    copies = tmp_path / "docs" / "reference"
    shutil.copytree(REFERENCE, copies)
    with (copies / "errors.md").open("a", encoding="utf-8") as page:
        page.write("one more line\n")
    (copies / "policy.schema.json").unlink()
    before = {path.name: path.read_bytes() for path in copies.iterdir()}
    result = run_script("generate_reference.py", "--check", "--root", str(tmp_path))
    assert result.returncode == 1
    assert re.findall(r"^docs/reference/(\S+) is not", result.stderr, re.MULTILINE) == [
        "errors.md",
        "policy.schema.json",
    ]
    assert {path.name: path.read_bytes() for path in copies.iterdir()} == before
    assert run_script("generate_reference.py", "--root", str(tmp_path)).returncode == 0
    for path in REFERENCE.iterdir():
        assert (copies / path.name).read_bytes() == path.read_bytes()


def as_json(text: str) -> Any:  # noqa: ANN401 - any JSON value
    """Return a policy as an editor sees it: numbers are numbers, times are texts."""

    class Loader(yaml.SafeLoader):
        """YAML without times, and with `on` and `off` as words."""

    resolvers = yaml.SafeLoader.yaml_implicit_resolvers.items()
    Loader.yaml_implicit_resolvers = {
        first: [each for each in pairs if not each[0].endswith((":timestamp", ":bool"))]
        for first, pairs in resolvers
    }
    Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("true|false"), list("tf"))
    return json.loads(json.dumps(yaml.load(text, Loader=Loader)))  # noqa: S506 - a safe loader


def is_accepted(text: str) -> bool:
    """Whether the server takes a policy."""
    try:
        parse_policy(text, "the test")
    except PolicyInvalid:
        return False
    return True


def budget(fields: str) -> str:
    """Return a policy with one budget that has these fields besides its name."""
    return f"org: acme\nbudgets:\n  - {{name: b, {fields}}}\n"


LIMIT = "limit: {usd: 1}, window: day"

ACCEPTED = {
    "example": (ROOT / "examples" / "acme.yaml").read_text("utf-8"),
    "org-alone": "org: acme",
    "decimal": budget("limit: {usd: 0.60}, window: day"),
    "decimal-as-text": budget('limit: {usd: "0.60"}, window: day'),
    "most-money": budget('limit: {usd: "9007199.254740991"}, window: day'),
    "unlimited": budget("limit: {usd: unlimited}, window: day"),
    "zero": budget("limit: {tokens: 0}, window: day"),
    "concurrency-without-window": budget("limit: {concurrency: 1}"),
    "rolling": budget("limit: {requests: 1}, window: {rolling: 1h30m}"),
    "task": budget("limit: {usd: 1}, window: {task: 2h}, per: task"),
    "fixed": budget(
        "limit: {usd: 1}, window: {from: 2026-01-01T00:00:00Z, until: 2026-02-01T00:00:00+01:00}"
    ),
    "calendar": budget(f"{LIMIT}, timezone: Asia/Tokyo"),
    "week": budget("limit: {usd: 1}, window: week, week_start: sunday"),
    "mode-off-is-a-word": budget(f"{LIMIT}, mode: off"),
    "scope": budget(f"{LIMIT}, scope: {{team: [a, b], model: 'gpt-5*', labels: {{tier: free}}}}"),
    "per": budget(f"{LIMIT}, per: [user, labels.tier]"),
    "ladder": budget(f"{LIMIT}, ladder: [{{at: 80, finish: true}}, {{at: 100, deny: true}}]"),
    "switch": budget(f"{LIMIT}, ladder: [{{at: 80, switch_model: {{from: a, to: b}}}}]"),
    "notify": budget(f"{LIMIT}, ladder: [{{at: 80, notify: true, message: '{{percent}} %'}}]"),
    "overdraft": budget(f"{LIMIT}, overdraft: {{percent: 10}}"),
    "headroom": budget(f"{LIMIT}, priority_headroom: {{low: 70}}"),
    "custom-meter": "org: acme\nmeters: [images]\nbudgets: "
    "[{name: b, limit: {images: 5}, window: day, overdraft: {images: 1}}]",
    "price": "org: acme\nmodels: [{match: m, price: {input: 0.000001, output: '2.5'}}]",
    "fallback": "org: acme\nunpriced: {fallback: {input: 1, output: 2, request: 0.01}}",
}

REFUSED = {
    "no-org": "budgets: []",
    "org-in-capitals": "org: Acme",
    "unknown-key": "org: acme\nbudget: []",
    "unknown-key-of-a-budget": budget(f"{LIMIT}, anchor_dy: 3"),
    "no-name": "org: acme\nbudgets: [{limit: {usd: 1}, window: day}]",
    "no-limit": budget("window: day"),
    "no-window": budget("limit: {usd: 1}"),
    "no-value": budget("limit: {usd: 1}, window: day, timezone: null"),
    "two-meters": budget("limit: {usd: 1, tokens: 5}, window: day"),
    "no-meter": budget("limit: {}, window: day"),
    "money-as-a-word": budget("limit: {usd: plenty}, window: day"),
    "money-with-an-exponent": budget('limit: {usd: "1e3"}, window: day'),
    "money-below-0": budget("limit: {usd: -1}, window: day"),
    "money-beyond-2-53": budget("limit: {usd: 9007200}, window: day"),
    "money-as-a-boolean": budget("limit: {usd: true}, window: day"),
    "tokens-as-text": budget('limit: {tokens: "5"}, window: day'),
    "tokens-in-parts": budget("limit: {tokens: 1.5}, window: day"),
    "unknown-window": budget("limit: {usd: 1}, window: fortnight"),
    "duration-without-a-unit": budget('limit: {usd: 1}, window: {rolling: "60"}'),
    "duration-in-another-order": budget("limit: {usd: 1}, window: {rolling: 5m1h}"),
    "per-unknown": budget(f"{LIMIT}, per: [city]"),
    "per-a-label-without-key": budget(f"{LIMIT}, per: [labels.]"),
    "empty-scope": budget(f"{LIMIT}, scope: {{team: []}}"),
    "label-key": budget(f"{LIMIT}, scope: {{labels: {{Tier: free}}}}"),
    "unknown-mode": budget(f"{LIMIT}, mode: soft"),
    "percent-0": budget(f"{LIMIT}, ladder: [{{at: 0, deny: true}}]"),
    "percent-101": budget(f"{LIMIT}, alerts: [101]"),
    "rung-without-action": budget(f"{LIMIT}, ladder: [{{at: 80}}]"),
    "finish-false": budget(f"{LIMIT}, ladder: [{{at: 80, finish: false}}]"),
    "too-many-rungs": budget(f"{LIMIT}, ladder: [{', '.join(['{at: 80, deny: true}'] * 9)}]"),
    "anchor-day-32": budget("limit: {usd: 1}, window: month, anchor_day: 32"),
    "overdraft-twice": budget(f"{LIMIT}, overdraft: {{percent: 10, usd: 1}}"),
    "price-without-output": "org: acme\nmodels: [{match: m, price: {input: 1}}]",
    "meter-name": "org: acme\nmeters: [Images]",
}


@pytest.mark.parametrize(
    ("text", "accepted"),
    [
        *(pytest.param(text, True, id=name) for name, text in ACCEPTED.items()),
        *(pytest.param(text, False, id=name) for name, text in REFUSED.items()),
    ],
)
def test_schema_and_server_agree(text: str, accepted: bool) -> None:
    """Goal: an editor with the schema says what the server will say.

    Method: documents with one thing to see each, by both; what only the server can know, such as
    time zones and settings that contradict each other, is not among them.
    """
    assert is_accepted(text) is accepted
    assert (violations(as_json(text), SCHEMA, SCHEMA) == []) is accepted


def test_the_validator_knows_every_word() -> None:
    """Goal: no rule of the schema is passed over. Method: the validator refuses unknown words."""
    with pytest.raises(ValueError, match="dependentRequired"):
        violations({}, {"dependentRequired": {}}, {})
