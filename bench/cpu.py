"""What the operating system says of how long processes have used a processor."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
# After the name, which may hold anything: state is field 3 of proc(5), so field n is at n - 3.
_PARENT, _OWN, _REAPED_END = 4 - 3, 14 - 3, 17 - 3


def cpu_s(roots: Mapping[str, Iterable[int]]) -> dict[str, float]:
    """Return user and system time of processes with all that they ever started, by name.

    Args:
        roots: Process ids, by name.
    """
    parents: dict[int, int] = {}
    ticks: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            fields = _stat(folder)
            if fields:
                pid = int(folder.name)
                parents[pid] = int(fields[_PARENT])
                # Its own time, and that of its children that have ended.
                ticks[pid] = sum(map(int, fields[_OWN : _REAPED_END + 1]))
    return {name: _tree_ticks(set(pids), parents, ticks) / _TICKS_PER_S
            for name, pids in roots.items()}  # fmt: skip


def _stat(folder: Path) -> list[str]:
    try:
        return (folder / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _tree_ticks(pids: set[int], parents: Mapping[int, int], ticks: Mapping[int, int]) -> int:
    found = set(pids)
    grown = True
    while grown:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        found |= more
        grown = bool(more)
    return sum(ticks.get(pid, 0) for pid in found)


def resident_bytes(pid: int) -> int:
    """Return the memory that a process has, or 0 where it has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
