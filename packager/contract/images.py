"""Read an image file as a raw frame: what a decoder gives, before our own arithmetic."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from packager.contract.frames import UPRIGHT, Frame
from packager.contract.spec import Colour, Contract
from packager.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

EXIF_ORIENTATION = 0x0112
# Pillow's names of the pixels that can be stated in a colour exactly: gray is a colour, and
# so is an entry of a palette; a colour is gray where all its channels are equal.
COLOURS = ("RGB", "L", "1", "P")
EXACT_MODES = {
    Colour.GRAY: COLOURS,
    Colour.RGB: COLOURS,
    Colour.BGR: COLOURS,
    Colour.PALETTE: ("P",),
    Colour.YBR: (),
}


def read_frame(path: Path, contract: Contract) -> Frame:
    """Read an image file as a raw frame of the contract's colour and depth.

    A file of another kind is taken where it states the same colours exactly: gray and palettes
    as RGB, RGB as gray where all channels are equal, an alpha channel that is opaque.
    Nothing else is converted. JPEG is decoded by Pillow: another decoder may differ by a gray
    level, which no contract can mend.

    Raises:
        DataError: The file is no image, is truncated, or is of another colour or depth.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            _require_depth(image, path, contract)
            return Frame(
                pixels=_pixels(image, path, contract),
                orientation=image.getexif().get(EXIF_ORIENTATION, UPRIGHT),
                palette=_palette(image, contract),
            )
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(str(path), f"is not a readable image: {error}.") from None


def _require_depth(image: "Image.Image", path: Path, contract: Contract) -> None:
    """Refuse another depth: Pillow would cut 16-bit colours to 8 bits without a word."""
    kinds = [image.mode, *(str(tile.args) for tile in getattr(image, "tile", ()))]
    deep = image.mode.startswith(("I", "F")) or any(";16" in kind for kind in kinds)
    gray16 = image.mode.startswith("I;16") and contract.image.colour is Colour.GRAY
    if deep != (contract.image.bits == 16) or (deep and not gray16):
        wanted = f"the contract says {contract.image.colour} of {contract.image.bits} bits"
        remedy = "Files of 16 bits are read where they are gray."
        raise DataError(str(path), f"pixels are {kinds[-1]}; {wanted}. {remedy}")


def _pixels(image: "Image.Image", path: Path, contract: Contract) -> NDArray[np.generic]:
    colour = contract.image.colour
    if contract.image.bits == 16:
        return np.asarray(image).astype(np.uint16)
    pixels = _exact(image, colour)
    if pixels is None:
        remedy = "Convert the file, or write the files' own colour into contract.source."
        raise DataError(str(path), f"pixels are {image.mode}, not {colour}. {remedy}")
    return pixels


def _exact(image: "Image.Image", colour: Colour) -> NDArray[np.uint8] | None:
    """Return the pixels as a colour that states them exactly; None where it cannot."""
    if "transparency" in image.info:
        return None
    if image.mode == "RGBA" and image.getchannel("A").getextrema() == (255, 255):
        image = image.convert("RGB")
    if image.mode not in EXACT_MODES[colour]:
        return None
    if colour is Colour.PALETTE:
        return np.asarray(image, np.uint8)
    if colour is Colour.GRAY and image.mode in ("L", "1"):
        return np.asarray(image.convert("L"), np.uint8)
    colours = np.asarray(image.convert("RGB"), np.uint8)
    if colour is Colour.GRAY:
        return colours[..., 0] if (colours == colours[..., :1]).all() else None
    return colours[..., ::-1] if colour is Colour.BGR else colours


def _palette(image: "Image.Image", contract: Contract) -> NDArray[np.uint8] | None:
    if contract.image.colour is not Colour.PALETTE:
        return None
    return np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
