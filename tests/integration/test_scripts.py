"""The Lua scripts as text: their headers, their three parts, and what Python mirrors of them.

`luacheck` is in no package index that this project installs from, so what matters most of it is
checked here: nothing is written before the write part, and every constant means the same in both
languages. Redis itself refuses a script that does not compile, and one that runs into an undeclared
global; `test_script_calls.py` runs them all.
"""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import pytest
import redis.asyncio as redis
from engine_commands import READS, WRITES

from bursar.domain.meter import COUNTER_MAX
from bursar.engine import keys, scripts, shards
from bursar.engine.keys import Keys
from bursar.engine.operations import (
    AdjustCode,
    EntryFlags,
    ExtendCode,
    HoldState,
    RecordCode,
    SettleCode,
    SettleVerb,
)
from bursar.engine.scripts import load_script

LUA = Path(str(resources.files("bursar.engine") / "lua"))
KEEPING = ("fence", "purge", "load", "open", "confirm", "trim")
"""Scripts that keep a shard: they make no decision, and act where the shard is what they expect."""
CALLS = scripts.SCRIPTS
SCRIPTS = (*CALLS, *KEEPING)
PARTS = sorted(f"{path.parent.name}/{path.stem}" for path in LUA.glob("*/*.lua"))
VERBS = [name for name in PARTS if name.startswith("verbs/")]

SHAS = {
    "operate": "9fe36389b21765a9bfede86107de44901f75fd57",
    "sweep": "cd11ab51e3f1c5cf082bf8303476e4a13f9ab9b7",
    "read": "2d92f47413ea6b6aa2d8d3ff5e4ea4f713eefdd6",
    "find": "0c45cb2cab2a45e265b1f9255daf6c63b675e042",
    "fence": "cbaa052d596fa0f779f69de1a2735b71444af874",
    "purge": "baa1d5fd5deca2ca6c4809106d803f30a0ff0342",
    "load": "f06019b0b6bcfec04c8f70506f8b679ec86b68af",
    "open": "1cc6f44ee0f92c0f4feba3bae76800448ada3669",
    "confirm": "2162b70eec93fed7219638932fada7d704044241",
    "trim": "884b7c748949984929d4c59b55d3d6c8ba28faa1",
}
"""The scripts that this release runs. A change of a script shows here, in review: read its diff
for what a running server of the release before makes of its holds and its journal, then put in
what `python -m pytest tests/integration/test_scripts.py -k sha` says that it is now."""

WRITERS = {
    "write_counters",
    "write_counter",
    "write_difference",
    "write_differences",
    "write_dropped",
    "write_hold",
    "close_shard",
}
"""Functions of the parts that write; nothing else there does."""

CALL = re.compile(r"redis\.p?call\('(\w+)'")
FUNCTION = re.compile(
    r"^(?:local function |verbs\.)(\w+)(?:\(| = ).*?^end$", re.MULTILINE | re.DOTALL
)


def source(name: str) -> str:
    return (LUA / f"{name}.lua").read_text(encoding="utf-8")


def code(text: str) -> str:
    """Return a script without its comments, each line in its place."""
    return re.sub(r"--.*", "", text)


def header(name: str) -> str:
    """Return the comment that a script begins with, without its dashes."""
    lines = source(name).split("\n\n")[0].splitlines()
    return "\n".join(line.removeprefix("--").removeprefix(" ") for line in lines)


@pytest.mark.parametrize("name", SCRIPTS)
def test_sha_of_a_script(name: str) -> None:
    """Goal: a script never changes unseen. Method: its SHA against the table above."""
    assert load_script(name).sha == SHAS[name], f"{name} is {load_script(name).sha} now"


def test_every_script_is_used() -> None:
    """Goal: no script is left over. Method: the files against what is loaded and included."""
    assert sorted(SCRIPTS) == sorted(path.stem for path in LUA.glob("*.lua"))
    included = {
        name
        for verb in SCRIPTS
        for name in re.findall(r"^-- @include ([\w/]+)$", source(verb), re.MULTILINE)
    }
    assert sorted(included) == PARTS
    assert "@include" not in "".join(load_script(verb).text for verb in SCRIPTS)


@pytest.mark.parametrize("name", CALLS)
def test_header(name: str) -> None:
    """Goal: each script says what it does, takes, replies and keeps.

    Method: one sentence, then KEYS, ARGV, Reply and Keeps in this order, each with something said.
    """
    found = re.fullmatch(
        r"(?P<purpose>[A-Z][^\n]+\.(?:[ \n][^\n]+\.)?)\n\n"
        r"(?P<keys>KEYS 1 shard.+?)\n(?P<argv>ARGV 1 MessagePack \{head\b.+?)\n"
        r"(?P<reply>Reply results .+?)\n(?P<keeps>Keeps: .+)",
        header(name),
        re.DOTALL,
    )
    assert found is not None, header(name)
    assert found["keeps"].endswith(".")
    assert all(line.startswith("     ") for line in found["keys"].splitlines()[1:])


@pytest.mark.parametrize("name", VERBS)
def test_header_of_a_verb(name: str) -> None:
    """Goal: the same of what an operation is and answers. Method: as above, by their own form."""
    found = re.fullmatch(
        r"[A-Z][^\n]+\.(?:[ \n][^\n]+\.)?\n\n"
        r"Operation \{'(?P<verb>\w+)', .+?\}\n.*?"
        r"^Result\s.+?\nKeeps: (?P<keeps>.+)",
        header(name),
        re.DOTALL | re.MULTILINE,
    )
    assert found is not None, header(name)
    assert found["keeps"].endswith(".")
    assert f"verbs/{found['verb']}" == name
    assert f"verbs.{found['verb']} = function(operation, key)" in source(name)


@pytest.mark.parametrize("name", KEEPING)
def test_header_of_a_keeping_script(name: str) -> None:
    """Goal: the same of the scripts that keep a shard. Method: as above, by their own form."""
    found = re.fullmatch(
        r"[A-Z][^\n]+\.\n\nKEYS 1 shard.*?\nARGV 1 MessagePack \{(?P<argv>.+?)\}\n(?:.+\n)?"
        r"Reply .+?(?:\nKeeps: (?P<keeps>.+))?",
        header(name),
        re.DOTALL,
    )
    assert found is not None, header(name)
    assert found["keeps"] is None or found["keeps"].endswith(".")


@pytest.mark.parametrize("name", KEEPING)
def test_a_keeping_script_looks_before_it_writes(name: str) -> None:
    """Goal: nothing is written to a shard that is another's by now.

    Method: the shard's own state is read, and judged, before the first call that writes; nothing
    but the shard is read.
    """
    text = code(source(name))
    calls = list(CALL.finditer(text))
    assert calls[0][1] in READS
    assert text[calls[0].end() :].startswith(", KEYS[1]")
    assert {call[1] for call in calls[1:]} <= WRITES | {
        *("DEL", "UNLINK", "XTRIM", "HGET", "HMGET"),
        # A counter is written over in place, so what it has besides is read first.
        *("HKEYS", "PERSIST"),
    }
    assert re.search(r"\bif\b|\bstop =", text[: calls[1].start()])


@pytest.mark.parametrize("name", CALLS)
def test_keys_of_a_header_are_those_of_the_wrapper(name: str) -> None:
    """Goal: what a script takes by number is what Python sends there.

    Method: the numbered keys of the header, those that the script uses, and `Keys.shard_keys`.
    """
    numbered = re.findall(r"(\d) (\w+)", re.search(r"^KEYS (.*)$", header(name), re.MULTILINE)[1])
    kinds = {"shard": ":m", "expiries": ":x", "journal": ":j"}
    sent = Keys("t", 1).shard_keys(0)
    assert [sent[int(number) - 1] for number, _ in numbered] == [
        "{t00}" + kinds[what] for _, what in numbered
    ]
    fixed = {int(number) for number in re.findall(r"KEYS\[(\d)\]", code(source(name)))}
    assert fixed <= {int(number) for number, _ in numbered}
    first_counter = re.search(r"FIRST_COUNTER = (\d)", source(name))
    assert first_counter is None or int(first_counter[1]) == len(sent)


def undisciplined(text: str) -> list[str]:
    """Return what a verb's script does that it must not do in that part."""
    before, _, after = code(text.replace("-- Write.", "@write")).partition("@write")
    early = [each for each in CALL.findall(before) if each not in READS]
    early += [each for each in WRITERS if re.search(rf"\b{each}\(", before)]
    late = [each for each in CALL.findall(after) if each not in WRITES]
    late += re.findall(r"\b(?:hold_texts|find_hold|load_\w+|check_shard)\(", after)
    failing = re.findall(r"\b(?:error|assert|pcall)\(|redis\.(?:error|status)_reply", code(text))
    return early + late + failing


@pytest.mark.parametrize("name", CALLS)
def test_parse_decide_write(name: str) -> None:
    """Goal: a script decides everything before it writes anything.

    Method: the three parts come once and in order; no call that writes, nor any function that
    does, stands before the write part, and none that reads in it; a script that only reads has no
    such part.
    """
    parts = re.findall(r"^-- (Parse|Decide|Write)\.", source(name), re.MULTILINE)
    writes = name not in scripts.READING
    assert parts == (["Parse", "Decide", "Write"] if writes else ["Parse", "Decide"])
    assert ("close_shard(" in source(name).partition("-- Write.")[2]) is writes
    assert undisciplined(source(name)) == []


@pytest.mark.parametrize(
    "planted,found",
    [
        ("redis.call('HINCRBY', key, 'h', 1)\n-- Write.\n", ["HINCRBY"]),
        ("write_counters(now)\n-- Write.\n", ["write_counters"]),
        ("-- Write.\nlocal hold = find_hold(key)\n", ["find_hold("]),
        ("-- Write.\nredis.call('HMGET', key, 'c')\n", ["HMGET"]),
        ("-- Write.\nif not hold then error('no hold') end\n", ["error("]),
        ("-- redis.call('SET', key, 1)\nredis.call('GET', key)\n-- Write.\n", []),
    ],
)
def test_the_scan_sees_what_it_looks_for(planted: str, found: list[str]) -> None:
    """Goal: the test before this one can fail. Method: scripts with one fault each, and none."""
    assert undisciplined(planted) == found


@pytest.mark.parametrize("name", PARTS)
def test_parts_write_in_few_places(name: str) -> None:
    """Goal: only the functions that the write parts call can write.

    Method: each function of the parts: what it calls, and whom.
    """
    text = code(source(name))
    for found in FUNCTION.finditer(text):
        function, body = found[1], found[0]
        commands = set(CALL.findall(body))
        assert commands <= READS | WRITES
        if function in WRITERS:
            assert commands <= WRITES
        else:
            assert commands <= READS
            assert not [each for each in WRITERS if re.search(rf"\b{each}\(", body)]
    outside = FUNCTION.sub("", text)
    assert "redis." not in outside


def test_nothing_that_scripts_must_not_do() -> None:
    """Goal: scripts have no clock, no chance, no other keys. Method: names that none may use."""
    for verb in SCRIPTS:
        text = code(load_script(verb).text)
        found = re.findall(r"'TIME'|math\.random|'KEYS'|'SCAN'|os\.|'EVAL|'SELECT'|cjson", text)
        assert not found, verb


def constants(text: str) -> dict[str, str]:
    """Return the names that a script gives to values."""
    found: dict[str, str] = {}
    for names, values in re.findall(
        r"^local ([A-Z][A-Z0-9_, ]*) = ([^{\n]+)$", code(text), re.MULTILINE
    ):
        pairs = zip(names.split(", "), values.strip().split(", "), strict=True)
        found |= {name: value.strip() for name, value in pairs}
    return found


@pytest.mark.parametrize("name", ["settle", "extend", "record", "adjust"])
def test_codes_mean_the_same_in_both_languages(name: str) -> None:
    """Goal: a reply is read as it was meant. Method: the constants of each script and its enum."""
    enum = {
        "settle": SettleCode,
        "extend": ExtendCode,
        "record": RecordCode,
        "adjust": AdjustCode,
    }[name]
    found = constants(source(f"verbs/{name}"))
    assert {code.name: str(code.value) for code in enum} == {
        code.name: found.pop(code.name) for code in enum
    }
    if name == "settle":
        for verb in SettleVerb:
            assert found.pop(verb.name) == str(verb.value)
    assert set(found) <= {"USE_WIDTH", "FIRST_COUNTER"}


def test_states_flags_and_kinds_mean_the_same_in_both_languages() -> None:
    """Goal: what a hold keeps is read as it was meant. Method: constants of the shared parts."""
    found = (
        constants(source("shared/holds"))
        | constants(source("shared/counters"))
        | constants(source("shared/shard"))
    )
    for state in HoldState:
        assert found[f"STATE_{state.name}"] == str(state.value)
    for flag in EntryFlags:
        assert found[f"FLAG_{flag.name}"] == str(flag.value)
    for kind in ("PLAIN", "ROLLING", "TASK"):
        assert found[f"KIND_{kind}"] == str(getattr(keys, f"KIND_{kind}"))
    for status in shards._Status:
        assert found[f"STATUS_{status.name}"] == str(status.value)
    assert found["COUNTER_MAX"] == f"2 ^ {COUNTER_MAX.bit_length() - 1}"
    assert COUNTER_MAX == 2**62
    fields = [name for name in found if name.startswith("H_")]
    assert [found[name] for name in fields] == [str(at) for at in range(1, len(fields) + 1)]
    entries = [name for name in found if name.startswith("E_")]
    assert [found[name] for name in entries] == [str(at) for at in range(1, len(entries) + 1)]


async def test_redis_takes_every_script(redis_url: str) -> None:
    """Goal: each script compiles, and Redis knows it by the name that we compute.

    Method: SCRIPT LOAD.
    """
    async with redis.Redis.from_url(redis_url) as store:
        for verb in SCRIPTS:
            script = load_script(verb)
            assert await store.script_load(script.text) == script.sha
