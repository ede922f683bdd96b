"""What a change of program costs in the terms of the task: accuracy and AUROC.

The interval of a drop comes from a paired bootstrap: each resample draws samples, and
both programs are scored on the same draw, so that what is hard for both cancels out.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from packager.artifacts import Interval, MetricDrop
from packager.contract import Contract
from packager.contract.answers import decisions, probabilities
from packager.errors import DataError
from packager.parity.decisions import CONFIDENCE

TAIL = (1.0 - CONFIDENCE) / 2.0
RESAMPLES = 2000
SEED = 0
# Resamples are scored a block at a time, which bounds memory to about 100 MB.
BLOCK_WEIGHTS = 2_000_000

Counts = NDArray[np.int64]
Scores = NDArray[np.float64]


def metric_drops(
    labels: NDArray[np.int64],
    reference: NDArray[np.float32],
    candidate: NDArray[np.float32],
    contract: Contract,
) -> tuple[MetricDrop, MetricDrop]:
    """Return the drop in accuracy and in AUROC from reference to candidate.

    Programs with identical logits lose nothing, and that is certain: [0, 0].

    Args:
        labels: (n,), indices into the contract's labels.
        reference: Logits (n, outputs).
        candidate: Logits of the same samples, in the same order.
        contract: Says what the logits mean.

    Raises:
        DataError: A label has no sample, so that its AUROC does not exist.
    """
    require_every_label(labels, contract)
    activation = contract.activation
    before, after = decisions(reference, contract), decisions(candidate, contract)
    accuracy = accuracy_drop(labels, before, after)
    auroc = auroc_drop(
        labels, probabilities(reference, activation), probabilities(candidate, activation)
    )
    if np.array_equal(reference, candidate):
        certain = Interval(estimate=0.0, low=0.0, high=0.0)
        return replace(accuracy, drop=certain), replace(auroc, drop=certain)
    return accuracy, auroc


def require_every_label(labels: NDArray[np.int64], contract: Contract) -> None:
    """Fail unless each of the contract's labels occurs among `labels` (n,).

    Raises:
        DataError: Names a label that has no sample.
    """
    for index, name in enumerate(contract.labels):
        if index not in labels:
            problem = f"no sample has the label {name!r}, so its AUROC does not exist"
            raise DataError("evaluation", f"{problem}. Add samples of it, or drop the label.")


def accuracy_drop(
    labels: NDArray[np.int64], reference: NDArray[np.int64], candidate: NDArray[np.int64]
) -> MetricDrop:
    """Return the accuracy of two lists of decisions (n,), and what is lost between them.

    Where next to no decision changed, resamples of the samples alone would hardly differ,
    and ten samples without a change would prove a program. Two imagined samples, one lost
    and one gained, keep the interval as wide as n samples warrant: with none of 100
    changed it reaches 3 points to either side, with none of 1,000 it reaches 0.3.
    """
    before, after = reference == labels, candidate == labels
    lost, gained = int((before & ~after).sum()) + 1, int((after & ~before).sum()) + 1
    low, high = _bootstrapped_difference(lost, gained, len(labels) + 2)
    return _metric_drop("accuracy", float(before.mean()), float(after.mean()), (low, high))


def _bootstrapped_difference(lost: int, gained: int, samples: int) -> tuple[float, float]:
    """Return the percentiles of (lost - gained) / samples over all resamples of the samples.

    A resample adds up `samples` draws of +1, -1 or 0, so that the distribution is a power
    of one draw's, which the Fourier transform gives exactly: no resample is drawn.
    """
    one = np.zeros(2 * samples + 1)  # chances of 0, 1, ... samples, -samples, ... -1
    one[[0, 1, -1]] = samples - lost - gained, lost, gained
    chances = np.fft.irfft(np.fft.rfft(one / samples) ** samples, len(one))
    chances = np.roll(chances, samples)
    differences = np.arange(-samples, samples + 1) / samples
    above_low = np.cumsum(chances) > TAIL
    below_high = np.cumsum(chances[::-1])[::-1] > TAIL
    return float(differences[above_low.argmax()]), float(differences[below_high.nonzero()[0][-1]])


def auroc_drop(labels: NDArray[np.int64], reference: Scores, candidate: Scores) -> MetricDrop:
    """Return the area under the ROC curve of two programs, and what is lost between them.

    With two labels it is that of the second one; with more, the mean over the labels of
    each against the rest. Resamples keep the number of samples of each label, so that
    none lacks one. Where both programs rank every pair rightly the interval is [0, 0];
    the accuracy's says how sure that many samples can be.

    Args:
        labels: (n,), each of the labels at least once.
        reference: Probabilities (n, labels).
        candidate: Probabilities (n, labels).
    """
    before, after = _mean_auroc(labels, reference), _mean_auroc(labels, candidate)
    strata = tuple(np.flatnonzero(labels == label) for label in np.unique(labels))
    drops = np.concatenate([before(counts) - after(counts) for counts in _resamples(strata)])
    low, high = (float(q) for q in np.quantile(drops, (TAIL, 1.0 - TAIL)))
    once = np.ones(len(labels), np.int64)
    return _metric_drop("auroc", float(before(once)), float(after(once)), (low, high))


def _mean_auroc(labels: NDArray[np.int64], probability: Scores) -> Callable[[Counts], Scores]:
    """Return a function that maps counts (..., n) to the mean area of the labels (...,)."""
    columns = range(1, 2) if probability.shape[1] == 2 else range(probability.shape[1])
    areas = [_auroc(labels == column, probability[:, column]) for column in columns]
    return lambda counts: np.asarray(np.mean([area(counts) for area in areas], axis=0))


def _auroc(positive: NDArray[np.bool_], scores: Scores) -> Callable[[Counts], Scores]:
    """Return a function that maps counts (..., n) to areas (...,).

    A count says how often a sample was drawn. The area is the share of pairs, one positive
    and one negative, in which the positive scores higher; a tie counts half. Sorting is
    done once, here, and each resample costs two sums over its counts.
    """
    order = np.argsort(scores, kind="stable")
    is_positive = positive[order]
    starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))

    def area(counts: Counts) -> Scores:
        sorted_counts = counts[..., order]
        tied_positives = np.add.reduceat(sorted_counts * is_positive, starts, axis=-1)
        tied_negatives = np.add.reduceat(sorted_counts * ~is_positive, starts, axis=-1)
        below = np.cumsum(tied_negatives, axis=-1) - tied_negatives
        # Doubled, so that half a pair is a whole number and the sum is exact.
        won = (tied_positives * (2 * below + tied_negatives)).sum(axis=-1)
        pairs = tied_positives.sum(axis=-1) * tied_negatives.sum(axis=-1)
        return np.asarray(won / (2 * pairs), np.float64)

    return area


def _metric_drop(
    metric: str, reference: float, candidate: float, ends: tuple[float, float]
) -> MetricDrop:
    estimate = reference - candidate
    # The percentiles of a very skew distribution may miss the estimate: widen, never lie.
    interval = Interval(estimate=estimate, low=min(ends[0], estimate), high=max(ends[1], estimate))
    return MetricDrop(
        metric=metric, reference_score=reference, candidate_score=candidate, drop=interval
    )


def _resamples(strata: tuple[NDArray[np.int64], ...]) -> Iterator[Counts]:
    """Yield blocks (resamples, n) of how often each sample was drawn."""
    rng = np.random.default_rng(SEED)
    samples = sum(len(stratum) for stratum in strata)
    block = max(1, BLOCK_WEIGHTS // samples)
    for start in range(0, RESAMPLES, block):
        size = min(block, RESAMPLES - start)
        counts = np.empty((size, samples), np.int64)
        for stratum in strata:
            counts[:, stratum] = _draw(rng, len(stratum), size)
        yield counts


def _draw(rng: np.random.Generator, samples: int, resamples: int) -> Counts:
    """Return how often each sample was drawn, (resamples, samples)."""
    drawn = rng.integers(0, samples, (resamples, samples))
    cells = drawn + samples * np.arange(resamples)[:, np.newaxis]
    counts = np.bincount(cells.ravel(), minlength=resamples * samples)
    return counts.reshape(resamples, samples)
