import time

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from packager.artifacts import Interval, MetricDrop
from packager.contract import Activation, Contract
from packager.contract.answers import probabilities
from packager.errors import DataError
from packager.parity import statistics
from packager.parity.statistics import accuracy_drop, auroc_drop, metric_drops
from tests.contracts import GRAY

Labels = NDArray[np.int64]
Probabilities = NDArray[np.float64]

CONTRACT = Contract(
    input_shape=(1, 4, 4),
    source=GRAY,
    full_scale=255.0,
    mean=(0.5,),
    std=(0.5,),
    activation=Activation.SOFTMAX,
    labels=("cyst", "solid"),
)


@st.composite
def scored(draw: st.DrawFn) -> tuple[Labels, Probabilities, Probabilities]:
    """Draw labels, and two sets of probabilities (n, labels) with many ties."""
    classes = draw(st.integers(2, 4))
    samples = draw(st.integers(classes, 30))
    labels = np.array(
        [*range(classes), *draw(st.lists(st.integers(0, classes - 1), min_size=samples - classes,
                                         max_size=samples - classes))],
        np.int64,
    )  # fmt: skip
    # A few steps only, as int8 has: ties are the rule, not the exception.
    steps = st.lists(st.integers(0, 6), min_size=samples * classes, max_size=samples * classes)

    def drawn() -> Probabilities:
        values = np.array(draw(steps), np.float64).reshape(samples, classes) + 0.5
        return np.asarray(values / values.sum(axis=1, keepdims=True))

    return labels, drawn(), drawn()


def expected_auroc(labels: Labels, probability: Probabilities) -> float:
    from sklearn.metrics import roc_auc_score

    if probability.shape[1] == 2:
        return float(roc_auc_score(labels, probability[:, 1]))
    return float(roc_auc_score(labels, probability, multi_class="ovr", average="macro"))


@given(scored())
@settings(deadline=None, max_examples=60)
def test_area_is_that_of_scikit_learn(
    example: tuple[Labels, Probabilities, Probabilities],
) -> None:
    labels, before, after = example
    drop = auroc_drop(labels, before, after)
    # Both add up the same rational numbers, in another order.
    assert drop.reference_score == pytest.approx(expected_auroc(labels, before), abs=1e-12)
    assert drop.candidate_score == pytest.approx(expected_auroc(labels, after), abs=1e-12)


@given(scored())
@settings(deadline=None, max_examples=30)
def test_resampled_area_is_that_of_the_samples_drawn(
    example: tuple[Labels, Probabilities, Probabilities],
) -> None:
    labels, probability, _ = example
    strata = tuple(np.flatnonzero(labels == label) for label in np.unique(labels))
    area = statistics._auroc(labels == 1, probability[:, 1])
    counts = next(statistics._resamples(strata))[:5]
    for drawn, resampled in zip(counts, area(counts), strict=True):
        samples = np.repeat(np.arange(len(labels)), drawn)
        binary = (labels == 1).astype(np.int64)[samples]
        columns = np.stack([1 - probability[samples, 1], probability[samples, 1]], axis=1)
        assert resampled == pytest.approx(expected_auroc(binary, columns), abs=1e-12)


@given(scored())
@settings(deadline=None, max_examples=30)
def test_program_loses_nothing_against_itself(
    example: tuple[Labels, Probabilities, Probabilities],
) -> None:
    labels, probability, _ = example
    names = tuple(str(label) for label in range(probability.shape[1]))
    logits = np.log(probability).astype(np.float32)
    nothing = Interval(estimate=0.0, low=0.0, high=0.0)
    for drop in metric_drops(labels, logits, logits, CONTRACT.model_copy(update={"labels": names})):
        assert drop.drop == nothing


def swapped(drop: MetricDrop) -> MetricDrop:
    interval = drop.drop
    return MetricDrop(
        metric=drop.metric,
        reference_score=drop.candidate_score,
        candidate_score=drop.reference_score,
        drop=Interval(estimate=-interval.estimate, low=-interval.high, high=-interval.low),
    )


def numbers(drop: MetricDrop) -> list[float]:
    interval = drop.drop
    scores = [drop.reference_score, drop.candidate_score]
    return [*scores, interval.estimate, interval.low, interval.high]


def close(one: MetricDrop, two: MetricDrop) -> bool:
    """Compare up to rounding: 0.1 - 0.3 is not exactly -(0.3 - 0.1)."""
    same = np.allclose(numbers(one), numbers(two), rtol=0, atol=1e-12)
    return one.metric == two.metric and bool(same)


@given(scored())
@settings(deadline=None, max_examples=30)
def test_swapping_the_programs_negates_the_drop(
    example: tuple[Labels, Probabilities, Probabilities],
) -> None:
    labels, before, after = example
    assert close(auroc_drop(labels, before, after), swapped(auroc_drop(labels, after, before)))
    decided = before.argmax(axis=1), after.argmax(axis=1)
    forward, backward = accuracy_drop(labels, *decided), accuracy_drop(labels, *decided[::-1])
    assert close(forward, swapped(backward))


@given(scored())
@settings(deadline=None, max_examples=30)
def test_interval_holds_its_estimate_and_stays_in_range(
    example: tuple[Labels, Probabilities, Probabilities],
) -> None:
    labels, before, after = example
    decided = before.argmax(axis=1), after.argmax(axis=1)
    for drop in (auroc_drop(labels, before, after), accuracy_drop(labels, *decided)):
        assert -1.0 <= drop.drop.low <= drop.drop.estimate <= drop.drop.high <= 1.0
        assert drop.drop.estimate == drop.reference_score - drop.candidate_score


@given(scored())
@settings(deadline=None, max_examples=30)
def test_area_depends_on_ranks_alone(
    example: tuple[Labels, Probabilities, Probabilities],
) -> None:
    labels, before, _ = example
    assume(before.shape[1] == 2)
    stretched = before**3  # keeps the order of every column
    assert auroc_drop(labels, before, stretched).drop == Interval(estimate=0.0, low=0.0, high=0.0)


def test_worked_example_with_a_tie() -> None:
    # Pairs (positive, negative): .9 > .1, .9 > .5, .5 > .1 and .5 = .5: 3.5 of 4.
    labels = np.array([0, 0, 1, 1])
    positive = np.array([0.1, 0.5, 0.5, 0.9])
    before = np.stack([1 - positive, positive], axis=1)
    drop = auroc_drop(labels, before, 1 - before)
    assert (drop.reference_score, drop.candidate_score) == (3.5 / 4, 0.5 / 4)


def test_positive_label_that_is_rare_never_goes_missing() -> None:
    # An unstratified resample of these lacks the one positive every third time.
    labels = (np.arange(20) == 7).astype(np.int64)
    positive = np.linspace(0.1, 0.9, 20)
    before = np.stack([1 - positive, positive], axis=1)
    drop = auroc_drop(labels, before, 1 - before).drop
    assert np.isfinite([drop.low, drop.estimate, drop.high]).all()
    assert drop.low <= drop.estimate <= drop.high


def noisy_scores(samples: int, noise: float) -> tuple[Labels, Probabilities, Probabilities]:
    """Return labels and the probabilities of a fair program and of a noisy copy of it."""
    rng = np.random.default_rng(3)
    labels = (np.arange(samples) % 3 == 0).astype(np.int64)
    margin = rng.normal(1.5 * (2 * labels - 1), 1.5)
    changed = margin + rng.normal(0.0, noise, samples)
    positive = [1 / (1 + np.exp(-m)) for m in (margin, changed)]
    before, after = (np.stack([1 - p, p], axis=1) for p in positive)
    return labels, before, after


def test_accuracy_interval_is_that_of_scipy() -> None:
    from scipy import stats

    labels, before, after = noisy_scores(300, 1.0)
    right = [(p.argmax(axis=1) == labels).astype(np.float64) for p in (before, after)]
    theirs = stats.bootstrap(
        # With the two imagined samples, one right before only and one right after only.
        [np.append(right[0], [1, 0]), np.append(right[1], [0, 1])],
        lambda a, b, axis: a.mean(axis=axis) - b.mean(axis=axis),
        paired=True,
        method="percentile",
        n_resamples=5000,
        rng=np.random.default_rng(0),
    ).confidence_interval
    ours = accuracy_drop(labels, before.argmax(axis=1), after.argmax(axis=1)).drop
    # Each end is a quantile of a distribution that both draw: one sample more or less.
    assert ours.low == pytest.approx(theirs.low, abs=1.01 / 302)
    assert ours.high == pytest.approx(theirs.high, abs=1.01 / 302)
    assert ours.high - ours.low > 5 / 300


@pytest.mark.parametrize(("samples", "reach"), [(10, 0.25), (100, 0.03), (1000, 0.003)])
def test_few_samples_without_a_change_prove_little(samples: int, reach: float) -> None:
    labels = np.arange(samples) % 2
    drop = accuracy_drop(labels, labels, labels).drop
    assert drop.estimate == 0.0
    # Two imagined samples of n + 2, each drawn about once and at most about three times.
    assert drop.high == pytest.approx(reach, rel=0.05)
    assert drop.low == pytest.approx(-reach, rel=0.05)


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    # 2.0 % of decisions lost and 0.5 % gained: without the imagined samples the interval
    # would hold the truth in 85 % of the tests only.
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        change = rng.choice([1, -1, 0], size=100, p=[0.02, 0.005, 0.975])
        before, after = np.where(change == -1, 1, 0), np.where(change == 1, 1, 0)
        drop = accuracy_drop(np.zeros(100, np.int64), before, after).drop
        covered += drop.low <= 0.015 <= drop.high
    # Of 200 tests 95 % are 190; fewer than 183 would come of a true 95 % once in 100.
    assert covered >= 183


def test_paired_interval_is_narrower_than_that_of_two_separate_tests() -> None:
    labels, before, after = noisy_scores(500, 0.2)
    paired = auroc_drop(labels, before, after).drop
    # The same program on other samples of the same kind: nothing cancels out.
    rng = np.random.default_rng(5)
    other = np.concatenate([rng.permutation(np.flatnonzero(labels == k)) for k in (0, 1)])
    back = np.argsort(np.concatenate([np.flatnonzero(labels == k) for k in (0, 1)]))
    unpaired = auroc_drop(labels, before, after[other[back]]).drop
    assert paired.high - paired.low < 0.5 * (unpaired.high - unpaired.low)


def test_result_is_the_same_in_blocks_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    labels, before, after = noisy_scores(100, 0.5)
    whole = auroc_drop(labels, before, after)
    monkeypatch.setattr(statistics, "BLOCK_WEIGHTS", 100 * 7)
    blocks = auroc_drop(labels, before, after)
    assert blocks.reference_score == whole.reference_score
    # Blocks draw other resamples of the same distribution.
    assert blocks.drop.low == pytest.approx(whole.drop.low, abs=0.01)


def test_two_thousand_resamples_of_a_thousand_samples_are_quick() -> None:
    labels, before, after = noisy_scores(1000, 0.2)
    started = time.perf_counter()
    auroc_drop(labels, before, after)
    # Takes 0.4 s on an idle core; the limit leaves room for a busy one.
    assert time.perf_counter() - started < 3.0


def test_logits_are_scored_by_what_the_contract_says() -> None:
    logits = np.array([[-3.0], [-1.0], [0.5], [2.0]], np.float32)
    labels = np.array([0, 1, 0, 1])
    contract = CONTRACT.model_copy(update={"activation": Activation.SIGMOID})
    accuracy, auroc = metric_drops(labels, logits, -logits, contract)
    assert (accuracy.metric, accuracy.reference_score, accuracy.candidate_score) == (
        "accuracy", 0.5, 0.5,
    )  # fmt: skip
    assert (auroc.metric, auroc.reference_score, auroc.candidate_score) == ("auroc", 0.75, 0.25)
    expected = expected_auroc(labels, probabilities(logits, Activation.SIGMOID))
    assert auroc.reference_score == expected


def test_label_without_a_sample_is_named() -> None:
    logits = np.zeros((3, 2), np.float32)
    with pytest.raises(DataError) as caught:
        metric_drops(np.zeros(3, np.int64), logits, logits, CONTRACT)
    assert str(caught.value) == (
        "evaluation: no sample has the label 'solid', so its AUROC does not exist. "
        "Add samples of it, or drop the label."
    )
