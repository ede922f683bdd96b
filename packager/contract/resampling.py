"""Which samples make up a new one, and in which shares: whole numbers only.

Centres lie at half samples: the new sample i of n lies at (i + 1/2) * m / n - 1/2 among m
old ones. All comparisons are made on multiples of 1 / 2n, so nothing is ever rounded but
the shares, and those add up to `ONE` exactly.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, assert_never

import numpy as np
from numpy.typing import NDArray

from packager.contract.spec import ResizeMode

SHARE_BITS = 16
ONE = 1 << SHARE_BITS


@dataclass(frozen=True, kw_only=True)
class Taps:
    """The old samples that one new sample is made of: `start`, `start + 1`, ...

    Attributes:
        shares: Of each, in units of 1 / `ONE`; they sum to `ONE`.
    """

    start: int
    shares: tuple[int, ...]


@lru_cache(maxsize=64)
def taps(old: int, new: int, mode: ResizeMode) -> tuple[Taps, ...]:
    """Return what each of `new` samples is made of, out of `old` ones.

    For 4 to 2 by area: samples 0 and 1 in equal shares, then 2 and 3.
    """
    return tuple(_rounded(*_weights(i, old, new, mode)) for i in range(new))


def _weights(i: int, old: int, new: int, mode: ResizeMode) -> tuple[int, list[int]]:
    """Return the first old sample of new sample `i`, and the weights from there on."""
    centre = (2 * i + 1) * old - new  # in units of 1 / (2 * new) old samples
    match mode:
        case ResizeMode.NEAREST:
            return (2 * i + 1) * old // (2 * new), [1]
        case ResizeMode.BILINEAR:
            inside = min(max(centre, 0), 2 * new * (old - 1))
            start, beyond = divmod(inside, 2 * new)
            return start, [2 * new - beyond, beyond] if beyond else [1]
        case ResizeMode.ANTIALIAS:
            reach = 2 * max(old, new)
            start = max(0, (centre - reach) // (2 * new) + 1)
            stop = min(old, -((-centre - reach) // (2 * new)))
            return start, [reach - abs(2 * new * j - centre) for j in range(start, stop)]
        case ResizeMode.AREA:
            start, stop = i * old // new, -(-(i + 1) * old // new)
            left, right = i * old, (i + 1) * old
            spans = [min(right, (j + 1) * new) - max(left, j * new) for j in range(start, stop)]
            return start, spans
        case _:
            assert_never(mode)


def _rounded(start: int, weights: list[int]) -> Taps:
    """Round the running sums of the weights, so that the shares sum to `ONE`."""
    total, reached, shares = sum(weights), 0, []
    for weight in weights:
        before = (2 * reached * ONE + total) // (2 * total)
        reached += weight
        shares.append((2 * reached * ONE + total) // (2 * total) - before)
    return Taps(start=start, shares=tuple(shares))


def blend(
    values: NDArray[np.signedinteger], new: int, mode: ResizeMode
) -> NDArray[np.signedinteger]:
    """Return the sums of shares times values along the first axis, in units of 1 / `ONE`.

    Args:
        values: (old, ...), of a type that holds the sums.
        new: How many samples to make of the old ones.
        mode: How.

    Returns:
        (new, ...) in the type of `values`, not yet divided by `ONE`.
    """
    old, *rest = values.shape
    matrix = _matrix(old, new, mode, values.dtype)
    blended: NDArray[np.signedinteger] = matrix @ values.reshape(old, -1)
    return blended.reshape(new, *rest)


@lru_cache(maxsize=64)
def _matrix(old: int, new: int, mode: ResizeMode, dtype: np.dtype[np.signedinteger]) -> Any:  # noqa: ANN401 SciPy has no types
    """Return the shares as a sparse matrix (new, old): most of it would be zeros."""
    from scipy import sparse

    along = taps(old, new, mode)
    shares = np.array([share for t in along for share in t.shares], dtype)
    columns = np.array([t.start + k for t in along for k in range(len(t.shares))], np.int32)
    ends = np.cumsum([0, *(len(t.shares) for t in along)]).astype(np.int32)
    return sparse.csr_array((shares, columns, ends), shape=(new, old))
