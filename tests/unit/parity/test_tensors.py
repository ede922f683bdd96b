import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from packager.artifacts import TensorErrors
from packager.errors import ParityError
from packager.parity.tensors import compare, first_not_finite, require_finite

Logits = NDArray[np.float32]

# Powers of two beyond 1e-10 square without underflow in float64, zero included.
outputs = arrays(
    np.float32,
    st.tuples(st.integers(1, 6), st.integers(1, 4)),
    elements=st.floats(-100, 100, width=32).filter(lambda x: x == 0 or abs(x) > 1e-10),
)


def logits(*rows: tuple[float, ...]) -> Logits:
    return np.array(rows, np.float32)


def test_worked_example() -> None:
    # Signal 9 + 16 = 25, noise 1: 10 log10 25 dB; the vectors (3, 4) and (3, 5).
    errors = compare(logits((3.0,), (4.0,)), logits((3.0,), (5.0,)))
    assert errors.max_abs_error == 1.0
    assert errors.sqnr_db == pytest.approx(10 * math.log10(25.0))
    assert errors.cosine_score == pytest.approx(29 / (5 * math.sqrt(34)))


def test_identical_outputs_have_no_noise_to_speak_of() -> None:
    same = logits((1.0, -2.0), (0.5, 3.0))
    assert compare(same, same.copy()) == TensorErrors(
        max_abs_error=0.0, sqnr_db=None, cosine_score=1.0
    )


def test_two_silent_programs_are_identical() -> None:
    nothing = np.zeros((3, 2), np.float32)
    assert compare(nothing, nothing).sqnr_db is None


def test_dead_candidate_has_as_much_noise_as_signal() -> None:
    # What a program whose weights were lost gives: a constant.
    errors = compare(logits((3.0, 4.0)), logits((0.0, 0.0)))
    assert errors == TensorErrors(max_abs_error=4.0, sqnr_db=0.0, cosine_score=0.0)


def test_silent_reference_is_refused() -> None:
    with pytest.raises(ParityError) as caught:
        compare(logits((0.0, 0.0)), logits((1.0, 0.0)))
    assert str(caught.value) == (
        "The reference answers 0 to every sample: there is nothing to compare with."
    )


def test_half_the_noise_is_six_decibels() -> None:
    reference = logits((8.0, -4.0))
    loud = compare(reference, reference + np.float32(0.5)).sqnr_db
    quiet = compare(reference, reference + np.float32(0.25)).sqnr_db
    assert loud is not None
    assert quiet is not None
    assert quiet - loud == pytest.approx(20 * math.log10(2))


def test_outputs_of_any_size_do_not_overflow() -> None:
    # Squares of float32's largest values do not fit float32.
    errors = compare(logits((3e38, 1.0)), logits((-3e38, 1.0)))
    assert errors.max_abs_error == pytest.approx(6e38, rel=1e-6)
    assert errors.cosine_score == pytest.approx(-1.0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_candidate_that_is_not_finite_is_refused(value: float) -> None:
    with pytest.raises(ParityError) as caught:
        compare(logits((1.0, 2.0), (3.0, 4.0)), logits((1.0, 2.0), (3.0, value)))
    assert str(caught.value) == (
        f"The candidate answers [3.0, {value}] to evaluation sample 1. "
        "Build for the target's float32 twin to see whether the network or int8 does it."
    )


def test_finite_outputs_pass() -> None:
    require_finite(logits((1.0, 2.0)), "The candidate")
    assert first_not_finite(logits((1.0, 2.0))) is None


def test_first_of_several_bad_samples_is_named() -> None:
    assert first_not_finite(logits((1.0,), (np.nan,), (np.inf,))) == 1


@given(outputs, st.data())
def test_errors_do_not_depend_on_the_order_of_samples(
    reference: Logits, data: st.DataObject
) -> None:
    order = np.array(data.draw(st.permutations(range(len(reference)))))
    candidate = reference + np.linspace(1, 2, reference.size, dtype=np.float32).reshape(
        reference.shape
    )
    if not reference.any():
        return
    one, two = compare(reference, candidate), compare(reference[order], candidate[order])
    # Sums in another order differ in their last digits.
    assert two.max_abs_error == one.max_abs_error
    assert two.sqnr_db == pytest.approx(one.sqnr_db, abs=1e-6)
    assert two.cosine_score == pytest.approx(one.cosine_score, abs=1e-9)


@given(outputs, outputs)
def test_cosine_is_symmetric_and_in_range(one: Logits, two: Logits) -> None:
    if one.shape != two.shape or not one.any() or not two.any():
        return
    forward, backward = compare(one, two).cosine_score, compare(two, one).cosine_score
    assert -1.0 <= forward <= 1.0
    assert forward == pytest.approx(backward, abs=1e-12)
