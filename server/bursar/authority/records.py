"""What operators and readers ask of the ledger: usage, entries, comparisons, status, rebuilds."""

from __future__ import annotations

from dataclasses import dataclass

from bursar.authority.clock import Clock
from bursar.authority.policies import Policies
from bursar.domain.errors import Fault, FieldInvalid
from bursar.domain.subject import OrgId
from bursar.domain.usage_report import UsageQuestion
from bursar.engine.keys import Keys
from bursar.ledger.database import Database
from bursar.ledger.differences import Verify, VerifyReport
from bursar.ledger.entry_query import EntryPage, EntryQuestion, list_entries
from bursar.ledger.page_token import read_page_token, write_page_token
from bursar.ledger.status import LedgerStatus, Overseer, ShardStatus, Verification
from bursar.ledger.status_query import ledger_status
from bursar.ledger.usage_query import UsagePage, query_usage


@dataclass(frozen=True, slots=True)
class Verified:
    """A page of a comparison: of which shards, of how many, and where the next page begins."""

    shards: tuple[int, ...]
    shard_count: int
    report: VerifyReport
    next_page_token: str


@dataclass(frozen=True, slots=True)
class Status:
    """How the installation stands, seen from one server.

    Attributes:
        server_id: Which.
        at_ms: When.
        shards: By number.
        verification: Of this server, or None where it made none.
        ledger: What the ledger says.
        policies: Version that decides here, by org.
    """

    server_id: str
    at_ms: int
    shards: tuple[ShardStatus, ...]
    verification: Verification | None
    ledger: LedgerStatus
    policies: tuple[tuple[str, str], ...]


class Records:
    """Reads the ledger. All methods raise the errors of `domain.errors`."""

    def __init__(
        self,
        database: Database,
        keys: Keys,
        policies: Policies,
        clock: Clock,
        *,
        server_id: str,
        overseer: Overseer,
        verify: Verify,
    ) -> None:
        """Brings together what is asked.

        Args:
            database: The ledger.
            keys: Which shard an org lives on, and how many there are.
            policies: Which orgs are known.
            clock: When.
            server_id: Of this server.
            overseer: Knows the shards, and has them rebuilt.
            verify: Compares a shard.
        """
        self._database = database
        self._keys = keys
        self._policies = policies
        self._clock = clock
        self._server_id = server_id
        self._overseer = overseer
        self._verify = verify

    async def query_usage(
        self, question: UsageQuestion, page_size: int, page_token: str
    ) -> UsagePage:
        """Return a page of what was used."""
        shard = self._shard_of(question.subject.org)
        now_ms = self._clock.now_ms()
        return await query_usage(self._database, shard, question, page_size, page_token, now_ms)

    async def list_entries(
        self, question: EntryQuestion, page_size: int, page_token: str
    ) -> EntryPage:
        """Return a page of what was booked."""
        shard = self._shard_of(question.subject.org)
        return await list_entries(self._database, shard, question, page_size, page_token)

    async def verify(
        self, org: OrgId | None, deep: bool, repair: bool, page_token: str
    ) -> Verified:
        """Compare an org's counters and holds with the ledger, or a shard with each page.

        Args:
            org: Whose, or None for all.
            deep: Whether to add up every ledger entry as well.
            repair: Whether to set what differs to what the ledger says.
            page_token: From the page before, or "".
        """
        question = (org, deep, repair)
        count = self._keys.shard_count
        if org is not None:
            shard, last, whose = self._shard_of(org), True, str(org)
            count = 1
        else:
            shard = _next_shard(question, page_token, count)
            last, whose = shard == count - 1, ""
        report = await self._verify(shard, org=whose, deep=deep, repair=repair)
        token = "" if last else write_page_token(question, [shard])
        return Verified((shard,), count, report, token)

    async def status(self) -> Status:
        """Return how the installation stands."""
        shards = tuple(await self._overseer.shards())
        recorded = await ledger_status(self._database)
        return Status(
            server_id=self._server_id,
            at_ms=self._clock.now_ms(),
            shards=shards,
            verification=self._overseer.verification(),
            ledger=recorded,
            policies=tuple(
                (org, self._policies.of(OrgId(org)).version) for org in self._policies.orgs()
            ),
        )

    async def rebuild(self, target: OrgId | int | None) -> tuple[ShardStatus, ...]:
        """Begin to load shards anew, and return how they stood before.

        Args:
            target: An org, for the shard that it lives on; a shard; or None for all.
        """
        if isinstance(target, str):
            chosen = range(self._shard_of(target), self._shard_of(target) + 1)
        elif target is not None:
            if not 0 <= target < self._keys.shard_count:
                fault = f"must be 0 to {self._keys.shard_count - 1}, is {target}"
                raise FieldInvalid(Fault("shard", fault))
            chosen = range(target, target + 1)
        else:
            chosen = range(self._keys.shard_count)
        before = tuple(each for each in await self._overseer.shards() if each.shard in chosen)
        await self._overseer.rebuild(chosen)
        return before

    def _shard_of(self, org: OrgId | str) -> int:
        """Return where an org lives.

        Raises:
            OrgAccessDenied: The org is unknown.
        """
        self._policies.of(OrgId(org))
        return self._keys.shard_of(org)


def _next_shard(question: object, page_token: str, count: int) -> int:
    if not page_token:
        return 0
    [shard] = read_page_token(question, page_token, (int,))
    if not 0 <= int(shard) < count - 1:
        raise FieldInvalid(Fault("page_token", "is not from a page before; start again without it"))
    return int(shard) + 1
