"""What a counter and a hold must be in Redis, by the record, and where they are not. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from bursar.engine.keys import KIND_ROLLING, KIND_TASK
from bursar.ledger.differences import Difference, DifferenceKind
from bursar.ledger.fold import BalanceDelta
from bursar.ledger.live_rows import Balance

_NAMES = {"c": "committed", "h": "held", "k": "credit", "w": "task_begin_ms"}


def with_waiting(balance: Balance, waiting: Mapping[tuple[str, int], BalanceDelta]) -> Balance:
    """Return a counter's balance with what waits in the journal.

    Args:
        balance: As it is recorded.
        waiting: By counter and slot, what is not recorded yet.
    """
    slots = {each[0]: each for each in balance.slots}
    expire_at_ms = balance.expire_at_ms
    for (counter_id, slot), delta in waiting.items():
        if counter_id == balance.counter_id:
            _, committed, held, credit, used_at_ms = slots.get(slot, (slot, 0, 0, 0, 0))
            slots[slot] = (
                slot,
                committed + delta.committed,
                held + delta.held,
                credit + delta.credit,
                max(used_at_ms, delta.used_at_ms),
            )
            expire_at_ms = max(expire_at_ms, delta.expire_at_ms)
    in_order = tuple(slots[slot] for slot in sorted(slots))
    return replace(balance, slots=in_order, expire_at_ms=expire_at_ms)


def compare_counter(shard: int, balance: Balance, found: Mapping[bytes, bytes]) -> list[Difference]:
    """Return where a counter in Redis is not what its balance says.

    Args:
        shard: Where.
        balance: With all that waits in the journal.
        found: Its hash; empty where it is not there.
    """
    fields = {name.decode(): int(amount) for name, amount in found.items()}
    expected = {"c": 0, "h": balance.held, "k": balance.credit}
    if balance.kind == KIND_ROLLING:
        # Redis forgets old buckets when the counter is used next: it is right as of then.
        oldest = fields.get("o", 0)
        buckets = {slot: amount for slot, amount, *_ in balance.slots if slot >= oldest}
        expected["c"] = sum(buckets.values())
        for name in {f"b{slot}" for slot in buckets} | {n for n in fields if n.startswith("b")}:
            expected[name] = buckets.get(int(name[1:]), 0)
    elif balance.kind == KIND_TASK:
        expected["c"], expected["w"] = balance.slots[-1][1], balance.slots[-1][0]
    else:
        expected["c"] = sum(slot[1] for slot in balance.slots)
    if not fields:
        return [_counter(shard, balance, name, expected[name], None) for name in ("c", "h")]
    return [
        _counter(shard, balance, name, amount, fields.get(name, 0))
        for name, amount in sorted(expected.items())
        if fields.get(name, 0) != amount
    ]


def _counter(
    shard: int, balance: Balance, name: str, expected: int, found: int | None
) -> Difference:
    field = _NAMES.get(name, f"bucket {name[1:]}")
    return Difference(shard, DifferenceKind.COUNTER, balance.counter_id, field, expected, found)


def compare_held(
    shard: int, balances: Iterable[Balance], held_by_hold: dict[str, int]
) -> list[Difference]:
    """Return counters that hold something else than the open holds on them do together.

    Args:
        shard: Where.
        balances: As they are recorded.
        held_by_hold: By counter, the sum over open holds; what is compared is taken out.
    """
    return [
        Difference(
            shard, DifferenceKind.HELD_SUM, balance.counter_id, "held", expected, balance.held
        )
        for balance in balances
        if balance.held != (expected := held_by_hold.pop(balance.counter_id, 0))
    ]
