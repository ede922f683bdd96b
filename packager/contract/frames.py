"""How a raw frame becomes pixels of the tensor's size: colour, turn, fan, cut, size.

All of it is arithmetic on whole numbers, so that it has one result, on any machine and in
any language. Each step's rule stands in its function; `docs/contract.md` has them together.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from packager.contract.resampling import SHARE_BITS, blend
from packager.contract.spec import (
    MAX_SIDE_PX,
    BoxCrop,
    CentreCrop,
    ChannelOrder,
    Colour,
    Contract,
    Fit,
    Orientation,
    ResizeMode,
    Sector,
)
from packager.errors import Fault, FrameError

UPRIGHT = 1
TURNED_ORIENTATIONS = range(5, 9)

# Between the two passes of a resize, 8-bit pixels keep 7 more bits: the sums of both
# passes then fit into 32 bits, signed, and pixels of 16 bits with none more, unsigned.
KEPT_BITS = {8: 7, 16: 0}

# Luma of red, green and blue in 1 / 65536 (ITU-R BT.601), as libjpeg and Pillow round it.
LUMA = (19_595, 38_470, 7_471)
# 1.402, 0.344136, 0.714136 and 1.772 in 1 / 65536: the way back from YBR (JFIF, DICOM C.7.6.3).
RED_OF_CR, GREEN_OF_CB, GREEN_OF_CR, BLUE_OF_CB = 91_881, 22_554, 46_802, 116_130

# Unit vectors along the edges of a sector are in 1 / 16384.
EDGE_ONE = 16_384

Pixels = NDArray[np.generic]


@dataclass(frozen=True, kw_only=True, eq=False)
class Frame:
    """One frame as it comes, before anything is done to it.

    Attributes:
        pixels: uint8 or uint16, (height, width) or (height, width, 3), as stored.
        orientation: EXIF's: 1 is upright, 6 is to be turned clockwise.
        palette: (entries, 3) of red, green, blue, in the pixels' type; with `PALETTE` only.
    """

    pixels: Pixels
    orientation: int = UPRIGHT
    palette: Pixels | None = None


@dataclass(frozen=True, kw_only=True)
class Region:
    """A rectangle of pixels."""

    left_px: int
    top_px: int
    width_px: int
    height_px: int


class Resampler(Protocol):
    """Brings pixels to another size."""

    def __call__(
        self, pixels: Pixels, *, height_px: int, width_px: int, mode: ResizeMode
    ) -> Pixels:
        """Return (height, width, ...) of the same type."""


def fit_frame(frame: Frame, contract: Contract, resampler: Resampler | None = None) -> Pixels:
    """Return the frame's pixels in the tensor's size, colour and order of channels.

    Args:
        frame: As it comes.
        contract: What it should be, and what is done to it.
        resampler: Ours, `resample`, where it is left out; another one only to show what
            would come of it.

    Returns:
        (height, width) for one channel or (height, width, 3), in the source's type.

    Raises:
        FrameError: The frame is not what the contract's source says.
    """
    require_frame(frame, contract)
    pixels = _recolour(frame, contract)
    if contract.image.orientation is Orientation.EXIF:
        pixels = turn(pixels, frame.orientation)
    if contract.sector:
        inside = inside_sector(contract.sector, pixels.shape[0], pixels.shape[1])
        pixels = np.where(inside if pixels.ndim == 2 else inside[..., np.newaxis], pixels, 0)
    cut = region(contract, pixels.shape[0], pixels.shape[1])
    rows = slice(cut.top_px, cut.top_px + cut.height_px)
    pixels = pixels[rows, cut.left_px : cut.left_px + cut.width_px]
    return _resize(pixels, contract, resampler or resample)


def frame_of_bytes(
    pixels: bytes,
    shape: tuple[int, int, int],
    contract: Contract,
    *,
    orientation: int = UPRIGHT,
    bits: int = 8,
    palette: bytes = b"",
) -> Frame:
    """Return a frame of raw bytes, as a file or a camera gives them; little-endian.

    Args:
        pixels: Row after row, without gaps.
        shape: Height, width and values a pixel.
        contract: What the frame should be.
        orientation: EXIF's.
        bits: Of one value.
        palette: Red, green, blue of each entry; empty for none.

    Raises:
        FrameError: It is not what the contract's source says.
    """
    height_px, width_px, channels = shape
    _require_kind(bits, channels, contract)
    _require_size(height_px, width_px, orientation, contract)
    wanted = height_px * width_px * channels * bits // 8
    if len(pixels) != wanted or len(palette) % (3 * bits // 8):
        problem = f"the frame has {len(pixels)} bytes and should have {wanted}."
        raise FrameError(Fault.TRUNCATED, problem)
    dtype = np.dtype(f"<u{bits // 8}")
    stored = np.frombuffer(pixels, dtype).reshape(shape if channels > 1 else shape[:2])
    entries = np.frombuffer(palette, dtype).reshape(-1, 3) if palette else None
    frame = Frame(pixels=stored, orientation=orientation, palette=entries)
    require_frame(frame, contract)
    return frame


def require_frame(frame: Frame, contract: Contract) -> None:
    """Check a frame against the contract's source, in the order of `Fault`.

    Raises:
        FrameError: It is another one.
    """
    pixels = frame.pixels
    bits = 8 * pixels.dtype.itemsize if pixels.dtype.kind == "u" else 0
    if pixels.ndim not in (2, 3):
        problem = f"the frame has shape {pixels.shape}, not (height, width) or with channels."
        raise FrameError(Fault.WRONG_CHANNELS, problem)
    _require_kind(bits, pixels.shape[2] if pixels.ndim == 3 else 1, contract)
    _require_size(pixels.shape[0], pixels.shape[1], frame.orientation, contract)
    if frame.orientation not in range(1, 9):
        problem = f"the EXIF orientation is {frame.orientation}; it goes from 1 to 8."
        raise FrameError(Fault.WRONG_ORIENTATION, problem)
    _require_palette(frame, contract.image.colour)


def _require_kind(bits: int, channels: int, contract: Contract) -> None:
    source = contract.image
    if bits != source.bits:
        given = f"{bits} bits" if bits else "no unsigned whole numbers"
        problem = f"pixels have {given}, the contract says {source.bits} bits."
        raise FrameError(Fault.WRONG_BIT_DEPTH, problem)
    if channels != source.colour.channels:
        problem = f"the frame has {channels} values a pixel, {source.colour} has"
        raise FrameError(Fault.WRONG_CHANNELS, f"{problem} {source.colour.channels}.")


def _require_size(height_px: int, width_px: int, orientation: int, contract: Contract) -> None:
    source = contract.image
    size = f"the frame is {height_px} by {width_px} pixels"
    if not (1 <= height_px <= MAX_SIDE_PX and 1 <= width_px <= MAX_SIDE_PX):
        raise FrameError(Fault.WRONG_SIZE, f"{size}; sides go from 1 to {MAX_SIDE_PX}.")
    if source.size_px and (height_px, width_px) != source.size_px:
        wanted = f"{source.size_px[0]} by {source.size_px[1]}"
        raise FrameError(Fault.WRONG_SIZE, f"{size}, the contract says {wanted}.")
    turned = source.orientation is Orientation.EXIF and orientation in TURNED_ORIENTATIONS
    upright = (width_px, height_px) if turned else (height_px, width_px)
    if isinstance(contract.crop, BoxCrop):
        right = contract.crop.left_px + contract.crop.width_px
        bottom = contract.crop.top_px + contract.crop.height_px
        if right > upright[1] or bottom > upright[0]:
            problem = f"{size}; the contract's crop reaches to {bottom} by {right}."
            raise FrameError(Fault.WRONG_SIZE, problem)
    cut = region(contract, *upright)
    if contract.resize is None and (cut.height_px, cut.width_px) != contract.input_shape[1:]:
        wanted = f"{contract.input_shape[1]} by {contract.input_shape[2]}"
        remedy = "Give frames of that size, or add [contract.resize]."
        raise FrameError(Fault.WRONG_SIZE, f"{size}, the contract wants {wanted}. {remedy}")


def _require_palette(frame: Frame, colour: Colour) -> None:
    palette = frame.palette
    if (palette is None) == (colour is Colour.PALETTE):
        problem = "the frame has no palette." if palette is None else "the frame has a palette."
        raise FrameError(Fault.WRONG_PALETTE, f"{problem} The contract's colour is {colour}.")
    if palette is None:
        return
    if palette.dtype != frame.pixels.dtype or palette.ndim != 2 or palette.shape[1] != 3:
        problem = f"the palette is {palette.dtype} of shape {palette.shape}."
        wanted = f"{frame.pixels.dtype} of shape (entries, 3)"
        raise FrameError(Fault.WRONG_PALETTE, f"{problem} It should be {wanted}.")
    highest = int(frame.pixels.max())
    if highest >= len(palette):
        problem = f"a pixel is {highest}, and the palette has {len(palette)} entries."
        raise FrameError(Fault.WRONG_PALETTE, problem)


def _recolour(frame: Frame, contract: Contract) -> Pixels:
    """Return gray (height, width), or (height, width, 3) in the model's order."""
    colour, gray = contract.image.colour, contract.input_shape[0] == 1
    pixels = frame.pixels
    if colour is Colour.PALETTE:
        assert frame.palette is not None, "a frame that passed its checks has its palette"
        pixels = frame.palette[pixels]
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    if colour is Colour.GRAY:
        return pixels if gray else np.repeat(pixels[..., np.newaxis], 3, axis=2)
    if colour is Colour.YBR:
        if gray:
            return pixels[..., 0]  # luma is what gray is
        pixels = rgb_of_ybr(pixels, contract.image.bits)
    elif colour is Colour.BGR:
        pixels = pixels[..., ::-1]
    if gray:
        return luma(pixels)
    return pixels if contract.channel_order is ChannelOrder.RGB else pixels[..., ::-1]


def luma(pixels: Pixels) -> Pixels:
    """Return gray (height, width) of red, green, blue (height, width, 3), rounded half up."""
    wide = pixels.astype(np.uint32)
    total = sum(np.uint32(LUMA[c]) * wide[..., c] for c in range(3)) + np.uint32(1 << 15)
    gray: Pixels = np.asarray(total >> np.uint32(16), pixels.dtype)
    return gray


def rgb_of_ybr(pixels: Pixels, bits: int) -> Pixels:
    """Return red, green, blue of full-range YBR, both (height, width, 3), rounded half up."""
    wide = pixels.astype(np.int64)
    y, cb, cr = (wide[..., c] for c in range(3))
    cb, cr = cb - (1 << bits - 1), cr - (1 << bits - 1)
    sums = (RED_OF_CR * cr, -GREEN_OF_CB * cb - GREEN_OF_CR * cr, BLUE_OF_CB * cb)
    # The shift rounds down, also below zero.
    mixed = [y + ((s + (1 << 15)) >> 16) for s in sums]
    levels: Pixels = np.clip(np.stack(mixed, axis=-1), 0, (1 << bits) - 1).astype(pixels.dtype)
    return levels


def turn(pixels: Pixels, orientation: int) -> Pixels:
    """Return the frame upright, for an EXIF orientation of 1 to 8."""
    if orientation in TURNED_ORIENTATIONS:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def inside_sector(sector: Sector, height_px: int, width_px: int) -> NDArray[np.bool_]:
    """Return which pixels (height, width) of the upright frame lie in the fan, its edges too."""
    x = np.arange(width_px, dtype=np.int64)[np.newaxis] - sector.apex_px[0]
    y = np.arange(height_px, dtype=np.int64)[:, np.newaxis] - sector.apex_px[1]
    left_x, left_y = edge(sector.left_deg)
    right_x, right_y = edge(sector.right_deg)
    squared = x * x + y * y
    within = (sector.inner_px**2 <= squared) & (squared <= sector.outer_px**2)
    return np.asarray(within & (x * left_y >= y * left_x) & (x * right_y <= y * right_x))


def edge(angle_deg: float) -> tuple[int, int]:
    """Return the direction (x, y) of an angle from straight down, in 1 / `EDGE_ONE`."""
    angle = math.radians(angle_deg)
    return round(math.sin(angle) * EDGE_ONE), round(math.cos(angle) * EDGE_ONE)


def region(contract: Contract, height_px: int, width_px: int) -> Region:
    """Return what is cut from an upright frame of this size."""
    match contract.crop:
        case BoxCrop() as box:
            return Region(
                left_px=box.left_px,
                top_px=box.top_px,
                width_px=box.width_px,
                height_px=box.height_px,
            )
        case CentreCrop() as crop:
            return _centre(crop, contract, height_px, width_px)
        case _:
            return Region(left_px=0, top_px=0, width_px=width_px, height_px=height_px)


def _centre(crop: CentreCrop, contract: Contract, height_px: int, width_px: int) -> Region:
    _, rows, columns = contract.input_shape
    tall, wide = contract.image.pixel_aspect
    keep = keep_share(crop)
    height, width = height_px, width_px
    if height_px * tall * columns >= width_px * wide * rows:
        height = _rounded_ratio(width_px * wide * rows, tall * columns)
    else:
        width = _rounded_ratio(height_px * tall * columns, wide * rows)
    height = _kept(min(height, height_px), keep)
    width = _kept(min(width, width_px), keep)
    return Region(
        left_px=(width_px - width) // 2,
        top_px=(height_px - height) // 2,
        width_px=width,
        height_px=height,
    )


def keep_share(crop: CentreCrop) -> int:
    """Return the share of the sides to keep, in 1 / 65536."""
    return math.floor(crop.keep_ratio * 65_536 + 0.5)


def _kept(side_px: int, keep: int) -> int:
    return max(1, (side_px * keep + (1 << 15)) >> 16)


def _rounded_ratio(over: int, under: int) -> int:
    """Return the quotient of positive numbers, rounded half up, and at least 1."""
    return max(1, (2 * over + under) // (2 * under))


def content(contract: Contract, cut: Region) -> Region:
    """Return where in the tensor the cut part comes to lie; the rest is filled."""
    _, rows, columns = contract.input_shape
    height, width = rows, columns
    if contract.resize and contract.resize.fit is Fit.PAD:
        tall = cut.height_px * contract.image.pixel_aspect[0]
        wide = cut.width_px * contract.image.pixel_aspect[1]
        if tall * columns >= wide * rows:
            width = min(columns, _rounded_ratio(wide * rows, tall))
        else:
            height = min(rows, _rounded_ratio(tall * columns, wide))
    return Region(
        left_px=(columns - width) // 2,
        top_px=(rows - height) // 2,
        width_px=width,
        height_px=height,
    )


def _resize(pixels: Pixels, contract: Contract, resampler: Resampler) -> Pixels:
    """Bring (height, width, ...) to the tensor's size."""
    if contract.resize is None:
        return np.ascontiguousarray(pixels)
    cut = Region(left_px=0, top_px=0, width_px=pixels.shape[1], height_px=pixels.shape[0])
    inner = content(contract, cut)
    resized = resampler(
        pixels,
        height_px=inner.height_px,
        width_px=inner.width_px,
        mode=contract.resize.mode,
    )
    _, rows, columns = contract.input_shape
    if (inner.height_px, inner.width_px) == (rows, columns):
        return resized
    padded = np.full((rows, columns, *pixels.shape[2:]), contract.resize.fill, pixels.dtype)
    bottom, right = inner.top_px + inner.height_px, inner.left_px + inner.width_px
    padded[inner.top_px : bottom, inner.left_px : right] = resized
    return padded


def resample(pixels: Pixels, *, height_px: int, width_px: int, mode: ResizeMode) -> Pixels:
    """Resize uint8 or uint16 (height, width, ...), columns first, then rows.

    Each pass blends by shares of 1 / 65536. Between the passes, `KEPT_BITS` more bits are
    kept; both roundings are half up. A constant frame stays constant, and a frame that has
    the size already stays as it is.
    """
    if pixels.shape[:2] == (height_px, width_px):
        return np.ascontiguousarray(pixels)
    bits = 8 * pixels.dtype.itemsize
    wide = np.dtype(np.int32 if bits == 8 else np.int64)
    down = blend(pixels.astype(wide), height_px, mode)
    _shift(down, SHARE_BITS - KEPT_BITS[bits])
    # (width, ..., height): turned while the values are small, which takes a quarter as long.
    turned = np.ascontiguousarray(np.moveaxis(down.astype(np.uint16), 0, -1))
    across = blend(turned.astype(wide), width_px, mode)
    _shift(across, SHARE_BITS + KEPT_BITS[bits])
    # Channels come first in memory, as most programs want them.
    planes = np.ascontiguousarray(np.moveaxis(across.astype(pixels.dtype), 0, -1))
    return planes if pixels.ndim == 2 else np.moveaxis(planes, 0, -1)


def _shift(sums: NDArray[np.signedinteger], bits: int) -> None:
    """Divide by 2 ** bits in place, rounded half up."""
    sums += sums.dtype.type(1 << bits - 1)
    sums >>= sums.dtype.type(bits)
