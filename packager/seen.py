"""What a program sees of an image with each resizer, for people to compare."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


class Stock(StrEnum):
    """A resizer that an app might use in place of the contract's."""

    CONTRACT = "contract"
    PILLOW_BILINEAR = "Pillow, bilinear"
    PILLOW_BICUBIC = "Pillow, bicubic"
    TORCH_BILINEAR = "PyTorch, bilinear"
    TORCH_ANTIALIAS = "PyTorch, bilinear, antialias"


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """What the program sees with one resizer, and what it answers.

    Attributes:
        picture: The program's input as gray levels or colours, uint8 (height, width) or
            (height, width, 3): what it holds of the frame, after quantisation too.
        pixels_changed_ratio: Share of the pixels that differ from the contract's, 0 to 1.
        max_difference: Of a pixel from the contract's, in levels of the source.
        label: The decided one.
        probability: Of the label that is decided by the contract's own way.
    """

    resizer: Stock
    picture: NDArray[np.uint8]
    pixels_changed_ratio: float
    max_difference: int
    label: str
    probability: float


@dataclass(frozen=True, kw_only=True, eq=False)
class InputCheck:
    """One image, seen through the contract and through the stock resizers.

    Attributes:
        runtime: What ran the program.
        resizes: False where the frame has the tensor's size already.
        golden: How many golden samples the bundle holds; all of them came out right.
        seen: The contract's own way first.
    """

    image: Path
    target: str
    runtime: str
    resizes: bool
    golden: int
    seen: tuple[Seen, ...]
