"""Put frames to a program, a batch at a time."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from packager.artifacts import File
from packager.contract import Contract
from packager.contract.tensors import normalise

# Float frames are up to four times the size of raw ones: all at once may not fit memory.
BATCH = 256


def answers(
    frames: NDArray[np.generic],
    contract: Contract,
    program: Callable[[NDArray[np.float32]], NDArray[np.generic]],
) -> NDArray[np.generic]:
    """Return what `program` answers to frames (n, ...), n > 0, in their order.

    Args:
        frames: Fitted, as `contract.tensors.normalise` takes them.
        contract: How a frame becomes a tensor.
        program: Maps normalised samples float32 (m, channels, ...), m at most `BATCH`, to
            outputs (m, ...).

    Raises:
        DataError: A frame does not have the contract's shape.
    """
    starts = range(0, len(frames), BATCH)
    parts = [program(normalise(frames[start : start + BATCH], contract)) for start in starts]
    return np.concatenate(parts)


def read_arrays(file: File) -> dict[str, NDArray[np.generic]]:
    """Return the arrays of an `.npz` file by name; it may hold no Python objects."""
    with np.load(file.path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def write_arrays(path: Path, arrays: dict[str, NDArray[np.generic]]) -> File:
    """Write an `.npz` file: the same arrays give the same bytes."""
    np.savez(path, allow_pickle=False, **arrays)
    return File.of(path)
