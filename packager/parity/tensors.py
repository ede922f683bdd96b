"""How far two sets of outputs differ, as numbers."""

import math

import numpy as np
from numpy.typing import NDArray

from packager.artifacts import TensorErrors
from packager.errors import ParityError


def compare(reference: NDArray[np.float32], candidate: NDArray[np.float32]) -> TensorErrors:
    """Return how far the candidate's outputs are from the reference's.

    Args:
        reference: Finite logits (n, outputs).
        candidate: Logits of the same samples, in the same order and shape.

    Returns:
        `sqnr_db` is None where the two are identical. `cosine_score` is taken over all
        outputs at once; it is 0 where only one of the two is zero everywhere.

    Raises:
        ParityError: The candidate holds NaN or infinity, or the reference is zero
            everywhere, so that no ratio to it exists.
    """
    assert reference.shape == candidate.shape, "both answer the same samples"
    require_finite(candidate, "The candidate")
    signal, noisy = reference.astype(np.float64), candidate.astype(np.float64)
    noise = signal - noisy
    if not noise.any():
        return TensorErrors(max_abs_error=0.0, sqnr_db=None, cosine_score=1.0)
    if not signal.any():
        message = "The reference answers 0 to every sample: there is nothing to compare with."
        raise ParityError(message)
    return TensorErrors(
        max_abs_error=float(np.abs(noise).max()),
        sqnr_db=10.0 * math.log10(_energy(signal) / _energy(noise)),
        cosine_score=_cosine(signal, noisy),
    )


def require_finite(outputs: NDArray[np.float32], whose: str) -> None:
    """Fail if an output (n, ...) is NaN or infinite.

    Args:
        outputs: One row for each sample.
        whose: What gave them: it begins the message.

    Raises:
        ParityError: Names the first such sample and the values.
    """
    sample = first_not_finite(outputs)
    if sample is not None:
        values = outputs[sample].tolist()
        remedy = "Build for the target's float32 twin to see whether the network or int8 does it."
        message = f"{whose} answers {values} to evaluation sample {sample}. {remedy}"
        raise ParityError(message)


def first_not_finite(outputs: NDArray[np.float32]) -> int | None:
    """Return the first row of (n, ...) that holds NaN or infinity; None if there is none."""
    finite = np.isfinite(outputs).reshape(len(outputs), -1).all(axis=1)
    return None if finite.all() else int(finite.argmin())


def _energy(values: NDArray[np.float64]) -> float:
    return float(np.square(values).sum())


def _cosine(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    length = math.sqrt(_energy(a)) * math.sqrt(_energy(b))
    if length == 0.0:
        return 0.0
    # Rounding may carry a quotient of parallel vectors a digit past 1.
    return float(np.clip((a * b).sum() / length, -1.0, 1.0))
