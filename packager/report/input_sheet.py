"""Draw what a program sees of an image, beside what other resizers would have shown it."""

from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from packager.storage import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from packager.seen import InputCheck, Seen

COLUMN_INCHES = 2.6
GAIN = 8
"""Differences of a few levels are invisible: they are shown this much brighter."""


def write(check: "InputCheck", path: Path) -> Path:
    """Write the sheet as a PNG; return its path.

    Raises:
        StorageError: The disk is full or the folder cannot be written.
    """
    import io

    columns = len(check.seen)
    with mpl.rc_context({"font.family": "sans-serif", "font.size": 8}):
        figure = Figure(figsize=(COLUMN_INCHES * columns, 6.6), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(2, columns, squeeze=False)
        for column, seen in enumerate(check.seen):
            _draw_picture(axes[0, column], seen, check.seen[0])
            _draw_difference(axes[1, column], seen, check.seen[0])
        figure.suptitle(f"{check.image.name} as {check.target} sees it", fontsize=10)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    write_whole(path, buffer.getvalue())
    return path


def _draw_picture(axes: "Axes", seen: "Seen", ours: "Seen") -> None:
    axes.imshow(seen.picture, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    moved = seen.label != ours.label
    axes.set_title(
        f"{seen.resizer}\n{seen.label} ({ours.label}: {seen.probability:.1%})",
        color="#b3261e" if moved else "black",
        fontweight="bold" if moved else "normal",
    )
    axes.set_axis_off()


def _draw_difference(axes: "Axes", seen: "Seen", ours: "Seen") -> None:
    axes.set_axis_off()
    if seen is ours:
        words = f"differences from\nthe contract's picture,\n{GAIN} times as bright"
        axes.text(0.5, 0.5, words, ha="center", va="center")
        return
    difference = np.abs(seen.picture.astype(np.int64) - ours.picture)
    axes.imshow(np.clip(GAIN * difference, 0, 255), cmap="gray", vmin=0, vmax=255)
    axes.set_title(f"{seen.pixels_changed_ratio:.1%} of pixels, up to {seen.max_difference}")
