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
# so is an entry of a palette, but a colour is no gray.
EXACT_MODES = {
    Colour.GRAY: ("L", "1"),
    Colour.RGB: ("RGB", "L", "1", "P"),
    Colour.BGR: ("RGB", "L", "1", "P"),
    Colour.PALETTE: ("P",),
    Colour.YBR: (),
}


def read_frame(path: Path, contract: Contract) -> Frame:
    """Read an image file as a raw frame of the contract's colour and depth.

    Where the contract says RGB, gray files and palettes are taken too, since their colours
    are known exactly; nothing else is converted. JPEG is decoded by Pillow: another decoder
    may differ by a gray level, which no contract can mend.

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
    if image.mode not in EXACT_MODES[colour] or "transparency" in image.info:
        remedy = "Convert the file, or write the files' own colour into contract.source."
        raise DataError(str(path), f"pixels are {image.mode}, not {colour}. {remedy}")
    wanted = EXACT_MODES[colour][0]
    pixels = np.asarray(image if image.mode == wanted else image.convert(wanted), np.uint8)
    return pixels[..., ::-1] if colour is Colour.BGR else pixels


def _palette(image: "Image.Image", contract: Contract) -> NDArray[np.uint8] | None:
    if contract.image.colour is not Colour.PALETTE:
        return None
    return np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
