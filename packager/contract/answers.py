"""How the model's output becomes an answer: probabilities, decisions, boxes, label maps.

The exponential is our own, since those of C, Java and JavaScript differ in the last digits:
products of table entries, each rounded once, so that every language gets the same bits.
"""

from dataclasses import dataclass
from decimal import Context, Decimal
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from packager.artifacts import Layout, TensorIo
from packager.contract.frames import Region, content, region
from packager.contract.spec import MAX_SIDE_PX, Activation, BoxForm, Contract
from packager.contract.tensors import dequantise
from packager.errors import Fault, FrameError

# The exponent, in halvings, is cut to 20 binary places: five bits for each of four tables.
# That leaves a relative error of 7e-7 in a probability.
EXPONENT_BITS = 20
TABLE_BITS = 5
TABLES = 4
STEPS_PER_NAT = 1_512_775.3951951856
"""2 ** 20 / ln 2."""
MAX_HALVINGS = 128
"""From here on an exponential is taken for 0: the others sum to 1 or more."""

# Coordinates of boxes are whole multiples of 1 / 16 pixel, overlaps of 1 / 65536.
COORDINATE_ONE = 16
OVERLAP_ONE = 65_536


@dataclass(frozen=True, kw_only=True)
class Scored:
    """A label with its probability, 0 to 1."""

    label: int
    probability: float


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a classifier says of one frame.

    Attributes:
        label: Index of the decided one.
        ranked: The `top_k` most probable ones, best first.
    """

    label: int
    ranked: tuple[Scored, ...]


@dataclass(frozen=True, kw_only=True)
class Box:
    """An object that was found, in the upright frame before it was cut or resized.

    Attributes:
        label: Index of a label.
        probability: 0 to 1.
        left, top, right, bottom: In 1 / 16 pixel of the upright frame; may lie outside.
    """

    label: int
    probability: float
    left: int
    top: int
    right: int
    bottom: int


@lru_cache(maxsize=1)
def exponential_tables() -> tuple[tuple[float, ...], ...]:
    """Return 2 ** (-i / 32), 2 ** (-i / 1024), ...: four tables of 32, each correctly rounded."""
    context = Context(prec=40)  # the platform's own power function may be off by a digit
    entries, tables = 1 << TABLE_BITS, range(1, TABLES + 1)
    return tuple(
        tuple(
            float(context.power(Decimal(2), context.divide(Decimal(-i), Decimal(entries**table))))
            for i in range(entries)
        )
        for table in tables
    )


def exponential(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return e ** x for x of at most 0, the same bits in every language.

    1 for 0, and never below the true value by more than rounding; 0 from about -88.7 on.
    """
    with np.errstate(over="ignore"):
        scaled = -values * STEPS_PER_NAT
    gone = ~(scaled < float(MAX_HALVINGS << EXPONENT_BITS))
    steps = np.where(gone, 0.0, scaled).astype(np.int64)
    mask = (1 << TABLE_BITS) - 1
    product = np.ones_like(values)
    for k, table in enumerate(exponential_tables()):
        shift = EXPONENT_BITS - TABLE_BITS * (k + 1)
        product = product * np.array(table)[(steps >> shift) & mask]
    return np.where(gone, 0.0, np.ldexp(product, -(steps >> EXPONENT_BITS).astype(np.int32)))


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return probabilities (n, labels) of logits (n, labels); sums run in order of labels."""
    with np.errstate(over="ignore"):
        shifted = logits - logits.max(axis=1, keepdims=True)  # float32, rounded once
    powers = exponential(shifted.astype(np.float64))
    total = np.zeros(len(powers))
    for column in powers.T:
        total = total + column
    return np.asarray(powers / total[:, np.newaxis])


def sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return 1 / (1 + e ** -x), elementwise."""
    power = exponential(-np.abs(logits).astype(np.float64))
    return np.where(logits >= 0, 1.0, power) / (1.0 + power)


def probabilities(logits: NDArray[np.float32], activation: Activation) -> NDArray[np.float64]:
    """Return the probability of each label, (n, labels), from logits (n, outputs)."""
    if activation is Activation.SIGMOID:
        # Not one minus the other: some libraries for ARM round that subtraction wrongly.
        return np.stack([sigmoid(-logits[:, 0]), sigmoid(logits[:, 0])], axis=1)
    return softmax(logits)


def decisions(logits: NDArray[np.float32], contract: Contract) -> NDArray[np.int64]:
    """Return the index of the decided label for each row of logits (n, outputs).

    Without a threshold it is the largest logit's, and the first of equal ones; with
    'sigmoid', a logit of 0 is negative. With one, it is the second label's where its
    probability is at least the threshold.
    """
    if contract.threshold is not None:
        positive = probabilities(logits, contract.activation)[:, 1]
        return (positive >= contract.threshold).astype(np.int64)
    if contract.activation is Activation.SIGMOID:
        return (logits[:, 0] > 0).astype(np.int64)
    return np.asarray(logits.argmax(axis=1), np.int64)


def ranked(logits: NDArray[np.float32], contract: Contract) -> tuple[Scored, ...]:
    """Return the `top_k` most probable labels of one sample's logits (outputs,), best first.

    Labels of equal probability are in the contract's order.
    """
    chances = probabilities(logits[np.newaxis], contract.activation)[0]
    order = sorted(range(len(chances)), key=lambda label: (-chances[label], label))
    return tuple(
        Scored(label=label, probability=float(chances[label])) for label in order[: contract.top_k]
    )


def answer(stored: NDArray[np.generic], io: TensorIo, contract: Contract) -> Answer:
    """Return what a classifier's output for one frame means.

    Args:
        stored: What the program gave, in its own type.
        io: The program's output.
        contract: One without boxes and segments.

    Raises:
        FrameError: The output has another number of values, or one is NaN or infinite.
    """
    require_output(stored, contract)
    logits = dequantise(stored, io).reshape(1, -1)
    require_finite_output(logits)
    return Answer(label=int(decisions(logits, contract)[0]), ranked=ranked(logits[0], contract))


def require_output(stored: NDArray[np.generic], contract: Contract) -> None:
    """Refuse an output of another number of values than the contract's.

    Raises:
        FrameError: It has more or fewer.
    """
    if stored.size != contract.outputs:
        problem = f"the output has {stored.size} values and should have {contract.outputs}."
        raise FrameError(Fault.TRUNCATED, problem)


def require_finite_output(logits: NDArray[np.float32]) -> None:
    """Refuse what no answer can be made of.

    Raises:
        FrameError: An output is NaN or infinite.
    """
    if not np.isfinite(logits).all():
        raise FrameError(Fault.NOT_FINITE, "the program answers NaN or infinity.")


def boxes(
    stored: NDArray[np.generic], io: TensorIo, contract: Contract, *, height_px: int, width_px: int
) -> tuple[Box, ...]:
    """Return the objects in one output (candidates, 4 + labels), the most probable first.

    Args:
        stored: What the program gave for one frame.
        io: The program's output.
        contract: One with boxes.
        height_px: Of the upright frame that was shown.
        width_px: Likewise.

    Raises:
        FrameError: The frame has no such sides, the output has another number of values, or
            one is NaN or infinite.
    """
    settings = contract.boxes
    assert settings, "boxes come from a contract that has them"
    if not (1 <= height_px <= MAX_SIDE_PX and 1 <= width_px <= MAX_SIDE_PX):
        problem = f"the frame is {height_px} by {width_px} pixels; sides go from 1 to"
        raise FrameError(Fault.WRONG_SIZE, f"{problem} {MAX_SIDE_PX}.")
    require_output(stored, contract)
    values = dequantise(stored, io).reshape(settings.candidates, 4 + len(contract.labels))
    require_finite_output(values)
    logits = values[:, 4:]
    scores = softmax(logits) if contract.activation is Activation.SOFTMAX else sigmoid(logits)
    labels = scores.argmax(axis=1)
    chances = scores[np.arange(len(scores)), labels]
    corners = _corners(values[:, :4], contract)
    order = sorted(np.flatnonzero(chances >= settings.min_score), key=lambda i: (-chances[i], i))
    chosen: list[int] = []
    limit = int(settings.max_overlap_ratio * OVERLAP_ONE)
    for i in order:
        if len(chosen) == settings.max_boxes:
            break
        rivals = (k for k in chosen if labels[k] == labels[i])
        if not any(overlaps(corners[k], corners[i], limit) for k in rivals):
            chosen.append(int(i))
    cut = region(contract, height_px, width_px)
    inner = content(contract, cut)
    return tuple(_box(corners[i], int(labels[i]), float(chances[i]), cut, inner) for i in chosen)


def _corners(shares: NDArray[np.float32], contract: Contract) -> list[tuple[int, int, int, int]]:
    """Return left, top, right, bottom in 1 / 16 pixel of the tensor, within it."""
    assert contract.boxes, "corners come from a contract that has boxes"
    _, rows, columns = contract.input_shape
    sides = np.array([columns, rows, columns, rows], np.float64) * COORDINATE_ONE
    # Products of 24 and 18 bits: exact in float64, and far from its range once clipped.
    places = np.floor(np.clip(shares.astype(np.float64), -4.0, 4.0) * sides).astype(np.int64)
    if contract.boxes.form is BoxForm.CENTRE:
        middle, extent = places[:, :2], np.maximum(places[:, 2:], 0)
        left_top = middle - (extent >> 1)
        places = np.concatenate([left_top, left_top + extent], axis=1)
    limits = np.array([columns, rows, columns, rows]) * COORDINATE_ONE
    return [tuple(map(int, row)) for row in np.clip(places, 0, limits)]  # type: ignore[misc]


def overlaps(one: tuple[int, int, int, int], other: tuple[int, int, int, int], limit: int) -> bool:
    """Return whether two boxes share more than `limit` / 65536 of their union."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(0, width) * max(0, height)
    areas = sum(max(0, b[2] - b[0]) * max(0, b[3] - b[1]) for b in (one, other))
    return shared * OVERLAP_ONE > limit * (areas - shared)


def _box(
    corners: tuple[int, int, int, int], label: int, chance: float, cut: Region, inner: Region
) -> Box:
    """Map corners from the tensor to the upright frame, rounded down."""

    def across(x: int) -> int:
        inside = (x - inner.left_px * COORDINATE_ONE) * cut.width_px
        return cut.left_px * COORDINATE_ONE + inside // inner.width_px

    def down(y: int) -> int:
        inside = (y - inner.top_px * COORDINATE_ONE) * cut.height_px
        return cut.top_px * COORDINATE_ONE + inside // inner.height_px

    left, top, right, bottom = corners
    return Box(
        label=label,
        probability=chance,
        left=across(left),
        top=down(top),
        right=across(right),
        bottom=down(bottom),
    )


def label_map(stored: NDArray[np.generic], io: TensorIo, contract: Contract) -> NDArray[np.uint8]:
    """Return the index of the decided label of each pixel, (height, width) of the output.

    The largest logit decides, the first of equal ones; with 'sigmoid', one above 0.

    Raises:
        FrameError: The output has another number of values, or one is NaN or infinite.
    """
    settings = contract.segments
    assert settings, "a label map comes from a contract that has segments"
    require_output(stored, contract)
    planes = 1 if contract.activation is Activation.SIGMOID else len(contract.labels)
    first = io.layout is Layout.CHANNELS_FIRST
    shape = (planes, *settings.size_px) if first else (*settings.size_px, planes)
    logits = dequantise(stored, io).reshape(shape)
    require_finite_output(logits)
    axis = 0 if first else -1
    if contract.activation is Activation.SIGMOID:
        return np.asarray(logits.take(0, axis) > 0, np.uint8)
    return np.asarray(logits.argmax(axis=axis), np.uint8)
