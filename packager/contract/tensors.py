"""How fitted pixels or samples become the program's input, and its output real numbers.

The only arithmetic on float32 is a subtraction and divisions, each rounded by itself: there
is no product to which a compiler could fuse a sum.
"""

import numpy as np
from numpy.typing import NDArray

from packager.artifacts import Layout, Precision, TensorIo
from packager.contract.signals import round_half_away, standardise
from packager.contract.spec import Contract, Standardise
from packager.errors import DataError, Fault, FrameError


def normalise(fitted: NDArray[np.generic], contract: Contract) -> NDArray[np.float32]:
    """Turn fitted pixels or samples into the model's input, float32 (n, channels, ...).

    Args:
        fitted: As `fit_frame` or `fit_signal` return them, n of them: (n, height, width) or
            (n, height, width, channels) for images; (n, length) or (n, channels, length)
            for signals.
        contract: What the model expects.

    Raises:
        DataError: A sample is of another shape.
        FrameError: A sample is flat, is NaN, or is too large for float32.
    """
    planes = _channels_first(fitted, contract)
    if planes.shape[1:] != contract.input_shape:
        problem = f"each sample is {planes.shape[1:]}, the contract says {contract.input_shape}"
        raise DataError("frames", f"{problem} (contract.input_shape, channels first).")
    if contract.signal and contract.signal.standardise is Standardise.WINDOW:
        return standardise(planes, contract)
    per_channel = (1, -1) + (1,) * (planes.ndim - 2)
    mean = np.asarray(contract.mean, np.float32).reshape(per_channel)
    std = np.asarray(contract.std, np.float32).reshape(per_channel)
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = planes.astype(np.float32) / full_scale(contract)
        values = np.ascontiguousarray((scaled - mean) / std, np.float32)
    if not np.isfinite(values).all():
        sample = int(np.argwhere(~np.isfinite(values))[0][0])
        if np.isfinite(planes[sample]).all():
            problem = f"sample {sample} is too large for float32 once it is normalised."
            raise FrameError(Fault.OUT_OF_RANGE, problem)
        problem = f"sample {sample} holds NaN or infinity. Remove or repair it."
        raise FrameError(Fault.NOT_FINITE, problem)
    return values


def full_scale(contract: Contract) -> np.float32:
    """Return what stands for 1.0, in the unit of fitted values."""
    steps = contract.signal
    return np.float32(contract.full_scale / steps.resolution if steps else contract.full_scale)


def _channels_first(fitted: NDArray[np.generic], contract: Contract) -> NDArray[np.generic]:
    channels = contract.input_shape[0]
    if fitted.ndim == len(contract.input_shape) and channels == 1:
        return fitted[:, np.newaxis]
    return np.moveaxis(fitted, -1, 1) if contract.is_image and fitted.ndim == 4 else fitted


def to_device(batch: NDArray[np.float32], io: TensorIo) -> NDArray[np.generic]:
    """Lay out and quantise a normalised batch (n, channels, ...) as the program wants it."""
    if io.layout is Layout.CHANNELS_LAST:
        batch = np.ascontiguousarray(np.moveaxis(batch, 1, -1))
    return quantise(batch, io)


def quantise(values: NDArray[np.float32], io: TensorIo) -> NDArray[np.generic]:
    """Return `values` in the type of `io`.

    Halves are rounded away from zero, as C's `roundf` does; NumPy's own rounding (halves to
    even) differs by one step at every exact half.
    """
    if io.dtype is Precision.FLOAT32:
        return values.astype(np.float32)
    scale, zero_point = quantisation(io)
    with np.errstate(over="ignore"):
        steps = values.astype(np.float32) / np.float32(scale)
    # Far beyond int8 already: the clip keeps the rounding from overflowing.
    rounded = round_half_away(np.clip(steps, -1024, 1024))
    return np.asarray(np.clip(rounded + zero_point, -128, 127), np.int8)


def dequantise(stored: NDArray[np.generic], io: TensorIo) -> NDArray[np.float32]:
    """Return the real values of what the program gave."""
    if io.dtype is Precision.FLOAT32:
        return stored.astype(np.float32)
    scale, zero_point = quantisation(io)
    with np.errstate(over="ignore"):
        return (stored.astype(np.float32) - np.float32(zero_point)) * np.float32(scale)


def quantisation(io: TensorIo) -> tuple[float, int]:
    """Return scale and zero point of an int8 tensor."""
    assert io.scale is not None, "an int8 tensor has a scale"
    assert io.zero_point is not None, "an int8 tensor has a zero point"
    return io.scale, io.zero_point
