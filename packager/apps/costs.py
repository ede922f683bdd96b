"""Turn what a program passed on its way into what each part of its work took."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from packager.apps.events import Marker, OperatorTime
from packager.validations import InstructionCounts, OperatorCost, SimdCount


@dataclass(frozen=True, kw_only=True)
class Passed:
    """A marker, and how many instructions had run when the program passed it."""

    tag: int
    instructions: int
    simd: tuple[SimdCount, ...] = ()


def instruction_counts(
    passed: Sequence[Passed],
    again: Sequence[Passed],
    operators: tuple[OperatorCost, ...],
    *,
    source: str,
) -> InstructionCounts | None:
    """Return what a self-test took; None where too few markers were passed to say.

    Args:
        passed: The markers of one run, in order.
        again: Those of a second run, to see whether inferences take the same.
        operators: What each operator takes, where that is known.
        source: What counted.

    For markers 1 at 0, 2 at 100, and pairs 20, 21 that are 50, 40 and 40 apart: a start-up
    of 100, a first inference of 50, and 40 for each after it.
    """
    inferences = _between(passed, Marker.INFERRING, Marker.INFERRED)
    startup = _between(passed, Marker.STARTED, Marker.READY)
    if len(inferences) < 2 or not startup:
        return None
    first, *warm = inferences
    return InstructionCounts(
        source=source,
        startup=_took(startup[0]),
        prepare=_most(_between(passed, Marker.PREPARING, Marker.PREPARED)),
        inference=max(_all(warm)),
        first_inference=_took(first),
        answer=_most(_between(passed, Marker.ANSWERING, Marker.ANSWERED)),
        inferences=len(inferences),
        repeats=_all(inferences) == _all(_between(again, Marker.INFERRING, Marker.INFERRED)),
        simd=_simd(warm[-1]),
        operators=operators,
    )


def operator_costs(times: Iterable[OperatorTime]) -> tuple[OperatorCost, ...]:
    """Return what each operator takes of one inference, the dearest first.

    Args:
        times: On a clock that advances by one nanosecond for each instruction.
    """
    times = tuple(times)
    total = sum(time.clock_ns for time in times) or 1
    costs = [
        OperatorCost(
            name=time.name,
            instructions=time.clock_ns,
            share_ratio=time.clock_ns / total,
        )
        for time in times
    ]
    return tuple(sorted(costs, key=lambda cost: -cost.instructions))


Pair = tuple[Passed, Passed]


def _between(passed: Sequence[Passed], begin: Marker, end: Marker) -> list[Pair]:
    """Return each passing of `begin` with the passing of `end` that follows it."""
    pairs = []
    opened: Passed | None = None
    for mark in passed:
        if mark.tag == begin:
            opened = mark
        elif mark.tag == end and opened:
            pairs.append((opened, mark))
            opened = None
    return pairs


def _took(pair: Pair) -> int:
    return pair[1].instructions - pair[0].instructions


def _all(pairs: list[Pair]) -> list[int]:
    return [_took(pair) for pair in pairs]


def _most(pairs: list[Pair]) -> int | None:
    """Return what the longest took; None where there is none."""
    return max((_took(pair) for pair in pairs), default=None)


def _simd(pair: Pair) -> tuple[SimdCount, ...]:
    before = {count.name: count.instructions for count in pair[0].simd}
    counts = [
        SimdCount(name=count.name, instructions=count.instructions - before.get(count.name, 0))
        for count in pair[1].simd
    ]
    return tuple(count for count in counts if count.instructions)
