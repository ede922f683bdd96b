"""What a change of program costs in the terms of the task: accuracy and AUROC.

The interval of a drop comes from a paired bootstrap: each resample draws samples, and
both programs are scored on the same draw, so that what is hard for both cancels out.
"""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from packager.artifacts import Interval, MetricDrop
from packager.contract import Contract, decisions, probabilities
from packager.errors import DataError
from packager.parity.decisions import CONFIDENCE

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

    Args:
        labels: (n,), indices into the contract's labels.
        reference: Logits (n, outputs).
        candidate: Logits of the same samples, in the same order.
        contract: Says what the logits mean.

    Raises:
        DataError: A label has no sample, so that its AUROC does not exist.
    """
    _require_every_label(labels, contract)
    activation = contract.activation
    before, after = decisions(reference, activation), decisions(candidate, activation)
    accurate = accuracy_drop(labels, before, after)
    ranked = auroc_drop(
        labels, probabilities(reference, activation), probabilities(candidate, activation)
    )
    return accurate, ranked


def accuracy_drop(
    labels: NDArray[np.int64], reference: NDArray[np.int64], candidate: NDArray[np.int64]
) -> MetricDrop:
    """Return the accuracy of two lists of decisions (n,), and what is lost between them.

    Where no decision changed the interval is [0, 0]: the bootstrap only knows the samples
    that it was given. How sure that is for other samples, the agreement's interval says.
    """
    right = np.stack([reference == labels, candidate == labels])

    def score(counts: Counts) -> Scores:
        return np.asarray(counts @ right.T / len(labels))

    everyone = (np.arange(len(labels)),)
    return _drop("accuracy", score, everyone)


def auroc_drop(labels: NDArray[np.int64], reference: Scores, candidate: Scores) -> MetricDrop:
    """Return the area under the ROC curve of two programs, and what is lost between them.

    With two labels it is that of the second one; with more, the mean over the labels of
    each against the rest. Resamples keep the number of samples of each label, so that
    none lacks one; the interval is blind to the spread within a label of one sample.

    Args:
        labels: (n,), each of the labels at least once.
        reference: Probabilities (n, labels).
        candidate: Probabilities (n, labels).
    """
    columns = range(1, 2) if reference.shape[1] == 2 else range(reference.shape[1])
    curves = [
        [_auroc(labels == column, probability[:, column]) for column in columns]
        for probability in (reference, candidate)
    ]

    def score(counts: Counts) -> Scores:
        means = [np.mean([area(counts) for area in areas], axis=0) for areas in curves]
        return np.stack(means, axis=-1)

    strata = tuple(np.flatnonzero(labels == label) for label in np.unique(labels))
    return _drop("auroc", score, strata)


def _require_every_label(labels: NDArray[np.int64], contract: Contract) -> None:
    for index, name in enumerate(contract.labels):
        if index not in labels:
            problem = f"no sample has the label {name!r}, so its AUROC does not exist"
            raise DataError("evaluation", f"{problem}. Add samples of it, or drop the label.")


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


def _drop(
    metric: str, score: Callable[[Counts], Scores], strata: tuple[NDArray[np.int64], ...]
) -> MetricDrop:
    """Score both programs on all samples, and the drop between them on resamples.

    Args:
        metric: Its name.
        score: Maps counts (resamples, n) to scores (resamples, 2).
        strata: Indices of samples; each resample draws as many from each as it has.
    """
    once = np.ones((1, sum(len(stratum) for stratum in strata)), np.int64)
    reference, candidate = (float(value) for value in score(once)[0])
    resampled = np.concatenate([score(counts) for counts in _resamples(strata)])
    drops = resampled[:, 0] - resampled[:, 1]
    tail = (1.0 - CONFIDENCE) / 2.0
    low, high = (float(q) for q in np.quantile(drops, (tail, 1.0 - tail)))
    estimate = reference - candidate
    # The percentiles of a very skew distribution may miss the estimate: widen, never lie.
    interval = Interval(estimate=estimate, low=min(low, estimate), high=max(high, estimate))
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
            share = np.full(len(stratum), 1.0 / len(stratum))
            counts[:, stratum] = rng.multinomial(len(stratum), share, size=size)
        yield counts
