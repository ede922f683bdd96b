import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from packager.contract import Activation, Contract
from packager.parity.decisions import agreement, changed, most_moved
from tests.contracts import GRAY

SOFTMAX = Contract(
    input_shape=(1, 4, 4),
    source=GRAY,
    full_scale=255.0,
    mean=(0.5,),
    std=(0.25,),
    activation=Activation.SOFTMAX,
    labels=("cyst", "solid"),
)
SIGMOID = SOFTMAX.model_copy(update={"activation": Activation.SIGMOID})


def logits(*rows: tuple[float, ...]) -> NDArray[np.float32]:
    return np.array(rows, np.float32)


def test_decision_changes_where_another_label_wins() -> None:
    before = logits((2.0, 1.0, 0.0), (0.0, 3.0, 1.0), (1.0, 0.0, 5.0))
    after = logits((9.0, 1.0, 0.0), (0.0, 1.0, 3.0), (1.0, 0.5, 4.0))
    assert changed(before, after, SOFTMAX).tolist() == [False, True, False]


def test_decision_of_one_output_changes_at_zero() -> None:
    before, after = logits((0.1,), (-0.1,), (2.0,)), logits((-0.1,), (0.1,), (0.01,))
    assert changed(before, after, SIGMOID).tolist() == [True, True, False]


def test_interval_is_the_exact_one() -> None:
    # With no change among n samples its lower end is 0.025 ** (1 / n), by definition.
    none, all_ = agreement(np.zeros(100, np.bool_)), agreement(np.ones(100, np.bool_))
    assert (none.estimate, none.high) == (1.0, 1.0)
    assert none.low == pytest.approx(0.025 ** (1 / 100))
    assert (all_.estimate, all_.low) == (0.0, 0.0)
    assert all_.high == pytest.approx(1 - 0.025 ** (1 / 100))


@given(st.lists(st.booleans(), min_size=1, max_size=300))
def test_agreement_is_a_share_within_its_interval(changes: list[bool]) -> None:
    share = agreement(np.array(changes))
    assert 0.0 <= share.low <= share.estimate <= share.high <= 1.0
    assert share.estimate == pytest.approx(1 - sum(changes) / len(changes))


@given(st.lists(st.booleans(), min_size=1, max_size=60))
def test_more_samples_of_the_same_kind_narrow_the_interval(changes: list[bool]) -> None:
    few, many = agreement(np.array(changes)), agreement(np.array(changes * 4))
    assert many.high - many.low < few.high - few.low


def test_changed_samples_come_first_and_then_those_that_moved_most() -> None:
    before = logits((3.0,), (3.0,), (0.2,), (-0.1,), (3.0,))
    after = logits((3.0,), (0.5,), (-0.2,), (4.0,), (2.0,))
    # Samples 3 and 2 changed sides, and 3 moved further; of the rest 1 moved most.
    order = most_moved(before, after, contract=SIGMOID, limit=10)
    assert order.tolist() == [3, 2, 1, 4, 0]
    assert order.dtype == np.int64


def test_no_more_samples_are_shown_than_asked_for() -> None:
    before = np.zeros((50, 3), np.float32)
    assert most_moved(before, before, contract=SOFTMAX, limit=4).tolist() == [0, 1, 2, 3]
