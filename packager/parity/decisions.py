"""On how many samples two programs decide alike."""

import numpy as np
from numpy.typing import NDArray

from packager.artifacts import Interval
from packager.contract import Contract
from packager.contract.answers import decisions, probabilities

CONFIDENCE = 0.95


def changed(
    reference: NDArray[np.float32], candidate: NDArray[np.float32], contract: Contract
) -> NDArray[np.bool_]:
    """Return, for each row of logits (n, outputs), whether the decided label differs."""
    return np.not_equal(decisions(reference, contract), decisions(candidate, contract))


def agreement(changes: NDArray[np.bool_]) -> Interval:
    """Return the share of samples, 0 to 1, on which the decision is the same.

    The interval is Clopper and Pearson's, which is exact: with no change among 100
    samples it is [0.964, 1], not [1, 1].

    Args:
        changes: For each of n > 0 samples, whether the decision differs.
    """
    from scipy import stats

    same = int((~changes).sum())
    interval = stats.binomtest(same, len(changes)).proportion_ci(CONFIDENCE, method="exact")
    return Interval(
        estimate=same / len(changes), low=float(interval.low), high=float(interval.high)
    )


def most_moved(
    reference: NDArray[np.float32],
    candidate: NDArray[np.float32],
    *,
    contract: Contract,
    limit: int,
) -> NDArray[np.int64]:
    """Return the samples that a person should look at, at most `limit`, the worst first.

    Changed decisions come before unchanged ones; within each, those where the probability
    of the reference's decision moved furthest.
    """
    rows = np.arange(len(reference))
    decided = decisions(reference, contract)
    activation = contract.activation
    before, after = (probabilities(x, activation)[rows, decided] for x in (reference, candidate))
    unchanged = ~changed(reference, candidate, contract)
    order = np.lexsort((rows, -np.abs(after - before), unchanged))
    return order[:limit].astype(np.int64)
