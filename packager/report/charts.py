"""Draw the report's charts with Matplotlib, as SVG that takes its colours from the page.

No chart holds text of the user's: names of labels stand beside it, where they are escaped.
Matplotlib writes colours and fonts into style attributes; here they become classes and
attributes, so that the page's own style decides, in light and in dark, and no policy has
to allow inline styles.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from packager.artifacts import Interval, Tuned

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import Locator

POINTS_AN_INCH = 72
TEXT_PT = 12.5
SIDE = 0.07
# The page's own font is used.
DROPPED_PROPERTIES = {"font-family", "stroke-miterlimit"}
DROPPED_ELEMENTS = {"metadata", "style"}
# Coordinates; opacities and widths have fewer decimals, and keep them.
LONG_NUMBER = re.compile(r"-?\d+\.\d{3,}")


class Ink(StrEnum):
    """Colours that stand for a class of the page's style: `fill-text`, `stroke-text`."""

    TEXT = "#010101"
    MUTED = "#020202"
    RULE = "#030303"
    ORIGINAL = "#040404"
    PRUNED = "#050505"
    DEVICE = "#060606"
    CHANGED = "#070707"
    GROUND = "#080808"


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A drawing to put inside an `<svg>` element.

    Attributes:
        description: One line for those who cannot see it.
        width: Of the view box.
        height: Of the view box.
        body: SVG elements; markup that holds nothing of the user's.
    """

    description: str
    width: float
    height: float
    body: str


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One value of a bar chart, with its name above it and its text at the end."""

    name: str
    value: float
    text: str
    ink: Ink


@dataclass(frozen=True, kw_only=True)
class Drop:
    """A metric's loss on one target, with its name above it and its text at the end."""

    name: str
    drop: Interval
    text: str


def bars(key: str, description: str, rows: tuple[Bar, ...], *, full: float) -> Chart:
    """Draw horizontal bars, of which `full` fills the width.

    Args:
        key: Unique on the page; it tells the chart's parts from those of others.
        description: What the chart shows.
        rows: From top to bottom.
        full: Above 0.
    """
    with _figure(key, width=300, height=38 * len(rows)) as figure:
        axes = _bare_axes(figure, (0.0, 0.0, 1.0, 1.0))
        axes.set_xlim(0, 1)
        axes.set_ylim(38 * len(rows) - 4, -4)
        for index, row in enumerate(rows):
            _draw_bar(axes, row, top=38 * index, share=min(row.value / full, 1.0))
        return _chart(figure, key, description)


def _draw_bar(axes: Axes, row: Bar, *, top: float, share: float) -> None:
    axes.text(0, top + 12, row.name, color=Ink.MUTED, ha="left", va="baseline")
    axes.text(1, top + 12, row.text, color=Ink.TEXT, ha="right", va="baseline")
    axes.barh(top + 22, 1.0, height=7, color=Ink.RULE)
    axes.barh(top + 22, share, height=7, color=row.ink)


def drops(key: str, description: str, rows: tuple[Drop, ...], *, limit: float) -> Chart:
    """Draw each drop as a point with its 95 % interval, beside zero and the limit.

    Args:
        key: Unique on the page.
        description: What the chart shows.
        rows: From top to bottom.
        limit: Of the drop; 0 or above.
    """
    edge = [value for row in rows for value in (row.drop.low, row.drop.high, limit, 0.0)]
    height = 38 * len(rows) + 24
    with _figure(key, width=300, height=height) as figure:
        # At the sides, room for half of the outermost tick's text.
        axes = _bare_axes(figure, (SIDE, 20 / height, 1 - 2 * SIDE, 1 - 20 / height))
        axes.set_xlim(min(edge), max(*edge, 0.001))
        axes.set_ylim(38 * len(rows), -4)
        for index, row in enumerate(rows):
            _draw_drop(axes, row, limit, top=38 * index)
        axes.xaxis.set_visible(True)
        axes.xaxis.set_major_locator(_few_ticks())
        axes.tick_params(axis="x", colors=Ink.MUTED, length=0)
        return _chart(figure, key, description)


def _draw_drop(axes: Axes, row: Drop, limit: float, *, top: float) -> None:
    middle = top + 24
    ink, marker = (Ink.CHANGED, "D") if row.drop.estimate > limit else (Ink.DEVICE, "o")
    across = axes.get_yaxis_transform()
    # In shares of the axes: from the figure's own left edge to its right.
    left, right = -SIDE / (1 - 2 * SIDE), 1 + SIDE / (1 - 2 * SIDE)
    axes.text(left, top + 12, row.name, color=Ink.MUTED, transform=across)
    axes.text(right, top + 12, row.text, color=Ink.TEXT, transform=across, ha="right")
    for value, edge_ink, width in ((0.0, Ink.MUTED, 0.8), (limit, Ink.CHANGED, 2.0)):
        axes.plot([value] * 2, [middle - 7, middle + 7], color=edge_ink, linewidth=width)
    axes.plot([row.drop.low, row.drop.high], [middle] * 2, color=Ink.TEXT, linewidth=1.4)
    axes.plot([row.drop.estimate], [middle], marker, color=ink, markersize=7)


def scatter(
    key: str,
    description: str,
    *,
    original: NDArray[np.float64],
    converted: NDArray[np.float64],
    changed: NDArray[np.bool_],
    boundary: float | None,
) -> Chart:
    """Draw each sample's probability, original across and converted upwards.

    Args:
        key: Unique on the page.
        description: What the chart shows.
        original: (n,), 0 to 1.
        converted: (n,), 0 to 1.
        changed: True where the decision changed, (n,); drawn as crosses.
        boundary: The probability that parts two decisions; None where there are more.
    """
    with _figure(key, width=340, height=340) as figure:
        axes = _bare_axes(figure, (0.14, 0.13, 0.84, 0.85))
        _square(axes)
        if boundary is not None:
            for line in (axes.axhline, axes.axvline):
                line(boundary, color=Ink.MUTED, linewidth=0.8, dashes=(3, 3))
        axes.plot([0, 1], [0, 1], color=Ink.MUTED, linewidth=0.8)
        axes.plot(
            original[~changed],
            converted[~changed],
            "o",
            color=Ink.DEVICE,
            alpha=0.45,
            markersize=5,
            markeredgewidth=0,
        )
        axes.plot(
            original[changed],
            converted[changed],
            "X",
            color=Ink.CHANGED,
            markersize=8.5,
            markeredgecolor=Ink.GROUND,
            markeredgewidth=0.8,
        )
        return _chart(figure, key, description)


def _square(axes: Axes) -> None:
    axes.set_xlim(-0.03, 1.03)
    axes.set_ylim(-0.03, 1.03)
    for axis, name in ((axes.xaxis, "original"), (axes.yaxis, "converted")):
        axis.set_visible(True)
        axis.set_ticks([0.0, 0.5, 1.0], ["0", "0.5", "1"])
        axis.set_tick_params(colors=Ink.MUTED, length=0)
        axis.set_label_text(name, color=Ink.TEXT)
        axis.labelpad = 4
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_color(Ink.RULE)


def history(key: str, description: str, tuned: Tuned) -> Chart:
    """Draw the losses of each epoch, and mark the one that was kept."""
    epochs = np.arange(1, len(tuned.history) + 1)
    train = [epoch.train_loss_error for epoch in tuned.history]
    validation = [epoch.validation_loss_error for epoch in tuned.history]
    best = tuned.best_epoch
    with _figure(key, width=340, height=230) as figure:
        axes = _bare_axes(figure, (0.12, 0.19, 0.86, 0.78))
        axes.set_xlim(0.5, len(epochs) + 0.5)
        axes.set_ylim(0, 1.12 * max(*train, *validation, 1e-6))
        _rule_across(axes)
        axes.axvline(best + 1, color=Ink.MUTED, linewidth=0.8, dashes=(3, 3))
        axes.plot(epochs, train, "-", color=Ink.ORIGINAL, linewidth=1.6, dashes=(5, 2))
        axes.plot(epochs, validation, "-", color=Ink.DEVICE, linewidth=2)
        axes.plot([best + 1], [validation[best]], "o", color=Ink.DEVICE, markersize=8)
        axes.set_xlabel("epoch", color=Ink.MUTED, labelpad=2)
        return _chart(figure, key, description)


def _rule_across(axes: Axes) -> None:
    axes.xaxis.set_visible(True)
    axes.yaxis.set_visible(True)
    axes.xaxis.set_major_locator(_whole_ticks())
    axes.yaxis.set_major_locator(_few_ticks())
    axes.tick_params(colors=Ink.MUTED, length=0)
    axes.grid(axis="y", color=Ink.RULE, linewidth=0.8)


def _few_ticks() -> Locator:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=4, steps=[1, 2, 5, 10])


def _whole_ticks() -> Locator:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=4, steps=[1, 2, 5, 10], integer=True)


@contextmanager
def _figure(key: str, *, width: float, height: float) -> Iterator[Figure]:
    """Yield an empty figure of `width` by `height` pixels, whatever the user's own settings."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(
            {
                "svg.fonttype": "none",
                "svg.hashsalt": key,
                "font.size": TEXT_PT,
                "text.parse_math": False,
                "axes.formatter.use_mathtext": False,
            }
        )
        yield Figure(figsize=(width / POINTS_AN_INCH, height / POINTS_AN_INCH))


def _bare_axes(figure: Figure, place: tuple[float, float, float, float]) -> Axes:
    """Return axes at (left, bottom, width, height), in shares of the figure, with no frame."""
    axes = figure.add_axes(place)
    axes.xaxis.set_visible(False)
    axes.yaxis.set_visible(False)
    axes.patch.set_visible(False)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return axes


def _chart(figure: Figure, key: str, description: str) -> Chart:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    width, height = (float(side) for side in figure.get_size_inches() * POINTS_AN_INCH)
    body = page_styled(buffer.getvalue().decode(), key)
    return Chart(description=description, width=width, height=height, body=body)


def page_styled(svg: str, key: str) -> str:
    """Return what is inside an SVG of Matplotlib's, with classes in place of styles.

    Ids that nothing refers to go, the others begin with `key`; numbers keep one decimal.
    """
    root = ElementTree.fromstring(svg)  # noqa: S314 - Matplotlib wrote it, a line ago
    values = [value for element in root.iter() for value in element.attrib.values()]
    referred = set(filter(None, map(_referred, values)))
    for element in root.iter():
        for child in list(element):
            if _local(child.tag) in DROPPED_ELEMENTS:
                element.remove(child)
    for element in root.iter():
        element.attrib = dict(_attributes(element, referred, key))
        element.tag = _local(element.tag)
        element.tail = None
        element.text = element.text if element.tag == "text" else None
    return "".join(ElementTree.tostring(child, "unicode") for child in root)


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


def _referred(value: str) -> str:
    """Return the id that `#id` or `url(#id)` refers to; empty for any other value."""
    match = re.fullmatch(r"(?:url\()?#([\w.]+)\)?", value)
    return match.group(1) if match else ""


def _attributes(
    element: ElementTree.Element, referred: set[str], key: str
) -> Iterator[tuple[str, str]]:
    classes = []
    for name, value in _flat(element):
        if name in {"fill", "stroke"} and value in set(Ink):
            classes.append(f"{name}-{Ink(value).name.lower()}")
        elif name == "id":
            if value in referred:
                yield "id", f"{key}-{value}"
        elif _referred(value) in referred:
            yield _local(name), value.replace("#", f"#{key}-")
        elif not (name in DROPPED_PROPERTIES or value.startswith("rotate(-0 ")):
            yield name, LONG_NUMBER.sub(_one_decimal, " ".join(value.split()))
    if classes:
        yield "class", " ".join(classes)


def _flat(element: ElementTree.Element) -> Iterator[tuple[str, str]]:
    """Yield the attributes, and each property of the style attribute as one more."""
    for name, value in element.attrib.items():
        if name == "style":
            for item in filter(None, (part.strip() for part in value.split(";"))):
                prop, _, setting = item.partition(":")
                yield prop.strip(), setting.strip()
        else:
            yield name, value


def _one_decimal(match: re.Match[str]) -> str:
    return f"{float(match.group()):.1f}"
