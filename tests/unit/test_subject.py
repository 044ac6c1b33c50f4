"""Subjects and targets: which attributes a budget can match, and targets as one text.

Goal: an absent level is absent, labels never pass for levels, and a target survives being stored.
Method: rows, and random targets.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bursar.domain.subject import (
    LEVELS,
    OrgId,
    Subject,
    Target,
    attributes,
    parse_target_key,
    target_key,
)

ACME = OrgId("acme")
NOTHING = Target("", "")
# What requests may carry has no control characters.
texts = st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=20)


def test_absent_levels_are_left_out() -> None:
    """Goal: an empty level is no value. Method: nothing given, then one level after another."""
    assert attributes(Subject(ACME), NOTHING) == {}
    for level in LEVELS:
        assert attributes(Subject(ACME, **{level: "x"}), NOTHING) == {level: "x"}
    assert attributes(Subject(ACME, labels={"a": ""}), NOTHING) == {}


def test_labels_never_pass_for_levels() -> None:
    """Goal: who sets labels cannot speak for a team. Method: labels named like attributes."""
    labels = {"team": "x", "model": "y", "labels.team": "z"}
    assert attributes(Subject(ACME, team="a", labels=labels), Target("p", "m")) == {
        "team": "a",
        "provider": "p",
        "model": "m",
        "labels.team": "x",
        "labels.model": "y",
        "labels.labels.team": "z",
    }


def test_case_of_targets_does_not_matter_but_of_subjects_it_does() -> None:
    """Goal: another spelling of a model leaves no budget. Method: both in capitals."""
    assert attributes(Subject(ACME, user="Ann"), Target("OpenAI", "GPT-5")) == {
        "user": "Ann",
        "provider": "openai",
        "model": "gpt-5",
    }


def test_target_as_people_read_it() -> None:
    """Goal: a target without provider reads well. Method: both."""
    assert str(Target("openai", "gpt-5")) == "openai/gpt-5"
    assert str(Target("", "gpt-5")) == "gpt-5"


@given(texts, texts, texts, texts)
def test_target_key_is_read_back(provider: str, model: str, provider2: str, model2: str) -> None:
    """Goal: targets and their keys go one to one. Method: any two, with separators of all kinds."""
    first, second = Target(provider, model), Target(provider2, model2)
    assert parse_target_key(target_key(first)) == first
    assert (target_key(first) == target_key(second)) == (first == second)
