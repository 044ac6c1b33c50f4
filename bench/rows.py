"""One line of the table: what was measured, against what, and what is to be reached."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

FAR_OFF = 2.5
"""A ratio of costs that is worse than it was by this factor is no noise."""

ABSOLUTE = None
"""A figure without a yardstick says nothing where machines differ."""

FAR_OFF_WAITING = None
"""How long something waited, on a machine that others use as well, says nothing in a short run."""


@dataclass(frozen=True, slots=True)
class Row:
    """A measured row.

    Attributes:
        name: `P1` to `P13`, with a word where one has several.
        what: In words.
        measured: What came out, with its unit.
        yardstick: What it is compared with, with its unit; empty: the figure is judged itself.
        ratio: Measured to yardstick, or the figure itself; None where it was not measured.
        reach: What the ratio is to be.
        side: Whether that is the most or the least it may be.
        judged: Whether it says something on this machine.
        note: What has to be known about it.
        far_off_from: By what factor it is worse than before where that is no noise any more; None
            where any may be noise.
        figures: Everything else that was measured, by name with unit.
    """

    name: str
    what: str
    measured: str = ""
    yardstick: str = ""
    ratio: float | None = None
    reach: float | None = None
    side: Literal["most", "least"] = "most"
    judged: bool = True
    note: str = ""
    far_off_from: float | None = FAR_OFF
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def share(self) -> float | None:
        """How much of the reach is used: 1 is just reached, 2 misses it by the factor 2."""
        if self.ratio is None or self.reach is None or not self.judged:
            return None
        used, whole = self.ratio, self.reach
        if self.side == "least":
            used, whole = whole, used
        if whole > 0:
            return used / whole
        return 1.0 if used <= whole else float("inf")

    @property
    def verdict(self) -> str:
        """`reached`, `short` of it, or empty where nothing is judged."""
        share = self.share
        if share is None:
            return ""
        return "reached" if share <= 1 else "short"

    def is_far_off(self, before: Row) -> bool:
        """Whether it misses its reach, and is worse than before by more than noise explains.

        Args:
            before: The same row of a run that is known to be as it should.
        """
        share, usual = self.share, before.share
        if share is None or usual is None or share <= 1 or self.far_off_from is None:
            return False
        return share > max(usual, 1) * self.far_off_from

    @property
    def reach_text(self) -> str:
        """The reach as it is written: `<= 1.7`."""
        if self.reach is None:
            return ""
        return f"{'<=' if self.side == 'most' else '>='} {self.reach:g}"

    def to_json(self) -> dict[str, Any]:
        """Return it as a mapping, with its verdict."""
        return {**asdict(self), "verdict": self.verdict}

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Row:
        """Read what `to_json` returned."""
        return cls(**{name: value for name, value in found.items() if name != "verdict"})
