"""Measure what the contract's reference takes to prepare a frame, beside Pillow's own resize.

    python benchmarks/contract_time.py

Takes frames of 640 x 480 pixels to 224 x 224, the reference all the way to the float32 tensor,
Pillow only through its bilinear resize. Both take turns in one process, and the fastest of many
turns counts. Exits with 1 if the reference takes more than twice as long.
"""

import sys
import time
from collections.abc import Callable

import numpy as np
from PIL import Image

from packager.contract import Activation, Contract
from packager.contract.frames import Frame, fit_frame
from packager.contract.spec import Colour, ImageSource, Resize, ResizeMode
from packager.contract.tensors import normalise

TURNS = 60
LIMIT = 2.0
CASES = {"gray": (Colour.GRAY, 1), "red, green, blue": (Colour.RGB, 3)}


def contract(colour: Colour, channels: int) -> Contract:
    """Return the contract of a classifier of 224 x 224 pixels."""
    return Contract(
        input_shape=(channels, 224, 224),
        source=ImageSource(kind="image", colour=colour, bits=8),
        resize=Resize(mode=ResizeMode.ANTIALIAS),
        full_scale=255.0,
        mean=(0.5,) * channels,
        std=(0.25,) * channels,
        activation=Activation.SOFTMAX,
        labels=("cyst", "solid"),
    )


def fastest_ms(work: tuple[Callable[[], object], ...]) -> list[float]:
    """Return the fastest of many turns of each, taken in turns."""
    best = [float("inf")] * len(work)
    for _ in range(TURNS):
        for place, job in enumerate(work):
            start = time.perf_counter()
            job()
            best[place] = min(best[place], 1e3 * (time.perf_counter() - start))
    return best


def main() -> int:
    """Print both times and their ratio; return 1 if one is over the limit."""
    slow = 0
    for name, (colour, channels) in CASES.items():
        shape = (480, 640, 3)[: 2 if channels == 1 else 3]
        pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        image, spec = Image.fromarray(pixels), contract(colour, channels)

        def ours(pixels: object = pixels, spec: Contract = spec) -> object:
            fitted = fit_frame(Frame(pixels=np.asarray(pixels)), spec)
            return normalise(fitted[np.newaxis], spec)

        def pillow(image: Image.Image = image) -> object:
            return image.resize((224, 224), Image.Resampling.BILINEAR)

        ours_ms, pillow_ms = fastest_ms((ours, pillow))
        ratio = ours_ms / pillow_ms
        print(
            f"640 x 480 to 224 x 224, {name}: contract {ours_ms:.2f} ms, "
            f"Pillow {pillow_ms:.2f} ms, ratio {ratio:.2f} (limit {LIMIT:g})"
        )
        slow |= ratio > LIMIT
    return int(slow)


if __name__ == "__main__":
    sys.exit(main())
