"""Golden samples: raw frames with all that must come of them, to hold any app against."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from packager.artifacts import OperatorCount, Precision, Runtime
from packager.contract.document import IoContract
from packager.contract.frames import Frame, fit_frame
from packager.contract.signals import fit_signal
from packager.contract.spec import Contract
from packager.contract.tensors import normalise, to_device

Arrays = Mapping[str, NDArray[np.generic]]
Sample = Frame | NDArray[np.generic]


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """How far a device's outputs may be from the golden ones.

    Attributes:
        ratio: A share of the largest absolute golden output; 0.0 asks for equal bits.
        reason: Why bits need not be equal; empty where they must be.
    """

    ratio: float
    reason: str


EXACT = Tolerance(ratio=0.0, reason="")

# Measured between x86-64 and 64-bit Arm cores: 3.6e-7. Thirty times as much is far from a decision.
FLOAT = Tolerance(
    ratio=1e-5, reason="kernels of other processors add float32 products in another order"
)

# Up to two steps of 255 were measured at the output. What tflite-runtime 2.14 computes wrongly
# (dynamic range) is off by a third.
LEGACY_INT8 = Tolerance(
    ratio=0.03, reason="tflite-runtime rounds one in two thousand sums otherwise on 32-bit Arm"
)

# Of LiteRT's own int8 kernels, these differ by one step between x86-64 and 64-bit Arm: SOFTMAX in
# 121 of 100,352 values, products of two computed tensors in 1,195 of 153,664. All others are equal.
LITERT_INT8_ROUNDS_OTHERWISE = frozenset({"BATCH_MATMUL", "SOFTMAX"})
LITERT_INT8_RATIO = 0.03


def output_tolerance(
    precision: Precision, runtime: Runtime, operators: Iterable[OperatorCount]
) -> Tolerance:
    """Return how far a device's outputs may be from the golden ones.

    Args:
        precision: How the program computes.
        runtime: What runs it.
        operators: Those of the program, as its bundle lists them.
    """
    match precision:
        case Precision.FLOAT32:
            return FLOAT
        case Precision.INT8:
            if runtime is Runtime.TFLITE_LEGACY:
                return LEGACY_INT8
            used = {use.operator for use in operators if use.dtype == Precision.INT8}
            inexact = sorted(used & LITERT_INT8_ROUNDS_OTHERWISE)
            if runtime is not Runtime.LITERT or not inexact:
                return EXACT
            reason = f"LiteRT's int8 {' and '.join(inexact)} round otherwise on Arm"
            return Tolerance(ratio=LITERT_INT8_RATIO, reason=reason)
        case _:
            assert_never(precision)


def golden_sample(arrays: Arrays, place: int, contract: Contract) -> Sample:
    """Return the raw sample at a place in the arrays of a golden file.

    Returns:
        A frame, or a signal (length,) or (leads, length), as the contract's source says.
    """
    stored = arrays[f"frame_{place:03}"]
    if not contract.is_image:
        return stored
    return Frame(
        pixels=stored,
        orientation=int(arrays["orientations"][place]),
        palette=arrays.get(f"palette_{place:03}"),
    )


def fit(sample: Sample, contract: Contract) -> NDArray[np.generic]:
    """Return a raw sample in the tensor's size, before it is normalised.

    Raises:
        FrameError: It is not what the contract's source says.
    """
    if isinstance(sample, Frame):
        return fit_frame(sample, contract)
    return fit_signal(sample, contract)


def prepare(sample: Sample, io: IoContract) -> NDArray[np.generic]:
    """Return the program's input, (1, ...), of a raw sample: the whole way.

    Raises:
        FrameError: It is not what the contract's source says.
    """
    fitted = fit(sample, io.contract)
    return to_device(normalise(fitted[np.newaxis], io.contract), io.input)


def self_test(
    arrays: Arrays, io: IoContract, preparer: Callable[[Sample, IoContract], NDArray[np.generic]]
) -> tuple[int, ...]:
    """Return the golden samples whose input `preparer` does not make byte for byte.

    Args:
        arrays: Of a golden file, as `bundle` writes it.
        io: The bundle's contract.
        preparer: What an app does in place of `prepare`.
    """
    places = range(len(arrays["samples"]))
    given = (preparer(golden_sample(arrays, place, io.contract), io) for place in places)
    return tuple(
        place
        for place, tensor in zip(places, given, strict=True)
        if first_difference(arrays["inputs"][place], tensor) is not None
    )


def first_difference(wanted: NDArray[np.generic], given: NDArray[np.generic]) -> int | None:
    """Return the index of the first byte in which two tensors differ; None if none does.

    A tensor of another type or number of values differs from byte 0 on.
    """
    if wanted.dtype != given.dtype or wanted.size != given.size:
        return 0
    one, other = wanted.tobytes(), given.tobytes()
    if one == other:
        return None
    pairs = np.frombuffer(one, np.uint8) != np.frombuffer(other, np.uint8)
    return int(pairs.argmax())
