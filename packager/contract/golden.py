"""Golden samples: raw frames with all that must come of them, to hold any app against."""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from packager.contract.document import IoContract
from packager.contract.frames import Frame, fit_frame
from packager.contract.signals import fit_signal
from packager.contract.spec import Contract
from packager.contract.tensors import normalise, to_device

Arrays = Mapping[str, NDArray[np.generic]]
Sample = Frame | NDArray[np.generic]


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
