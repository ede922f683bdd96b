from packager.apps.costs import Passed, instruction_counts, operator_costs
from packager.apps.events import OperatorTime
from packager.validations import InstructionCounts, OperatorCost, SimdCount


def sdot(count: int) -> tuple[SimdCount, ...]:
    return (SimdCount(name="sdot", instructions=count), SimdCount(name="sve", instructions=0))


PASSED = [
    Passed(tag=1, instructions=1_000),
    Passed(tag=2, instructions=1_100),
    Passed(tag=10, instructions=1_100),
    Passed(tag=11, instructions=1_107),
    Passed(tag=20, instructions=1_110, simd=sdot(0)),
    Passed(tag=21, instructions=1_160, simd=sdot(9)),
    Passed(tag=30, instructions=1_160),
    Passed(tag=31, instructions=1_163),
    Passed(tag=20, instructions=1_170, simd=sdot(9)),
    Passed(tag=21, instructions=1_210, simd=sdot(17)),
    Passed(tag=20, instructions=1_300, simd=sdot(17)),
    Passed(tag=21, instructions=1_340, simd=sdot(25)),
    Passed(tag=3, instructions=1_400),
]


def test_each_part_is_what_lies_between_its_markers() -> None:
    assert instruction_counts(PASSED, PASSED, (), source="a test") == InstructionCounts(
        source="a test",
        startup=100,
        prepare=7,
        inference=40,
        first_inference=50,
        answer=3,
        inferences=3,
        repeats=True,
        simd=(SimdCount(name="sdot", instructions=8),),
        operators=(),
    )


def test_inferences_that_differ_give_the_most() -> None:
    slower = [*PASSED[:-1], Passed(tag=20, instructions=1_400), Passed(tag=21, instructions=1_441)]
    counts = instruction_counts(slower, slower, (), source="a test")
    assert counts is not None
    assert (counts.inference, counts.repeats) == (41, True)


def test_a_second_run_that_takes_other_counts_does_not_repeat_the_first() -> None:
    slower = [*PASSED[:-2], Passed(tag=21, instructions=1_341)]
    counts = instruction_counts(PASSED, slower, (), source="a test")
    assert counts is not None
    assert (counts.inference, counts.repeats) == (40, False)


def test_a_run_that_broke_off_counts_nothing() -> None:
    assert instruction_counts(PASSED[:6], PASSED, (), source="a test") is None
    assert instruction_counts(PASSED[2:], PASSED, (), source="a test") is None


def test_a_marker_without_its_partner_is_no_part() -> None:
    torn = [PASSED[0], PASSED[1], Passed(tag=21, instructions=5), *PASSED[4:10], PASSED[4]]
    counts = instruction_counts(torn, PASSED, (), source="a test")
    assert counts is not None
    assert (counts.inferences, counts.prepare) == (2, None)


def test_operators_are_listed_by_what_they_take() -> None:
    times = [OperatorTime(name="a", clock_ns=250), OperatorTime(name="b", clock_ns=750)]
    assert operator_costs(times) == (
        OperatorCost(name="b", instructions=750, share_ratio=0.75),
        OperatorCost(name="a", instructions=250, share_ratio=0.25),
    )


def test_operators_that_take_nothing_have_no_share() -> None:
    assert operator_costs([OperatorTime(name="a", clock_ns=0)]) == (
        OperatorCost(name="a", instructions=0, share_ratio=0.0),
    )
