"""How a raw signal becomes samples of the tensor's length, in whole steps of its resolution.

Samples are made whole numbers first. Resampling, filter and taper are then sums of whole
numbers, which have one result in any order and on any machine.
"""

import math
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from packager.contract.resampling import SHARE_BITS, blend
from packager.contract.spec import (
    Contract,
    Position,
    ResizeMode,
    SignalSource,
    SignalSteps,
    Standardise,
    Taper,
)
from packager.errors import Fault, FrameError

MAX_RAW_STEPS = 1 << 20
MAX_FILTERED_STEPS = 1 << 23
FILTER_BITS = 16
TAPER_BITS = 15
# The deviation of a window is taken in 1 / 64 of a step.
DEVIATION_BITS = 6

Steps = NDArray[np.int64]


def fit_signal(signal: NDArray[np.generic], contract: Contract) -> NDArray[np.generic]:
    """Return the part of a signal that the tensor holds, before it is standardised.

    Args:
        signal: float32 or int16, (channels, length), or (length,) of one lead.
        contract: One of signals.

    Returns:
        int32 (channels, length) in steps of the contract's resolution; without
        `contract.signal`, the samples as they are.

    Raises:
        FrameError: The signal is not what the contract's source says.
    """
    leads = signal[np.newaxis] if signal.ndim == 1 else signal
    require_signal(leads, contract)
    steps = contract.signal
    if steps is None:
        return np.ascontiguousarray(leads)
    whole = _whole(leads, steps)
    whole = _resampled(whole, contract)
    whole = _filtered(whole, steps)
    whole = _taken(whole, contract.input_shape[1], steps.position)
    return _tapered(whole, steps.taper).astype(np.int32)


def signal_of_bytes(
    samples: bytes, shape: tuple[int, int], contract: Contract, *, bits: int
) -> NDArray[np.generic]:
    """Return a signal (leads, length) of raw bytes; little-endian.

    Args:
        samples: Lead after lead.
        shape: Leads and samples a lead.
        contract: What the signal should be.
        bits: 16 for whole numbers, 32 for float32.

    Raises:
        FrameError: It is not what the contract's source says.
    """
    types: dict[int, np.dtype[np.generic]] = {16: np.dtype("<i2"), 32: np.dtype("<f4")}
    if bits not in types:
        problem = f"samples have {bits} bits; whole numbers have 16, float32 has 32."
        raise FrameError(Fault.WRONG_BIT_DEPTH, problem)
    dtype = types[bits]
    _require_kind(dtype, shape, contract)
    wanted = shape[0] * shape[1] * dtype.itemsize
    if len(samples) != wanted:
        problem = f"the signal has {len(samples)} bytes and should have {wanted}."
        raise FrameError(Fault.TRUNCATED, problem)
    return np.frombuffer(samples, dtype).reshape(shape)


def require_signal(leads: NDArray[np.generic], contract: Contract) -> None:
    """Check a signal (channels, length) against the contract's source, in the order of `Fault`.

    Raises:
        FrameError: It is another one.
    """
    _require_kind(leads.dtype, leads.shape, contract)
    if not np.isfinite(leads).all():
        lead, sample = np.argwhere(~np.isfinite(leads))[0]
        problem = f"sample {sample} of lead {lead} is NaN or infinite. Remove or repair it."
        raise FrameError(Fault.NOT_FINITE, problem)


def _require_kind(dtype: np.dtype[np.generic], shape: tuple[int, ...], contract: Contract) -> None:
    source = contract.source
    assert isinstance(source, SignalSource), "the contract is one of signals"
    if dtype != np.dtype(source.samples):
        problem = f"samples are {dtype}, the contract says {source.samples}."
        raise FrameError(Fault.WRONG_BIT_DEPTH, problem)
    channels, length = contract.input_shape
    if len(shape) != 2 or shape[0] != channels:
        problem = f"the signal has shape {shape}, the contract has {channels} leads."
        raise FrameError(Fault.WRONG_CHANNELS, problem)
    wanted = source.length or length
    if shape[1] != wanted:
        problem = f"each lead has {shape[1]} samples, the contract says {wanted}."
        raise FrameError(Fault.WRONG_SIZE, problem)


def _whole(leads: NDArray[np.generic], steps: SignalSteps) -> Steps:
    """Return samples as multiples of the resolution, rounded half away from zero."""
    if leads.dtype == np.int16:
        # An integer sample is what the converter gave, and its step is the resolution.
        return leads.astype(np.int64)
    with np.errstate(over="ignore"):
        ratio = leads.astype(np.float32) / np.float32(steps.resolution)
    if (np.abs(ratio) > MAX_RAW_STEPS).any():
        problem = f"a sample is more than {MAX_RAW_STEPS} times the resolution."
        raise FrameError(Fault.OUT_OF_RANGE, problem)
    return round_half_away(ratio)


def round_half_away(values: NDArray[np.float32]) -> Steps:
    """Return the nearest whole numbers; of two, the one farther from zero, as `roundf` does."""
    exact = values.astype(np.float64)  # in float32, a half plus 0.49999997 would be 1
    return np.trunc(exact + np.copysign(0.5, exact)).astype(np.int64)


def _resampled(whole: Steps, contract: Contract) -> Steps:
    source, steps = contract.source, contract.signal
    assert isinstance(source, SignalSource), "the contract is one of signals"
    assert steps is not None, "whole steps come from a contract that has them"
    if steps.resample_hz is None or source.rate_hz is None:
        return whole
    length = whole.shape[1] * steps.resample_hz // source.rate_hz
    sums = blend(np.ascontiguousarray(whole.T), length, ResizeMode.ANTIALIAS)
    return np.asarray((sums.T + (1 << SHARE_BITS - 1)) >> SHARE_BITS, np.int64)


def fir_steps(steps: SignalSteps) -> tuple[int, ...]:
    """Return the filter's coefficients in 1 / 65536, halves rounded up."""
    return tuple(math.floor(c * (1 << FILTER_BITS) + 0.5) for c in steps.fir)


def _filtered(whole: Steps, steps: SignalSteps) -> Steps:
    """Convolve each lead; beyond its ends, the first and the last sample go on."""
    coefficients = fir_steps(steps)
    if coefficients:
        reach, length = len(coefficients) // 2, whole.shape[1]
        padded = np.pad(whole, ((0, 0), (reach, reach)), mode="edge")
        sums = np.zeros_like(whole)
        for k, coefficient in enumerate(coefficients):
            sums += coefficient * padded[:, k : k + length]
        whole = (sums + (1 << FILTER_BITS - 1)) >> FILTER_BITS
    if (np.abs(whole) > MAX_FILTERED_STEPS).any():
        problem = f"a filtered sample is more than {MAX_FILTERED_STEPS} times the resolution."
        raise FrameError(Fault.OUT_OF_RANGE, problem)
    return whole


def _taken(whole: Steps, wanted: int, position: Position) -> Steps:
    start = first_sample(whole.shape[1], wanted, position)
    return whole[:, start : start + wanted]


def first_sample(length: int, wanted: int, position: Position) -> int:
    """Return where the part that is taken begins."""
    match position:
        case Position.START:
            return 0
        case Position.CENTRE:
            return (length - wanted) // 2
        case Position.END:
            return length - wanted
        case _:
            assert_never(position)


def taper_steps(taper: Taper, length: int) -> tuple[int, ...]:
    """Return the factor of each sample in 1 / 32768; empty where there is none."""
    if taper is Taper.NONE:
        return ()
    floor = {Taper.HANN: 0.5, Taper.HAMMING: 0.54}[taper]
    turn = 2 * math.pi / max(1, length - 1)
    factors = (floor - (1 - floor) * math.cos(turn * k) for k in range(length))
    return tuple(math.floor(factor * (1 << TAPER_BITS) + 0.5) for factor in factors)


def _tapered(whole: Steps, taper: Taper) -> Steps:
    factors = taper_steps(taper, whole.shape[1])
    if not factors:
        return whole
    return np.asarray((whole * np.array(factors) + (1 << TAPER_BITS - 1)) >> TAPER_BITS)


def standardise(windows: NDArray[np.generic], contract: Contract) -> NDArray[np.float32]:
    """Return each lead (n, channels, length) less its mean, over its deviation.

    The mean is a whole step, rounded half up; the deviation is in 1 / 64 of a step, rounded
    down. Only the last division is one of float32.

    Raises:
        FrameError: A lead is flat.
    """
    assert contract.signal is not None, "a window is standardised where the contract says so"
    assert contract.signal.standardise is Standardise.WINDOW
    whole = windows.astype(np.int64)
    length = whole.shape[-1]
    total = whole.sum(axis=-1, keepdims=True)
    centred = whole - (2 * total + length) // (2 * length)
    power = np.square(centred).sum(axis=-1, keepdims=True)
    fine = 2 * DEVIATION_BITS
    variance = ((power // length) << fine) + ((power % length) << fine) // length
    deviation = np.array([math.isqrt(int(v)) for v in variance.ravel()]).reshape(variance.shape)
    if (deviation == 0).any():
        raise FrameError(Fault.FLAT_SIGNAL, "a lead does not vary. Is its electrode loose?")
    scaled = (centred << DEVIATION_BITS).astype(np.float32)
    return np.asarray(scaled / deviation.astype(np.float32), np.float32)
