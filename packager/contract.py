"""The input and output contract: how a frame becomes a tensor, and a tensor an answer.

This module is the only definition of both. Training, calibration, parity and the
golden vectors in each bundle all go through it.
"""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from packager.artifacts import Layout, Precision, TensorIo
from packager.errors import DataError

FORMAT_VERSION = 1


class Activation(StrEnum):
    """What turns the model's output into probabilities."""

    SOFTMAX = "softmax"
    SIGMOID = "sigmoid"


@dataclass(frozen=True, kw_only=True)
class Contract:
    """What the model expects of a frame, and what its output means.

    Attributes:
        input_shape: Of one sample: (channels, height, width) or (channels, length).
        full_scale: The raw value that stands for 1.0, such as 255 for 8-bit frames.
        mean: One for each channel, in units of full scale.
        std: One for each channel, in units of full scale, above 0.
        labels: In the order of the model's outputs; with `sigmoid`, the negative one first.
    """

    input_shape: tuple[int, ...]
    full_scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    activation: Activation
    labels: tuple[str, ...]
    format_version: int = FORMAT_VERSION

    @property
    def outputs(self) -> int:
        """The number of values that the model returns for one sample."""
        return 1 if self.activation is Activation.SIGMOID else len(self.labels)


def prepare(frames: NDArray[np.generic], contract: Contract) -> NDArray[np.float32]:
    """Turn raw frames into the model's input, float32 (n, channels, ...).

    Args:
        frames: uint8 (n, height, width) or (n, height, width, channels) for images;
            float32 (n, length) or (n, channels, length) for signals.
        contract: What the model expects.

    Raises:
        DataError: A frame is of another shape, or holds NaN or infinity.
    """
    planes = _channels_first(frames, contract)
    if planes.shape[1:] != contract.input_shape:
        problem = f"each sample is {planes.shape[1:]}, the contract says {contract.input_shape}"
        raise DataError("frames", f"{problem} (contract.input_shape, channels first).")
    if not np.isfinite(planes).all():
        sample = int(np.argwhere(~np.isfinite(planes))[0][0])
        raise DataError("frames", f"sample {sample} holds NaN or infinity. Remove or repair it.")
    per_channel = (1, -1) + (1,) * (planes.ndim - 2)
    mean = np.asarray(contract.mean, np.float32).reshape(per_channel)
    std = np.asarray(contract.std, np.float32).reshape(per_channel)
    scaled = planes.astype(np.float32) / np.float32(contract.full_scale)
    return np.ascontiguousarray((scaled - mean) / std, np.float32)


def _channels_first(frames: NDArray[np.generic], contract: Contract) -> NDArray[np.generic]:
    channels = contract.input_shape[0]
    if frames.ndim == len(contract.input_shape) and channels == 1:
        return frames[:, np.newaxis]
    image = len(contract.input_shape) == 3
    return np.moveaxis(frames, -1, 1) if image and frames.ndim == 4 else frames


def to_device(batch: NDArray[np.float32], io: TensorIo) -> NDArray[np.generic]:
    """Lay out and quantise a prepared batch (n, channels, ...) as the program wants it."""
    if io.layout is Layout.CHANNELS_LAST:
        batch = np.ascontiguousarray(np.moveaxis(batch, 1, -1))
    return quantise(batch, io)


def quantise(values: NDArray[np.float32], io: TensorIo) -> NDArray[np.generic]:
    """Return `values` in the type of `io`.

    Halves are rounded away from zero, as C's `roundf` does and every device's code will;
    NumPy's own rounding (halves to even) differs by one step at every exact half.
    """
    if io.dtype is Precision.FLOAT32:
        return values.astype(np.float32)
    scale, zero_point = _quantisation(io)
    steps = values.astype(np.float32) / np.float32(scale)
    rounded = np.trunc(steps + np.copysign(np.float32(0.5), steps))
    return np.asarray(np.clip(rounded + zero_point, -128, 127), np.int8)


def dequantise(stored: NDArray[np.generic], io: TensorIo) -> NDArray[np.float32]:
    """Return the real values of what the program gave."""
    if io.dtype is Precision.FLOAT32:
        return stored.astype(np.float32)
    scale, zero_point = _quantisation(io)
    return (stored.astype(np.float32) - np.float32(zero_point)) * np.float32(scale)


def _quantisation(io: TensorIo) -> tuple[float, int]:
    assert io.scale is not None, "an int8 tensor has a scale"
    assert io.zero_point is not None, "an int8 tensor has a zero point"
    return io.scale, io.zero_point


def probabilities(logits: NDArray[np.float32], activation: Activation) -> NDArray[np.float64]:
    """Return the probability of each label, (n, labels), from logits (n, outputs)."""
    logits64 = logits.astype(np.float64)
    if activation is Activation.SIGMOID:
        # Not 1 / (1 + exp(-x)), which overflows for large negative logits.
        positive = np.exp(-np.logaddexp(0.0, -logits64[:, 0]))
        return np.stack([1.0 - positive, positive], axis=1)
    shifted = np.exp(logits64 - logits64.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def decisions(logits: NDArray[np.float32], activation: Activation) -> NDArray[np.int64]:
    """Return the index of the decided label for each row of logits (n, outputs)."""
    if activation is Activation.SIGMOID:
        return (logits[:, 0] > 0).astype(np.int64)
    return np.asarray(logits.argmax(axis=1), np.int64)


def decode_image(path: Path, contract: Contract) -> NDArray[np.uint8]:
    """Read an image file as one raw frame of the contract's size.

    The EXIF turn is applied, colour becomes gray where the contract has one channel,
    and the size is changed by `resize`.

    Returns:
        uint8 (height, width) or (height, width, 3).

    Raises:
        DataError: The file is no image, is truncated, or is of a depth other than 8 bit.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            # Pillow would cut 16-bit colours to 8 bits; only the raw modes tell.
            kinds = [image.mode, *(str(tile.args) for tile in image.tile)]
            if image.mode.startswith(("I", "F")) or any(";16" in kind for kind in kinds):
                raise DataError(str(path), f"pixels are {kinds[-1]}; only 8-bit images are read.")
            upright = ImageOps.exif_transpose(image)
            frame = upright.convert("L" if contract.input_shape[0] == 1 else "RGB")
            pixels = np.asarray(frame, np.uint8)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(str(path), f"is not a readable image: {error}.") from None
    return resize(pixels, height_px=contract.input_shape[1], width_px=contract.input_shape[2])


def resize(frame: NDArray[np.uint8], *, height_px: int, width_px: int) -> NDArray[np.uint8]:
    """Resize by a triangle filter: bilinear upwards, antialiased downwards.

    Sample centres lie at half pixels; weights at the border are renormalised; the result
    is rounded half up. A constant frame stays constant.
    """
    rows = _triangle_weights(frame.shape[0], height_px)
    columns = _triangle_weights(frame.shape[1], width_px)
    blended = np.einsum(
        "ah,hw...,bw->ab...", rows, frame.astype(np.float64), columns, optimize=True
    )
    return np.asarray(np.clip(np.floor(blended + 0.5), 0, 255), np.uint8)


def _triangle_weights(source: int, wanted: int) -> NDArray[np.float64]:
    """Return (wanted, source) weights whose rows sum to 1."""
    ratio = source / wanted
    support = max(ratio, 1.0)
    centres = (np.arange(wanted) + 0.5) * ratio - 0.5
    distance = np.abs(centres[:, np.newaxis] - np.arange(source)[np.newaxis, :]) / support
    weights = np.clip(1.0 - distance, 0.0, None)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float64)
