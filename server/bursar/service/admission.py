"""How much may be in progress at once, shared fairly between orgs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType

from bursar.service.errors import ServerOverloaded
from bursar.service.metrics import count_refused, watch_in_progress
from bursar.service.pace import Pace

ALWAYS = 512
"""What may be in progress however slowly it ends: a burst after a pause must not be refused by how
few ended before."""


class Admission:
    """Counts what is in progress, in all and for each org, and refuses what is too much.

    Too much is what would not end in time as fast as things end now, and at the latest what is
    above a fixed bound. An org may have as much as is left for everybody: half where it is alone, a
    third each where two want all they can get. So whoever has nothing in progress finds room,
    whatever one org sends. These are the dynamic thresholds of Choudhury and Hahne, "Dynamic queue
    length thresholds for shared-memory packet switches" (1998), with their alpha at 1.

    Nobody waits here: what is refused was not begun, and says when to try again. Orgs are kept
    only while something of theirs is in progress, so names that nobody knows use no memory.

    Attributes:
        what: What is counted, in the plural, for messages and metrics.
        most: The fixed bound.
        in_progress: How many are in progress.
    """

    __slots__ = (
        "__weakref__", "_always", "_by_org", "_pace", "_random", "_wait_s", "in_progress", "most",
        "what",
    )  # fmt: skip

    def __init__(
        self, what: str, most: int, wait_ms: int, pace: Pace, random: Callable[[], float]
    ) -> None:
        """Begins with nothing in progress.

        Args:
            what: What is counted, in the plural: `calls` or `operations`.
            most: In progress at the most, of all orgs, 1 or more.
            wait_ms: How long what is let in may take to end, as fast as things end.
            pace: Knows how fast that is; nobody else's.
            random: Returns numbers from 0 to below 1; retries are spread by it.
        """
        self.what = what
        self.most = most
        self.in_progress = 0
        self._always = min(ALWAYS, most)
        self._wait_s = wait_ms / 1_000
        self._pace = pace
        self._by_org: dict[str, int] = {}
        self._random = random
        watch_in_progress(self)

    @property
    def orgs(self) -> int:
        """How many orgs have something in progress."""
        return len(self._by_org)

    def of_org(self, org: str) -> int:
        """Return how much an org has in progress."""
        return self._by_org.get(org, 0)

    @property
    def limit(self) -> int:
        """How much may be in progress now."""
        if self.most == self._always:
            return self.most
        return int(max(self._always, min(self.most, self._pace.in_time(self._wait_s))))

    def enter(self, org: str, count: int = 1) -> None:
        """Begin something; call `leave` with the same when it ends, however it ends.

        Args:
            org: Whose it is; any text, also of an org that does not exist.
            count: How much it is, 1 or more.

        Raises:
            ServerOverloaded: Nothing was begun: the org has its share, or everything is taken.
        """
        mine = self.of_org(org)
        # Nearly always, and then nobody has to know how fast things end.
        if mine + count > self._always - self.in_progress:
            self._check(org, mine, count)
        self._begin(org, count)

    def _check(self, org: str, mine: int, count: int) -> None:
        limit = self.limit
        free = limit - self.in_progress
        # A batch that is larger than what may be in progress now waits for nothing but room.
        is_first = mine == 0 and free > 0 and count <= self.most - self.in_progress
        if mine + count > free and not is_first:
            raise self._refusal(org, limit, is_full=count > free)

    def enter_some(self, org: str, count: int) -> tuple[int, ServerOverloaded | None]:
        """Begin as many of several things as there is room for; call `leave` for those.

        Args:
            org: Whose they are.
            count: How many, 1 or more.

        Returns:
            How many were begun, and why not the others.
        """
        limit = self.limit
        # As if they began one by one: each leaves one less for all.
        room = (limit - self.in_progress - self.of_org(org) + 1) // 2
        begun = max(min(count, room), 0)
        if begun:
            self._begin(org, begun)
        if begun == count:
            return begun, None
        is_full = self.in_progress >= limit
        return begun, self._refusal(org, limit, is_full=is_full, refused=count - begun)

    def _begin(self, org: str, count: int) -> None:
        if not self.in_progress:
            self._pace.begin()
        self._by_org[org] = self.of_org(org) + count
        self.in_progress += count

    def leave(self, org: str, count: int = 1) -> None:
        """End what was begun."""
        left = self._by_org[org] - count
        if left:
            self._by_org[org] = left
        else:
            del self._by_org[org]
        self.in_progress -= count
        self._pace.end(count, is_all=not self.in_progress)

    def admitted(self, loads: Mapping[str, int]) -> Admitted:
        """Return a context in which work of one or several orgs is in progress.

        Args:
            loads: How much of each org, 1 or more. All of it is admitted, or nothing.
        """
        return Admitted(self, loads)

    def check_room(self) -> None:
        """See whether there is room for anybody, before it is known for whom.

        Raises:
            ServerOverloaded: Everything is taken.
        """
        if self.in_progress >= self._always and self.in_progress >= (limit := self.limit):
            raise self._refusal("", limit, is_full=True)

    def _refusal(
        self, org: str, limit: int, *, is_full: bool, refused: int = 1
    ) -> ServerOverloaded:
        """Return why things of an org are refused, and count them."""
        mine = self.of_org(org)
        count_refused(self.what, "all" if is_full else "org", refused)
        if is_full:
            error = ServerOverloaded(
                f"the server has no room: at most {limit} {self.what} are in progress at once",
                limit=limit,
                counted=self.what,
            )
        else:
            error = ServerOverloaded(
                f"the org has its share of what the server does at once: {mine} {self.what} are in "
                "progress",
                inProgress=mine,
                limit=limit,
                counted=self.what,
            )
        # Callers that wait exactly as long as they are told must not all come back together.
        error.retry_after_ms = int(ServerOverloaded.retry_after_ms * (1 + self._random()))
        return error


class Admitted:
    """A context in which work is in progress."""

    __slots__ = ("_admission", "_loads")

    def __init__(self, admission: Admission, loads: Mapping[str, int]) -> None:
        self._admission = admission
        self._loads = loads

    def __enter__(self) -> None:
        entered = []
        try:
            for org, count in self._loads.items():
                self._admission.enter(org, count)
                entered.append(org)
        except ServerOverloaded:
            for org in entered:
                self._admission.leave(org, self._loads[org])
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for org, count in self._loads.items():
            self._admission.leave(org, count)
