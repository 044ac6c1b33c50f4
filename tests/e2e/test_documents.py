"""The documents do what they say: every program, command, policy and link in them is tried.

Every fenced block of every Markdown file names its language, which says what becomes of it:

- `python`: a complete program. It runs as written, ends with exit code 0 and nothing on stderr.
- `shell`: commands for bash, `bursar`, `grpcurl` and what else they need. They run as written.
- `output`: what the block before it prints; `...` stands for what varies.
- `yaml`: a policy. One without `org` is a part of a policy: `org: acme` is put before it.
- `text`: what is not run: pictures, formulas, commands of other programs.

`page_runner` says how a page runs.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from markdown_pages import ROOT, Page, broken_links, markdown_files, read_page
from page_runner import EXECUTABLE_KINDS, PageRunner, have_grpcurl, matches

from bursar.cli.demo import EXAMPLES
from bursar.domain.policy_lint import lint
from bursar.domain.policy_text import parse_policy
from bursar.engine.keys import COUNTER_RETENTION_MS
from bursar.service.private_stores import CONNECTIONS_BESIDES
from bursar.service.process import STORE_WAIT_S
from bursar.service.settings import Settings
from bursar.service.workers import (
    BACKOFF_MAX_S,
    BACKOFF_MIN_S,
    HEALTHY_S,
    HUNG_S,
    SILENT_S,
    STARTS_MAX,
    STOP_MARGIN_S,
)
from bursar_client import (
    BursarError,
    Client,
    CommitOperation,
    Estimate,
    Operation,
    ReleaseOperation,
    ReserveOperation,
    Subject,
    Target,
    Usage,
)
from bursar_client import Settings as ClientSettings
from polling import eventually

KINDS = (*EXECUTABLE_KINDS, "output", "yaml", "text")

PAGES = {page.name: page for page in map(read_page, markdown_files())}
WITH_PROGRAMS = [
    page for page in PAGES.values() if any(block.kind in EXECUTABLE_KINDS for block in page.blocks)
]
WITH_GRPCURL = [
    page for page in WITH_PROGRAMS if any("grpcurl" in block.text for block in page.blocks)
]
POLICIES = [
    pytest.param(block.text, id=f"{page.name}:{block.line}")
    for page in PAGES.values()
    for block in page.blocks
    if block.kind == "yaml"
]
RUNS = [
    *((page, False) for page in WITH_PROGRAMS),
    # Where there is a grpcurl, it has to do the same as its stand-in.
    *((page, True) for page in WITH_GRPCURL if have_grpcurl()),
]

FENCE = re.compile(r"^\s*(?:`{3,}|~{3,})[ ]*(?P<kind>[^\s`]+)", re.MULTILINE)
COMMAND = re.compile(r"^\s*(?:[$>] )?(?:\S*/)?(?:bursar|grpcurl|python3?)\s", re.MULTILINE)
CAPACITY, RUN = "docs/operate/capacity.md", "docs/operate/run.md"
HOLDS, GUARANTEES = "docs/concepts/holds-and-settling.md", "docs/concepts/guarantees.md"
CAPACITY_TOLERANCE = 0.3


def by_name(page: Page) -> str:
    """Name a page in a test's id."""
    return page.name


@pytest.mark.parametrize(
    ("page", "real_grpcurl"),
    [pytest.param(*run, id=f"{run[0].name}{'-grpcurl' * run[1]}") for run in RUNS],
)
def test_programs_run(page: Page, real_grpcurl: bool, tmp_path: Path) -> None:
    """Goal: what a page shows works as it is written.

    Method: run its programs and commands in order, against a real server, and compare what they
    print with what the page says they do.
    """
    runner = PageRunner(page, tmp_path, real_grpcurl=real_grpcurl)
    runner.run()
    assert runner.executed == [each for each in page.blocks if each.kind in EXECUTABLE_KINDS]


@pytest.mark.parametrize("text", POLICIES)
def test_policies_are_accepted(text: str) -> None:
    """Goal: a policy on a page can be copied. Method: read it; no fault and no warning."""
    whole = text if re.search(r"^org:", text, re.MULTILINE) else f"org: acme\n{text}"
    assert lint(parse_policy(whole, "the page")) == []


@pytest.mark.parametrize("page", PAGES.values(), ids=by_name)
def test_links_lead_somewhere(page: Page) -> None:
    """Goal: no dead link. Method: look for the file and the heading of each relative one."""
    assert broken_links(page) == []


@pytest.mark.parametrize("page", PAGES.values(), ids=by_name)
def test_no_block_is_left_out(page: Page) -> None:
    """Goal: nothing that could be run hides from the tests above.

    Method: every block has a known language, what is `text` has no command of ours, and fences
    counted another way, line by line, are as many.
    """
    kinds = [block.kind for block in page.blocks]
    assert [kind for kind in kinds if kind not in KINDS] == []
    hidden = [each for each in page.blocks if each.kind == "text" and COMMAND.search(each.text)]
    assert hidden == []
    source = page.path.read_text(encoding="utf-8")
    assert [match["kind"] for match in FENCE.finditer(source)] == kinds


def test_every_page_is_in_the_index() -> None:
    """Goal: a reader finds every page. Method: follow links from the index of the documents."""
    waiting, found = [ROOT / "docs" / "README.md"], set()
    while waiting:
        path = waiting.pop()
        if path in found or path.suffix != ".md":
            continue
        found.add(path)
        targets = (link.target.partition("#")[0] for link in read_page(path).links)
        waiting += [
            (path.parent / each).resolve() for each in targets if each and "://" not in each
        ]
    assert {path for path in markdown_files() if ROOT / "docs" in path.parents} - found == set()


def test_events_and_counters_are_listed() -> None:
    """Goal: an operator finds each log event and metric. Method: compare page and code."""
    source = "".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "server" / "bursar").rglob("*.py")
    )
    events = set(re.findall(r"_log\.[a-z]+\(\s*\"([a-z_]+)\"", source))
    counters = set(re.findall(r"[(]\s*\"(bursar\.[a-z_.]+)\",\s", source))
    page = PAGES[RUN].path.read_text(encoding="utf-8")
    assert events
    assert counters
    assert {name for name in events | counters if f"`{name}`" not in page} == set()
    assert set(re.findall(r"^\| `(bursar\.[a-z_.]+)`", page, re.MULTILINE)) == counters


def test_numbers_are_those_of_the_code() -> None:
    """Goal: a changed default is changed on the pages. Method: rows of a page and what it says."""
    server, client = Settings.model_fields, ClientSettings()
    settle_min = f"{client.settle_deadline_s / 60:g} min"
    rows = [
        ("docs/how-to/retry-safely.md", f"in the background, {settle_min} in all"),
        ("docs/how-to/retry-safely.md", f"up to {client.retry_attempts_max} attempts"),
        ("docs/how-to/retry-safely.md", f"within {client.reserve_timeout_s:g} s"),
        ("clients/python/README.md", f"is retried for {client.settle_timeout_s:g} s"),
        ("clients/python/README.md", f"in the background, {settle_min} in all"),
        ("docs/operate/redis.md", f"settlements in the background for {settle_min}"),
        ("docs/operate/redis.md", f"waits {STORE_WAIT_S:g} s"),
        ("docs/operate/troubleshooting.md", f"comes back within {settle_min}"),
        (HOLDS, f"gives up after {settle_min}"),
        (HOLDS, f"lasts {server['default_ttl_ms'].default // 60_000} min unless"),
        (HOLDS, f"record | {server['tombstone_ms'].default // 60_000} min |"),
        (HOLDS, f"expired hold | {server['expired_tombstone_ms'].default // 3_600_000} h |"),
        (CAPACITY, f"window's end and {COUNTER_RETENTION_MS // 3_600_000} h on"),
        (
            CAPACITY,
            f"| journal of one org, at its bound | {server['journal_entries_max'].default:,} |",
        ),
        (RUN, f"`BURSAR_DRAIN_GRACE_MS` ({server['drain_grace_ms'].default // 1_000} s)"),
        (RUN, f"not ready after {SILENT_S:g} s, and killed and started again after {HUNG_S:g} s"),
        (RUN, f"ready for {HEALTHY_S:g} s, else after {BACKOFF_MIN_S:g} s"),
        (RUN, f"{BACKOFF_MAX_S:g} s at most"),
        (RUN, f"after {STARTS_MAX} ends in a row"),
        (RUN, f"one that takes {STOP_MARGIN_S:g} s longer"),
        (RUN, f"connections and {CONNECTIONS_BESIDES} more for each"),
        (RUN, f"every {server['connection_age_ms_max'].default // 60_000} min"),
        (GUARANTEES, f"more than {server['clock_skew_ms_max'].default // 1_000} s"),
        (GUARANTEES, f"every {server['clock_sync_interval_ms'].default // 1_000} s by at most"),
    ]
    missing = [row for row in rows if row[1] not in PAGES[row[0]].path.read_text(encoding="utf-8")]
    assert missing == []


def test_capacity_is_as_quoted() -> None:
    """Goal: the sizes on the page are those of today. Method: measure them again, within 30 %."""
    printed = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "measure_memory.py")],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
    [quoted] = [each.text for each in PAGES[CAPACITY].blocks if each.kind == "text"]
    sizes, expected = (
        {name: int(size) for name, size in re.findall(r"^(.+): (\d+) bytes$", text, re.MULTILINE)}
        for text in (printed, quoted)
    )
    assert sizes == {
        name: pytest.approx(size, rel=CAPACITY_TOLERANCE) for name, size in expected.items()
    }


def reserve(**changes: Any) -> ReserveOperation:  # noqa: ANN401 - any field of the operation
    """Return a reserve that is granted."""
    fields: dict[str, Any] = {
        "subject": Subject(org="acme", user="errors"),
        "target": Target("gpt-5-mini"),
        "estimate": Estimate(input_tokens=10, max_output_tokens=10),
    }
    return ReserveOperation(**{**fields, **changes})


def commit(reservation_id: str, sequence: int = 0) -> CommitOperation:
    """Return a commit, final unless it has a number."""
    usage = Usage(input_tokens=1, output_tokens=1)
    return CommitOperation(
        reservation_id=reservation_id, usage=usage, target=Target("gpt-5-mini"), sequence=sequence
    )


def answer(client: Client, operation: Operation) -> Any:  # noqa: ANN401 - of many kinds
    """Return what one operation answers; an error is returned, too."""
    [result] = client.batch([operation])
    return result


def granted(client: Client, ttl_s: float = 60) -> str:
    """Return the id of a new reservation."""
    reservation_id: str = answer(client, reserve(ttl=timedelta(seconds=ttl_s))).reservation_id
    return reservation_id


def raised(call: Callable[[], object]) -> BursarError:
    """Return the error that a call ends with."""
    with pytest.raises(BursarError) as error:
        call()
    return error.value


def provoked(client: Client) -> list[BursarError]:
    """Return an error of every reason that a client can provoke."""
    committed, released, expired = granted(client), granted(client), granted(client, ttl_s=1)
    answer(client, commit(committed))
    answer(client, ReleaseOperation(reservation_id=released))
    answer(client, reserve(request_id="r-1"))

    def is_over() -> bool:
        open_ids = {hold.reservation_id for hold in client.list_holds(org="acme", user="errors")}
        return expired not in open_ids

    eventually(is_over)
    many = [ReleaseOperation(reservation_id="acme.x")] * 1_001
    return [
        raised(lambda: client.try_reserve(org="acme", model="gpt-5", input_tokens=-1)),
        raised(lambda: client.batch(many)),
        raised(lambda: client.explain(org="nobody", model="gpt-5")),
        answer(client, reserve(request_id="r-1", estimate=Estimate(input_tokens=9))),
        answer(client, ReleaseOperation(reservation_id="acme.aaaaaaaaaaaaaaaaaaaaaaaa")),
        answer(client, ReleaseOperation(reservation_id=committed)),
        answer(client, commit(released)),
        answer(client, commit(expired, sequence=1)),
        answer(client, commit(granted(client), sequence=3)),
    ]


def test_examples_of_errors_are_real(tmp_path: Path) -> None:
    """Goal: messages on the page of errors are what the server says.

    Method: provoke each that a client can provoke, and compare it with its example.
    """
    page = (ROOT / "docs" / "reference" / "errors.md").read_text(encoding="utf-8")
    sections = re.findall(r"^## ([A-Z_]+)$.*?^\| Example \| (.*?) \|$", page, re.M | re.S)
    examples = dict(sections)
    runner = PageRunner(read_page(ROOT / "docs" / "reference" / "errors.md"), tmp_path)
    with runner.serving(EXAMPLES / "acme.yaml") as address, Client(address) as client:
        errors = provoked(client)
    for error in errors:
        assert matches(examples[error.reason], error.message), (error.reason, error.message)
    assert len({error.reason for error in errors}) == len(errors) == 9
