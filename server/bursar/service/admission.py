"""How much may be in progress at once, shared fairly between orgs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType

from bursar.service.errors import ServerOverloaded
from bursar.service.metrics import count_refused, watch_in_progress


class Admission:
    """Counts what is in progress, in all and for each org, and refuses what is too much.

    An org may have as much as is left for everybody: half of the bound where it is alone, a third
    each where two want all they can get. So whoever has nothing in progress finds room, whatever
    one org sends. These are the dynamic thresholds of Choudhury and Hahne, "Dynamic queue length
    thresholds for shared-memory packet switches" (1998), with their alpha at 1.

    Nobody waits here: what is refused was not begun, and says when to try again. Orgs are kept
    only while something of theirs is in progress, so names that nobody knows use no memory.

    Attributes:
        what: What is counted, in the plural, for messages and metrics.
        most: The bound.
        in_progress: How many are in progress.
    """

    __slots__ = ("__weakref__", "_by_org", "_random", "in_progress", "most", "what")

    def __init__(self, what: str, most: int, random: Callable[[], float]) -> None:
        """Begins with nothing in progress.

        Args:
            what: What is counted, in the plural: `calls` or `operations`.
            most: In progress at the most, of all orgs, 1 or more.
            random: Returns numbers from 0 to below 1; retries are spread by it.
        """
        self.what = what
        self.most = most
        self.in_progress = 0
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

    def enter(self, org: str, count: int = 1) -> None:
        """Begin something; call `leave` with the same when it ends, however it ends.

        Args:
            org: Whose it is; any text, also of an org that does not exist.
            count: How much it is, 1 or more.

        Raises:
            ServerOverloaded: Nothing was begun: the org has its share, or everything is taken.
        """
        free = self.most - self.in_progress
        mine = self._by_org.get(org, 0)
        if mine + count > free:
            raise self._refusal(mine, is_full=count > free)
        self._by_org[org] = mine + count
        self.in_progress += count

    def leave(self, org: str, count: int = 1) -> None:
        """End what was begun."""
        left = self._by_org[org] - count
        if left:
            self._by_org[org] = left
        else:
            del self._by_org[org]
        self.in_progress -= count

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
        if self.in_progress >= self.most:
            raise self._refusal(0, is_full=True)

    def _refusal(self, mine: int, *, is_full: bool) -> ServerOverloaded:
        count_refused(self.what, "all" if is_full else "org")
        if is_full:
            error = ServerOverloaded(
                f"the server has no room: at most {self.most} {self.what} are in progress at once",
                limit=self.most,
                counted=self.what,
            )
        else:
            error = ServerOverloaded(
                f"the org has its share of what the server does at once: {mine} {self.what} are in "
                "progress",
                inProgress=mine,
                limit=self.most,
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
