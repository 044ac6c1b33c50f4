"""Policy documents as text: what YAML and JSON may say, and the traps of both.

Goal: a document means what it says to the people who wrote it, or is refused at its line. Method:
rows of texts with their faults, and the same document in both languages.
"""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
import yaml
from domain_builders import budget
from hypothesis import given, settings
from hypothesis import strategies as st
from test_policy_document import full

from bursar.domain.errors import Fault, PolicyInvalid
from bursar.domain.policy_document import PolicyDocument
from bursar.domain.policy_text import DEPTH_MAX, DOCUMENT_BYTES_MAX, parse_policy

HEAD = "org: acme\nbudgets:\n"


def faults(text: str) -> dict[str, str]:
    with pytest.raises(PolicyInvalid) as caught:
        parse_policy(text, "policy.yaml")
    assert str(caught.value).startswith("the policy in policy.yaml is refused:\n  ")
    return {fault.path: fault.description for fault in caught.value.faults}


def one(settings_text: str) -> PolicyDocument:
    return parse_policy(f"{HEAD}  - {{name: a, window: day, {settings_text}}}", "policy.yaml")


REFUSED = {
    "nothing": ("", "(document)", "must be a mapping with org and budgets"),
    "a comment": ("# later", "(document)", "must be a mapping with org and budgets"),
    "null": ("~", "(document)", "must be a mapping with org and budgets"),
    "a list": ("- org: acme", "(document)", "must be a mapping"),
    "a JSON list": ("[1]", "(document)", "must be a mapping"),
    "a word": ("acme", "(document)", "must be a mapping"),
    "a key twice": ("org: a\norg: b", "line 2, column 1", "key 'org' is given twice"),
    "a key twice further in": (
        "org: a\nbudgets:\n  - {name: x, name: y}", "line 3, column 15", "'name' is given twice"),
    "a key twice in JSON": (
        '{"org": "a", "org": "b"}', "line 1, column 14", "key 'org' is given twice"),
    "a key twice, once as a number": ("1: a\n'1': b", "line 2, column 1", "key '1' is given twice"),
    "an alias": ("org: &a acme\ndescription: *a", "line 2, column 14", "aliases are not allowed"),
    "a bomb": ("a: &a [1]\nb: &b [*a, *a]", "line 2, column 8", "aliases are not allowed"),
    "a list as a key": ("{[a]: 1}", "line 1, column 2", "a key must be a text"),
    "a mapping as a key": ("? {a: b}\n: c", "line 1, column 3", "a key must be a text"),
    "a tag": ("org: !!str acme", "line 1, column 6", "tags are not allowed"),
    "a Python tag": ("org: !!python/object:os.x [x]", "line 1, column 6", "tags are not"),
    "a time that is none": ("org: !!timestamp 2026-13-45", "line 1, column 6", "tags are not"),
    "a local tag": ("org: !x acme", "line 1, column 6", "tags are not allowed"),
    "a bare tag": ("org: ! acme", "line 1, column 6", "tags are not allowed"),
    "a tag of a mapping": ("org: !!omap [a: 1]", "line 1, column 6", "tags are not allowed"),
    "two documents": ("org: a\n---\norg: b", "line 2, column 1", "another document"),
    "a tab before a key": (
        "org: acme\n\tbudgets: []", "line 2, column 1", "character '\\t' that cannot start"),
    "an open quote": ('org: "acme', "line 1, column 11", "unexpected end"),
    "an open bracket": ("org: [acme", "line 1, column 11", "expected ',' or ']'"),
    "a control character": ("org: a\x07", "(document)", "character 7, U+0007, is not allowed"),
    "half a character": ('org: "\ud800"', "(document)", "character 7, U+D800, is not allowed"),
    "an escape beyond Unicode": ('org: "\\U00110000"', "(document)", "is no YAML: chr()"),
    "an escape beyond C": ('org: "\\UFFFFFFFF"', "(document)", "is no YAML: "),
    "a version of many digits": (f"%YAML {'9' * 5000}.1\n---\na", "(document)", "is no YAML: "),
    "deep lists": ("[" * 100_000, "line 1, column 17", "nested more than 16 deep"),
    "deep JSON": ('{"a":' * 100_000, "line 1, column 77", "nested more than 16 deep"),
    "deep block lists": ("- " * 5_000 + "a", "line 1, column 33", "nested more than 16 deep"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "path", "description"), REFUSED.values(), ids=REFUSED)
def test_refused_texts(text: str, path: str, description: str) -> None:
    """Goal: what is no policy is refused at its place and crashes nothing. Method: rows."""
    [(found, said)] = faults(text).items()
    assert found == path
    assert description in said


# A value of YAML where a text is wanted, and what is wrong with it, or None.
SCALARS: dict[str, str | None] = {
    "on": None,
    "off": None,
    "yes": None,
    "No": None,
    "True": None,
    "NULL": None,
    "y": None,
    "1e3": None,
    "010": None,
    "0x1F": None,
    "0b11": None,
    "12:30": None,
    "2026-03-08": None,
    "2026-03-08T01:30:00Z": None,
    ".5": None,
    "5.": None,
    ".inf": None,
    ".nan": None,
    "1_": "must be a text",
    "<<": None,
    "=": None,
    "'5'": None,
    "true": "must be a text",
    "false": "must be a text",
    "null": "has no value",
    "~": "has no value",
    "''": "must be 1 to 256 bytes",
    "5": "must be a text",
    "-5": "must be a text",
    "1_000": "must be a text",
    "5.0": "must be a text",
    "9" * 30: "must be a text",
    "9" * 5000: "must be 1 to 256 bytes",
}


@pytest.mark.parametrize(("value", "fault"), SCALARS.items(), ids=[each[:20] for each in SCALARS])
def test_scalars_where_text_is_wanted(value: str, fault: str | None) -> None:
    """Goal: words stay words: no Norway, no octal, no time, no float. Method: a scope's value."""
    text = f"limit: {{tokens: 1}}, scope: {{team: [{value}]}}"
    if fault is None:
        [found] = one(text).budgets
        assert found.scope.team == [value.strip("'")]
    else:
        with pytest.raises(PolicyInvalid) as caught:
            one(text)
        [found_fault] = caught.value.faults
        assert found_fault.path == "budgets[0].scope.team[0]"
        assert fault in found_fault.description


NUMBERS = {
    "5": 5, "0": 0, "-0": 0, "+5": 5, "1_000": 1000, "9007199254740991": 2**53 - 1,
    "010": None, "0o10": None, "0x10": None, "1e3": None, "1E3": None, "1.0": None, "5.": None,
    "true": None, "on": None, "'5'": None, "1:30": None, "-1": None, "9007199254740992": None,
    "9" * 29: None, "9" * 31: None, "9" * 5000: None, "\u0665": None,
}  # fmt: skip
MONEY = {
    "5": "5", "0.1": "0.1", "1_000.50": "1000.50", "0.000000001": "0.000000001", "'0.60'": "0.60",
    "+0.5": "0.5", "9007199.254740991": "9007199.254740991", "0.10000000000000000000": "0.1",
    "9007199.254740992": None, "0.0000000001": None, "1e3": None, "1.5e3": None, "010": None,
    "00.5": None, ".5": None, "5.": None, "-0.01": None, "true": None, "'1,5'": None, "$5": None,
    ".inf": None, "5" + "0" * 40: None, "0." + "0" * 5000 + "1": None, "0." + "0" * 40: None,
}  # fmt: skip


@pytest.mark.parametrize(("written", "tokens"), NUMBERS.items(), ids=[n[:20] for n in NUMBERS])
def test_whole_numbers(written: str, tokens: int | None) -> None:
    """Goal: a number is what it looks like, or is refused at its path. Method: rows."""
    text = f"limit: {{tokens: {written}}}"
    if tokens is None:
        assert set(faults(f"{HEAD}  - {{name: a, window: day, {text}}}")) == {
            "budgets[0].limit.tokens"
        }
    else:
        assert one(text).budgets[0].limit.tokens == tokens


@pytest.mark.parametrize(("written", "usd"), MONEY.items(), ids=[m[:20] for m in MONEY])
def test_money(written: str, usd: str | None) -> None:
    """Goal: money is exact as written, or is refused at its path. Method: rows."""
    text = f"limit: {{usd: {written}}}"
    if usd is None:
        assert set(faults(f"{HEAD}  - {{name: a, window: day, {text}}}")) == {
            "budgets[0].limit.usd"
        }
    else:
        found = one(text).budgets[0].limit.usd
        assert found == Decimal(usd)
        assert isinstance(found, Decimal)


def test_modes_are_words() -> None:
    """Goal: `mode: off` is off, not false. Method: without quotes."""
    assert one("limit: {tokens: 1}, mode: off").budgets[0].mode == "off"


def test_keys_are_texts() -> None:
    """Goal: a key that looks like a number, a flag or a merge is the text. Method: unknown ones."""
    found = faults("org: acme\n1: x\ntrue: x\n~: x\non: x\n<<: {org: b}\n2026-01-01: x")
    assert set(found.values()) == {"is not a known setting"}
    assert set(found) == {"1", "true", "~", "on", "<<", "2026-01-01"}


def test_strange_keys_stay_readable() -> None:
    """Goal: a path can be printed whatever a key is. Method: half a character, and a long one."""
    found = faults('org: acme\n"a\\nb": x\n"' + "k" * 1_000 + '": x')
    assert set(found) == {"a\\nb", "k" * 100}
    assert faults('org: acme\n"\\ud800": ~') == {
        "\\ud800": "has no value; give one or leave the setting out",
        "(document)": "is no valid Unicode text",
    }
    assert faults('org: acme\n"\\ud800": x') == {"(document)": "is no valid Unicode text"}
    twice = faults('"\\ud800": x\n"\\ud800": x')
    assert twice == {"line 2, column 1": "key '\\ud800' is given twice"}


def test_times_of_a_fixed_window() -> None:
    """Goal: a time without quotes is read with its offset. Method: two ways to write one."""
    window = "window: {from: 2026-01-01T00:00:00+09:00, until: 2026-01-01 00:00:00Z}"
    parsed = parse_policy(f"{HEAD}  - {{name: a, limit: {{tokens: 1}}, {window}}}", "policy.yaml")
    from_time, until = parsed.budgets[0].window.from_time, parsed.budgets[0].window.until  # type: ignore[union-attr]
    assert (until - from_time).total_seconds() == 9 * 3600


@pytest.mark.parametrize("first", ["", "\ufeff"], ids=["plain", "with a byte order mark"])
@pytest.mark.parametrize("indent", [None, 2, "\t"], ids=["compact", "spaces", "tabs"])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_json_is_the_same(first: str, indent: int | str | None, ascii_only: bool) -> None:
    """Goal: a policy as JSON is the policy as YAML. Method: one with everything, and an emoji."""
    content = full() | {"description": 'für 😀 \u2028 / \\ "'}
    expected = parse_policy(yaml.safe_dump(content, allow_unicode=True), "policy.yaml")
    text = json.dumps(content, indent=indent, ensure_ascii=ascii_only)
    assert parse_policy(first + text, "policy.json") == expected


JSON_NUMBERS = {
    "5": Decimal(5), "0.1": Decimal("0.1"), "1e3": None, "1E-3": None, "NaN": None,
    "Infinity": None, "-0.5": None, "9" * 5000: None, "0." + "0" * 5000 + "1": None,
}  # fmt: skip


@pytest.mark.parametrize(
    ("written", "usd"), JSON_NUMBERS.items(), ids=[each[:9] for each in JSON_NUMBERS]
)
def test_numbers_of_json(written: str, usd: Decimal | None) -> None:
    """Goal: JSON's numbers never become floats, and its other numbers are refused. Method: rows."""
    text = json.dumps({"org": "acme", "budgets": [budget(limit={"usd": "HERE"})]})
    text = text.replace('"HERE"', written)
    if usd is None:
        assert set(faults(text)) == {"budgets[0].limit.usd"}
    else:
        assert parse_policy(text, "policy.json").budgets[0].limit.usd == usd


texts = st.text(
    st.characters(exclude_categories=("C", "Zl", "Zp"), exclude_characters="\x7f"), max_size=6
)


@settings(max_examples=60, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | texts,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
        max_leaves=8,
    )
)
def test_any_json_is_refused_alike(content: object) -> None:
    """Goal: JSON and YAML are refused for the same reasons. Method: any content as a setting."""
    text = json.dumps({"org": "acme", "timezone": content}, ensure_ascii=False)

    def seen(written: str) -> tuple[Fault, ...] | PolicyDocument:
        try:
            return parse_policy(written, "policy")
        except PolicyInvalid as error:
            return error.faults

    # A comment makes it YAML and nothing else.
    assert seen(text) == seen(f"# YAML\n{text}")


def test_size() -> None:
    """Goal: a document has at most 4 MiB, in bytes, and is refused before it is read.

    Method: n and n+1 bytes, the second one of a character of two.
    """
    text = "org: acme #"
    fill = "x" * (DOCUMENT_BYTES_MAX - len(text))
    assert parse_policy(text + fill, "policy.yaml").org == "acme"
    assert faults(text + fill[:-1] + "é") == {
        "(document)": f"is {DOCUMENT_BYTES_MAX + 1} bytes, more than {DOCUMENT_BYTES_MAX}"
    }


def test_depth() -> None:
    """Goal: nesting is bounded, not by the interpreter. Method: n and n+1 levels."""
    deepest = "[" * (DEPTH_MAX - 1) + "]" * (DEPTH_MAX - 1)
    assert faults(f"org: {deepest}").keys() == {"org"}
    assert "deep" in faults(f"org: [{deepest}]").popitem()[1]
