"""Shares of old samples: whole numbers that follow one formula, and add up."""

import math
from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from packager.contract.resampling import ONE, Taps, blend, taps
from packager.contract.spec import ResizeMode

# Rows of weights are long: fewer examples than usual do.
SOME = settings(max_examples=40)
LENGTHS = st.integers(1, 60) | st.sampled_from((97, 101, 224, 256, 997))
MODES = st.sampled_from(ResizeMode)


def shares_of(found: Taps, old: int) -> list[int]:
    """Return one share for each old sample."""
    shares = [0] * old
    shares[found.start : found.start + len(found.shares)] = found.shares
    return shares


@given(old=LENGTHS, new=LENGTHS, mode=MODES)
def test_shares_add_up_to_one_and_lie_within_the_old_samples(
    old: int, new: int, mode: ResizeMode
) -> None:
    every = taps(old, new, mode)
    assert len(every) == new
    for found in every:
        assert sum(found.shares) == ONE
        assert min(found.shares) >= 0
        assert found.start >= 0
        assert found.start + len(found.shares) <= old


@given(length=LENGTHS, mode=MODES)
def test_as_many_samples_as_before_are_the_same_ones(length: int, mode: ResizeMode) -> None:
    assert taps(length, length, mode) == tuple(Taps(start=i, shares=(ONE,)) for i in range(length))


def exact_weight(i: int, j: int, old: int, new: int, mode: ResizeMode) -> Fraction:
    """Return what old sample j weighs in new sample i, not yet divided by the sum of all."""
    step = Fraction(old, new)
    centre = (i + Fraction(1, 2)) * step - Fraction(1, 2)
    if mode is ResizeMode.NEAREST:
        return Fraction(math.floor(centre + Fraction(1, 2)) == j)
    if mode is ResizeMode.AREA:
        covered = min((i + 1) * step, Fraction(j + 1)) - max(i * step, Fraction(j))
        return max(Fraction(0), covered)
    if mode is ResizeMode.BILINEAR:
        centre = min(max(centre, Fraction(0)), Fraction(old - 1))
        return max(Fraction(0), 1 - abs(j - centre))
    return max(Fraction(0), 1 - abs(j - centre) / max(step, Fraction(1)))


@SOME
@given(old=st.integers(1, 24), new=st.integers(1, 24), mode=MODES)
def test_shares_are_those_of_the_formula_within_one_step(
    old: int, new: int, mode: ResizeMode
) -> None:
    for i, found in enumerate(taps(old, new, mode)):
        weights = [exact_weight(i, j, old, new, mode) for j in range(old)]
        exact = [weight / sum(weights) * ONE for weight in weights]
        assert all(
            abs(share - wanted) <= 1
            for share, wanted in zip(shares_of(found, old), exact, strict=True)
        )
        # Sums of the first shares are rounded, not each share: a long row does not drift.
        sums = np.cumsum(shares_of(found, old))
        assert all(
            abs(2 * (int(total) - sum(exact[: j + 1], Fraction(0)))) <= 1
            for j, total in enumerate(sums)
        )


@SOME
@given(old=LENGTHS, new=LENGTHS, mode=MODES.filter(lambda mode: mode is not ResizeMode.NEAREST))
def test_mirrored_samples_have_the_mirrored_shares_within_one_step(
    old: int, new: int, mode: ResizeMode
) -> None:
    every = np.array([shares_of(found, old) for found in taps(old, new, mode)])
    assert np.abs(every - every[::-1, ::-1]).max() <= 1


@SOME
@given(old=LENGTHS, new=LENGTHS)
def test_every_old_sample_has_an_equal_part_in_the_new_ones_by_area(old: int, new: int) -> None:
    every = np.array([shares_of(found, old) for found in taps(old, new, ResizeMode.AREA)])
    # Each of the new samples adds at most one step of rounding.
    assert np.abs(every.sum(axis=0) * old - new * ONE).max() <= new * old


def test_four_samples_to_two() -> None:
    half, eighths = ONE // 2, ONE // 8
    assert taps(4, 2, ResizeMode.AREA) == (
        Taps(start=0, shares=(half, half)),
        Taps(start=2, shares=(half, half)),
    )
    assert taps(4, 2, ResizeMode.BILINEAR) == taps(4, 2, ResizeMode.AREA)
    assert taps(4, 2, ResizeMode.NEAREST) == (
        Taps(start=1, shares=(ONE,)),
        Taps(start=3, shares=(ONE,)),
    )
    # A triangle two samples wide to each side; beyond the end, its weight is shared out again.
    assert taps(4, 2, ResizeMode.ANTIALIAS) == (
        Taps(start=0, shares=(28_087, 28_087, 9_362)),
        Taps(start=1, shares=(9_362, 28_087, 28_087)),
    )
    assert taps(2, 4, ResizeMode.ANTIALIAS)[1] == Taps(start=0, shares=(6 * eighths, 2 * eighths))


@given(
    values=st.lists(st.integers(-(2**23), 2**23), min_size=1, max_size=30),
    new=st.integers(1, 30),
    mode=MODES,
)
def test_blend_is_the_sum_of_shares_times_values(
    values: list[int], new: int, mode: ResizeMode
) -> None:
    old = len(values)
    expected = [
        sum(share * value for share, value in zip(shares_of(found, old), values, strict=True))
        for found in taps(old, new, mode)
    ]
    columns = np.array([values, values[::-1]], np.int64).T
    blended = blend(columns, new, mode)
    assert blended.dtype == np.int64
    assert blended[:, 0].tolist() == expected
