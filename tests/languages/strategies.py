"""Contracts of every kind that the specification allows, and frames and outputs for them.

Hypothesis draws what matters: contracts, sizes, kinds of pattern and of mistake. NumPy fills
the payloads from a drawn seed, since Hypothesis would take minutes for that many bytes.
"""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from enum import Enum, auto
from typing import TypeVar, assert_never

import hypothesis
import numpy as np
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st
from numpy.typing import NDArray

from packager.artifacts import Layout, Precision, TensorIo
from packager.contract import IoContract
from packager.contract.frames import UPRIGHT, region
from packager.contract.signals import MAX_RAW_STEPS
from packager.contract.spec import (
    MAX_SIDE_PX,
    MAX_SIGNAL_LENGTH,
    MIN_SECTOR_DEG,
    Activation,
    BoxCrop,
    Boxes,
    BoxForm,
    CentreCrop,
    ChannelOrder,
    Colour,
    Contract,
    Fit,
    ImageSource,
    Orientation,
    Position,
    Resize,
    ResizeMode,
    Sector,
    Segments,
    SignalSource,
    SignalSteps,
    Standardise,
    Taper,
)
from packager.contract.tensors import full_scale
from tests.languages.protocol import Case, Kind, dtype_of

Size = tuple[int, int]
T = TypeVar("T")

# What some language could take for the end of a literal or of a comment, or for an escape.
AWKWARD_LABELS = (
    "gutartig", "bösartig", 'a "quoted" one', "it's", "back\\slash", "C:\\users\\x", "??=", "*/",
    "// \\", "${label}", "{{ label }}", "%s%n", "new\nline", "tab\t", "", " ", "é1", "心房細動",
    "\u2028", "🫀", "\\u0022", "</script>", "`", "\x7f", "null", "ä0",
)  # fmt: skip

LONG = st.integers(200, 2_000)
THIN = st.integers(1, 2)
ANY_TURN = st.integers(0, 9_999)
SEEDS = st.integers(0, 2**32 - 1)
FULL_SCALES = st.sampled_from((255.0, 1.0, 2.0, 4_095.0, 65_535.0)) | st.floats(1e-6, 1e9)
# Far from 0, a mean leaves little of a pixel in 24 bits: mostly, it is near.
MEANS = st.sampled_from((0.0, 0.5, 0.485)) | st.floats(-4.0, 4.0)
STDS = st.sampled_from((1.0, 0.5, 0.229)) | st.floats(0.01, 4.0)
ANY_MEANS, ANY_STDS = MEANS | st.floats(-1e6, 1e6), STDS | st.floats(1e-6, 1e6)
SCALES = st.sampled_from((1.0, 2.0, 0.5, 0.00390625)) | st.floats(1e-10, 1e10)
ZERO_POINTS = st.sampled_from((-128, 0, 127)) | st.integers(-128, 127)
VERSIONS = (0, 1, 2, 3, 2**31 - 1)


def one_in(draw: st.DrawFn, times: int) -> bool:
    """Return True about once in so many draws."""
    return draw(st.integers(1, times)) == times


# Contracts


def contracts(turns: st.SearchStrategy[int] = ANY_TURN) -> st.SearchStrategy[IoContract]:
    """Contracts with the program's input and output; three in four are of images.

    Args:
        turns: What decides the kinds of source, resize and answer: 100 turns in a row have
            each of them with each of those that it goes with. Without it, any kind comes.
    """

    def of_turn(turn: int) -> st.SearchStrategy[IoContract]:
        of_signals, number = turn % 4 == 0, turn // 4
        if of_signals:
            return signal_contracts(number)
        return image_contracts(3 * number + turn % 4 - 1)

    return turns.flatmap(of_turn)


def in_turn(turn: int, every: int, choices: Sequence[T]) -> T:
    """Return one choice after the other, each for so many turns."""
    return choices[turn // every % len(choices)]


@st.composite
def image_contracts(draw: st.DrawFn, turn: int) -> IoContract:
    """Contracts of images."""
    rows, columns = size = draw(sizes(24))
    bits, channels = in_turn(turn, 5, (8, 16)), in_turn(turn, 10, (1, 3))
    resizes = not one_in(draw, 5)
    aspects = st.sampled_from(((1, 1), (2, 1), (3, 4), (10_000, 1), (1, 10_000), (9_973, 9_967)))
    orientation = draw(st.sampled_from(Orientation))
    said = {
        "input_shape": (channels, rows, columns),
        "source": ImageSource(
            kind="image",
            colour=in_turn(turn, 1, list(Colour)),
            bits=16 if bits == 16 else 8,
            pixel_aspect=draw(aspects) if one_in(draw, 2) else (1, 1),
            orientation=orientation,
        ),
        "sector": draw(sectors()) if one_in(draw, 4) else None,
        "crop": draw(crops(size, resizes=resizes)),
        "resize": draw(resizings(turn, bits)) if resizes else None,
        "channel_order": draw(st.sampled_from(ChannelOrder)),
    }
    said |= draw(centres(channels, (2.0**bits - 1,)))
    draft = Contract.model_validate(said | draw(image_answers(turn)))
    if one_in(draw, 4):
        height, width = draw(upright_sizes(draft))
        turned = orientation is Orientation.EXIF and draw(st.booleans())
        fixed = (width, height) if turned else (height, width)
        draft = draft.model_copy(
            update={"source": draft.image.model_copy(update={"size_px": fixed})}
        )
    return draw(with_tensors(draft, turn))


@st.composite
def sizes(draw: st.DrawFn, most: int) -> Size:
    """Height and width: small, or long and thin."""
    shape = draw(st.integers(0, 11))
    if shape == 0:
        return draw(LONG), draw(THIN)
    if shape == 1:
        return draw(THIN), draw(LONG)
    side = st.integers(1, most) | st.sampled_from((1, 2, 3, 7, 13, 16, 17, 19))
    return draw(side), draw(side)


@st.composite
def sectors(draw: st.DrawFn) -> Sector:
    """Fans that show part of a frame, and some that show none."""
    near = st.integers(-20, 50)
    place = near | st.sampled_from((-MAX_SIDE_PX, MAX_SIDE_PX)) if one_in(draw, 8) else near
    # Where pixels lie on the very edges, and where they lie anywhere.
    angles = st.sampled_from((-90.0, -45.0, 0.0, 45.0, 90.0))
    if one_in(draw, 2):
        angles = st.floats(-90.0, 90.0)
    left, right = sorted(draw(st.lists(angles, min_size=2, max_size=2, unique=True)))
    if right - left < MIN_SECTOR_DEG:
        left, right = (left - 1.0, right) if right > 0.0 else (left, right + 1.0)
    inner = draw(st.integers(0, 2) | st.integers(0, 20))
    return Sector(
        apex_px=(draw(place), draw(place)),
        left_deg=left,
        right_deg=right,
        inner_px=inner,
        outer_px=min(MAX_SIDE_PX, inner + draw(st.integers(1, 60) | st.integers(1, 20_000))),
    )


@st.composite
def crops(draw: st.DrawFn, size: Size, *, resizes: bool) -> BoxCrop | CentreCrop | None:
    """Crops; without a resize, boxes have the tensor's size."""
    kind = draw(st.sampled_from((None, None, "box", "centre")))
    if kind == "centre":
        keep = draw(st.sampled_from((1.0, 0.875)) | st.floats(0.01, 1.0))
        return CentreCrop(kind="centre", keep_ratio=keep)
    if kind == "box":
        height, width = draw(sizes(24)) if resizes else size
        offset = st.integers(0, 9)
        return BoxCrop(
            kind="box", left_px=draw(offset), top_px=draw(offset), width_px=width, height_px=height
        )
    return None


def resizings(turn: int, bits: int) -> st.SearchStrategy[Resize]:
    """Resizes of frames of so many bits."""
    mode, fit = in_turn(turn, 1, list(ResizeMode)), in_turn(turn, 4, list(Fit))
    fills = st.sampled_from((0, 1, 2**bits - 1)) | st.integers(0, 2**bits - 1)
    return st.builds(Resize, mode=st.just(mode), fit=st.just(fit), fill=fills)


@st.composite
def centres(draw: st.DrawFn, channels: int, usual: tuple[float, ...]) -> dict[str, object]:
    """Full scale, mean and deviation: mostly usual ones, and some at the bounds."""
    if one_in(draw, 4):
        return {"full_scale": 1.0, "mean": (0.0,) * channels, "std": (1.0,) * channels}
    scales = FULL_SCALES if one_in(draw, 3) else st.sampled_from(usual)
    many = functools.partial(st.lists, min_size=channels, max_size=channels)
    odd = one_in(draw, 4)
    return {
        "full_scale": draw(scales),
        "mean": tuple(draw(many(ANY_MEANS if odd else MEANS))),
        "std": tuple(draw(many(ANY_STDS if odd else STDS))),
    }


@st.composite
def signal_contracts(draw: st.DrawFn, turn: int) -> IoContract:
    """Contracts of signals."""
    leads, length = draw(st.integers(1, 12)), draw(st.integers(1, 60))
    samples = in_turn(turn, 1, ("int16", "float32"))
    rate = goal = None
    left = length
    if resampled := in_turn(turn, 3, (True, False)):
        parts = draw(st.sampled_from([d for d in range(1, length + 1) if length % d == 0]))
        new_parts, unit = draw(st.integers(1, 2 * parts)), draw(st.sampled_from((1, 50, 977)))
        rate, goal, left = parts * unit, new_parts * unit, length // parts * new_parts
    treated = resampled or turn % 5 < 3
    wanted = left if not treated or one_in(draw, 3) else draw(st.integers(1, left))
    source = SignalSource(
        kind="signal",
        samples="int16" if samples == "int16" else "float32",
        length=None if length == wanted and draw(st.booleans()) else length,
        rate_hz=rate,
    )
    resolution = 1.0 if samples == "int16" else draw(RESOLUTIONS)
    said = {
        "input_shape": (leads, wanted),
        "source": source,
        "signal": draw(signal_steps(turn, resolution, goal)) if treated else None,
    }
    said |= draw(centres(leads, (1.0, 32_768.0)))
    said |= draw(label_answers(in_turn(turn, 1, list(Activation))))
    return draw(with_tensors(Contract.model_validate(said), turn))


RESOLUTIONS = st.sampled_from((1.0, 0.5, 0.001, 2.5e-3)) | st.floats(1e-6, 1e9)


@st.composite
def signal_steps(
    draw: st.DrawFn, turn: int, resolution: float, resample_hz: int | None
) -> SignalSteps:
    """What is done to a signal."""
    return SignalSteps(
        resolution=resolution,
        resample_hz=resample_hz,
        fir=draw(filters()) if in_turn(turn, 5, (True, False)) else (),
        position=draw(st.sampled_from(Position)),
        taper=in_turn(turn, 1, list(Taper)),
        standardise=in_turn(turn, 2, list(Standardise)),
    )


@st.composite
def filters(draw: st.DrawFn) -> tuple[float, ...]:
    """Symmetric coefficients, of a gain up to the allowed one."""
    half = draw(st.lists(st.floats(-1.0, 1.0), max_size=12))
    middle = draw(st.floats(0.1, 1.0))
    gain = draw(st.sampled_from((0.5, 1.0, 2.0, 15.99)))
    share = gain / (2 * sum(map(abs, half)) + middle)
    return tuple(c * share for c in [*half, middle, *half[::-1]])


@st.composite
def image_answers(draw: st.DrawFn, turn: int) -> dict[str, object]:
    """What a contract of images says of the output: labels, boxes or a label map."""
    kind = in_turn(turn, 1, ("labels", "boxes", "segments"))
    activation = in_turn(turn, 3, list(Activation))
    if kind == "labels":
        return draw(label_answers(activation))
    two = activation is Activation.SIGMOID and kind == "segments"
    said: dict[str, object] = {"activation": activation, "labels": draw(label_lists(two=two))}
    if kind == "boxes":
        return said | {"boxes": draw(detections(in_turn(turn, 12, list(BoxForm))))}
    return said | {"segments": Segments(size_px=draw(sizes(12)))}


@st.composite
def label_answers(draw: st.DrawFn, activation: Activation) -> dict[str, object]:
    """What a contract of a classifier says of the output."""
    labels = draw(label_lists(two=activation is Activation.SIGMOID))
    said: dict[str, object] = {"activation": activation, "labels": labels}
    if len(labels) == 2 and one_in(draw, 2):
        shares = st.sampled_from((0.5, 0.25, 0.9)) | st.floats(1e-6, 1.0, exclude_max=True)
        said |= {"threshold": draw(shares)}
    return said | {"top_k": draw(st.just(1) | st.integers(1, len(labels)))}


@st.composite
def label_lists(draw: st.DrawFn, *, two: bool) -> tuple[str, ...]:
    """Labels, no two the same."""
    count = 2 if two else draw(st.integers(2, 6) | st.just(2) | st.just(70))
    if count > len(AWKWARD_LABELS):
        return tuple(f"class {i}" for i in range(count))
    start = draw(st.integers(0, len(AWKWARD_LABELS) - 1))
    return tuple((AWKWARD_LABELS * 2)[start : start + count])


def detections(form: BoxForm) -> st.SearchStrategy[Boxes]:
    """What a detector's contract says."""
    return st.builds(
        Boxes,
        candidates=st.integers(1, 40),
        form=st.just(form),
        min_score=st.sampled_from((1e-9, 0.25, 0.5, 1.0)) | st.floats(1e-9, 1.0),
        max_overlap_ratio=st.sampled_from((0.45, 0.5, 1.0, 1e-9)) | st.floats(1e-9, 1.0),
        max_boxes=st.integers(1, 10) | st.just(1_024),
    )


@st.composite
def with_tensors(draw: st.DrawFn, contract: Contract, turn: int) -> IoContract:
    """Add the program's input and output to a contract."""
    given = draw(tensors(contract.input_shape, fitting_scale(contract), draw(st.integers(0, 3))))
    # By the last one, outputs are beyond float32.
    usual = draw(st.sampled_from((1 / 128, 0.05, 0.25, 1.0, 1e37)))
    output = draw(tensors(output_shape(contract), (usual, 0), turn // 6))
    return IoContract(contract=contract, input=given, output=output)


def output_shape(contract: Contract) -> tuple[int, ...]:
    """Return the shape of one output, channels first."""
    if contract.boxes:
        return contract.boxes.candidates, 4 + len(contract.labels)
    planes = 1 if contract.activation is Activation.SIGMOID else len(contract.labels)
    return (planes, *contract.segments.size_px) if contract.segments else (planes,)


def fitting_scale(contract: Contract) -> tuple[float, int]:
    """Return scale and zero point by which int8 holds a contract's input without a clip."""
    if contract.signal and contract.signal.standardise is Standardise.WINDOW:
        return 1 / 32, 0
    top = 2.0**contract.image.bits - 1 if contract.is_image else 1_000.0
    ends = [(0.0, top), (-top, top)][not contract.is_image]
    unit = float(full_scale(contract))
    values = [
        (end / unit - mean) / std
        for end in ends
        for mean, std in zip(contract.mean, contract.std, strict=True)
    ]
    scale = max((max(values) - min(values)) / 255, 1e-9)
    if {unit, *contract.mean, *contract.std} == {0.0, 1.0}:
        scale = 2.0 ** math.ceil(math.log2(scale))  # every second whole number is at a half
    return scale, max(-128, min(127, round(-128 - min(values) / scale)))


@st.composite
def tensors(
    draw: st.DrawFn, shape: tuple[int, ...], fitting: tuple[float, int], turn: int
) -> TensorIo:
    """A float32 or int8 tensor of one sample, in either layout; `shape` has channels first."""
    layout = in_turn(turn, 2, list(Layout))
    if layout is Layout.CHANNELS_LAST:
        shape = (*shape[1:], shape[0])
    tensor = TensorIo(shape=(1, *shape), layout=layout, dtype=Precision.FLOAT32)
    if in_turn(turn, 1, list(Precision)) is Precision.FLOAT32:
        return tensor
    any_other = st.tuples(SCALES, ZERO_POINTS)
    scale, zero_point = draw(any_other) if one_in(draw, 4) else fitting
    return replace(tensor, dtype=Precision.INT8, scale=scale, zero_point=zero_point)


# Cases


@st.composite
def cases(draw: st.DrawFn, contract_index: int, io: IoContract) -> Case:
    """A frame, a signal, an output or a version for one contract."""
    turn = draw(st.integers(0, 19))
    if turn == 0:
        version = draw(st.sampled_from(VERSIONS))
        return Case(contract=contract_index, kind=Kind.VERSION, version=version)
    if turn <= 6:
        return draw(output_cases(contract_index, io))
    image = io.contract.is_image
    case = draw((frame_cases if image else signal_cases)(contract_index, io.contract))
    if turn <= 14:
        return case
    mistakes = FRAME_MISTAKES if image else SIGNAL_MISTAKES
    for mistake in draw(st.lists(st.sampled_from(mistakes), min_size=1, max_size=2)):
        case = mistake(draw, case, io.contract)
    return case


class Pattern(Enum):
    """What pixels show."""

    RANDOM = auto()
    ZERO = auto()
    HIGHEST = auto()
    GRADIENT = auto()
    CHECKERS = auto()
    EXTREMES = auto()
    MIDDLE = auto()
    COARSE = auto()
    """Whole multiples of 1 / 256 of the range, which a plain contract rounds at halves."""


def pixels(pattern: Pattern, seed: int, shape: tuple[int, ...], highest: int) -> NDArray[np.int64]:
    """Return pixels from 0 to `highest`, (height, width, channels)."""
    rng = np.random.default_rng(seed)
    rows, columns, planes = np.indices(shape)
    match pattern:
        case Pattern.RANDOM:
            shown = rng.integers(0, highest, shape, endpoint=True)
        case Pattern.ZERO:
            shown = np.zeros(shape, np.int64)
        case Pattern.HIGHEST:
            shown = np.full(shape, highest, np.int64)
        case Pattern.GRADIENT:
            along = rows * (seed % 5) + columns * (seed % 7 + 1) + planes * (seed % 3)
            shown = along * highest // max(1, int(along.max()))
        case Pattern.CHECKERS:
            shown = (rows + columns + planes) % 2 * highest
        case Pattern.EXTREMES:
            shown = rng.choice([0, 1, highest - 1, highest], shape)
        case Pattern.MIDDLE:
            shown = (highest + 1) // 2 + rng.integers(-1, 1, shape, endpoint=True)
        case Pattern.COARSE:
            step = max(1, (highest + 1) // 256)
            shown = rng.integers(0, highest // step, shape, endpoint=True) * step
        case _:
            assert_never(pattern)
    return shown.clip(0, highest)


@st.composite
def frame_cases(draw: st.DrawFn, contract_index: int, contract: Contract) -> Case:
    """A frame that fits the contract, where one was found."""
    source = contract.image
    turns = source.orientation is Orientation.EXIF
    orientation = draw(st.integers(1, 8))
    if source.size_px:
        height, width = source.size_px
        orientation = fitting_orientation(contract, orientation)
    else:
        height, width = draw(upright_sizes(contract))
        if turns and orientation > 4:
            height, width = width, height
    highest, palette = int(2**source.bits - 1), b""
    dtype = np.dtype(f"<u{source.bits // 8}")
    seed, pattern = draw(SEEDS), draw(st.just(Pattern.RANDOM) | st.sampled_from(Pattern))
    if source.colour is Colour.PALETTE:
        entries = draw(st.integers(2, 256) | st.just(2 if source.bits == 8 else 1_000))
        colours = pixels(Pattern.RANDOM, seed + 1, (entries, 1, 3), highest)
        highest, palette = entries - 1, colours.astype(dtype).tobytes()
    stored = pixels(pattern, seed, (height, width, source.colour.channels), highest)
    return Case(
        contract=contract_index,
        kind=Kind.PREPARE,
        height=height,
        width=width,
        channels=source.colour.channels,
        bits=source.bits,
        orientation=orientation,
        payload=stored.astype(dtype).tobytes(),
        palette=palette,
    )


def fitting_orientation(contract: Contract, wanted: int) -> int:
    """Return `wanted`, or where a frame of the fixed size would not fit so, another one."""
    assert contract.image.size_px, "the size is fixed"
    height, width = contract.image.size_px
    turns = contract.image.orientation is Orientation.EXIF
    for orientation in (wanted, UPRIGHT, 6):
        upright = (width, height) if turns and orientation > 4 else (height, width)
        if fits(contract, upright):
            return orientation
    return wanted


def fits(contract: Contract, upright: Size) -> bool:
    """Return whether a frame of this upright size is taken."""
    if isinstance(contract.crop, BoxCrop):
        crop = contract.crop
        if crop.top_px + crop.height_px > upright[0] or crop.left_px + crop.width_px > upright[1]:
            return False
    cut = region(contract, *upright)
    return contract.resize is not None or (cut.height_px, cut.width_px) == contract.input_shape[1:]


@st.composite
def upright_sizes(draw: st.DrawFn, contract: Contract) -> Size:
    """Upright frame sizes that the contract takes, where one was found."""
    _, rows, columns = contract.input_shape
    match contract.crop:
        case BoxCrop() as crop:
            spare = st.integers(0, 12)
            bottom, right = crop.top_px + crop.height_px, crop.left_px + crop.width_px
            return bottom + draw(spare), right + draw(spare)
        case CentreCrop() if contract.resize is None:
            found = list(fitting_sizes(contract))
            return draw(st.sampled_from(found)) if found else (rows, columns)
        case _ if contract.resize is None:
            return rows, columns
        case _:
            pass
    if one_in(draw, 40):
        return draw(st.sampled_from(((MAX_SIDE_PX, 1), (1, MAX_SIDE_PX))))
    return draw(sizes(40) | st.just((rows, columns)))


def fitting_sizes(contract: Contract) -> Iterator[Size]:
    """Yield sizes of which a centred crop is as large as the tensor; at most a few."""
    assert isinstance(contract.crop, CentreCrop), "the crop is centred"
    _, rows, columns = contract.input_shape
    height, width = (round(side / contract.crop.keep_ratio) for side in (rows, columns))
    for down in range(-1, 4):
        for right in range(-1, 4):
            size = (max(1, height + down), max(1, width + right))
            if max(size) <= 2_100 and fits(contract, size):
                yield size


def blank(size: int) -> bytes:
    """Return so many zeros, but not more than are worth a check."""
    return bytes(min(size, 100_000))


def whole(number: int) -> int:
    """Return the nearest number that a case can hold."""
    return max(0, min(number, 2**32 - 1))


Mistake = Callable[[st.DrawFn, Case, Contract], Case]


def wrong_depth(draw: st.DrawFn, case: Case, contract: Contract) -> Case:
    """Say another depth, and mean it or not."""
    del contract
    bits = draw(st.sampled_from([b for b in (8, 16, 32, 0, 12) if b != case.bits]))
    payload = case.payload * 2 if draw(st.booleans()) else case.payload
    return replace(case, bits=bits, payload=payload)


def wrong_channels(draw: st.DrawFn, case: Case, contract: Contract) -> Case:
    """Say another number of values a pixel, with as many bytes or not."""
    del contract
    channels = draw(st.sampled_from([c for c in (1, 3, 4, 2, 0) if c != case.channels]))
    payload = case.payload * 3 if draw(st.booleans()) else case.payload
    return replace(case, channels=channels, payload=payload)


def wrong_sides(draw: st.DrawFn, case: Case, contract: Contract) -> Case:
    """Give a frame of another size, or of none."""
    del contract
    side = st.sampled_from((0, 1, 2, 41, MAX_SIDE_PX, MAX_SIDE_PX + 1, 2**31 - 1, 2**32 - 1))
    change = draw(st.integers(0, 3))
    if change == 0:
        return replace(case, height=case.width, width=case.height)
    if change == 1:
        height, width = whole(case.height + draw(st.sampled_from((-1, 1)))), case.width
        row = len(case.payload) // max(1, case.height)
        return replace(case, height=height, width=width, payload=blank(row * height))
    return replace(case, height=draw(side)) if change == 2 else replace(case, width=draw(side))


def wrong_length(draw: st.DrawFn, case: Case, contract: Contract) -> Case:
    """Cut the payload short, or add to it."""
    del contract
    cut = draw(st.sampled_from((-1, 1, 2, 8, -8, 0, None)))
    if cut is None:
        return replace(case, payload=case.payload[: len(case.payload) // 2])
    longer = case.payload + bytes(max(0, cut))
    return replace(case, payload=longer[: max(0, len(longer) + min(0, cut))] if cut else b"")


def wrong_orientation(draw: st.DrawFn, case: Case, contract: Contract) -> Case:
    """Give an EXIF orientation that does not exist."""
    del contract
    return replace(case, orientation=draw(st.sampled_from((0, 9, 255, 2**31))))


def wrong_palette(draw: st.DrawFn, case: Case, contract: Contract) -> Case:
    """Leave out the palette, cut it short, or give one where none is wanted."""
    entry = 3 * contract.image.bits // 8
    if not case.palette:
        return replace(case, palette=bytes(range(entry)) * draw(st.sampled_from((1, 2, 200))))
    kept = draw(st.sampled_from((0, entry, len(case.palette) - entry, len(case.palette) - 1)))
    return replace(case, palette=case.palette[:kept])


FRAME_MISTAKES: tuple[Mistake, ...] = (
    wrong_depth,
    wrong_channels,
    wrong_sides,
    wrong_length,
    wrong_orientation,
    wrong_palette,
)


# Signals


class Wave(Enum):
    """What a signal shows, in steps of its resolution."""

    NOISE = auto()
    BEATS = auto()
    HALVES = auto()
    LOUD = auto()
    EXTREMES = auto()
    STEP = auto()


def waves(wave: Wave, seed: int, shape: Size) -> NDArray[np.float64]:
    """Return samples (leads, length) in steps, within `MAX_RAW_STEPS`."""
    rng = np.random.default_rng(seed)
    leads, places = np.indices(shape)
    match wave:
        case Wave.NOISE:
            return np.asarray(rng.normal(0.0, 300.0, shape))
        case Wave.BEATS:
            return np.asarray(1_000.0 * np.sin(places / 3.0 + leads) + rng.normal(0, 5, shape))
        case Wave.HALVES:
            near = rng.choice([0.0, 2.0**-20, -(2.0**-20)], shape)
            return np.asarray(rng.integers(-9, 9, shape) + 0.5 + near)
        case Wave.LOUD:
            return np.asarray(rng.uniform(-1.0, 1.0, shape) * MAX_RAW_STEPS)
        case Wave.EXTREMES:
            return rng.choice([-MAX_RAW_STEPS, MAX_RAW_STEPS], shape).astype(np.float64)
        case Wave.STEP:
            return np.asarray((places >= shape[1] // 2) * float(seed % 900_000))
        case _:
            assert_never(wave)


@st.composite
def signal_cases(draw: st.DrawFn, contract_index: int, contract: Contract) -> Case:
    """A signal that fits the contract."""
    source = contract.source
    assert isinstance(source, SignalSource), "the contract is one of signals"
    shape = (contract.input_shape[0], source.length or contract.input_shape[1])
    steps = waves(draw(st.sampled_from(Wave)), draw(SEEDS), shape)
    if source.samples == "int16":
        # Loud signals keep their shape; they would be clipped to little but extremes.
        most = float(np.abs(steps).max())
        steps = np.round(steps * (min(most, 32_767.0) / max(most, 1.0))) - (most >= 32_768.0)
        payload = steps.clip(-32_768, 32_767).astype("<i2").tobytes()
    else:
        unit = contract.signal.resolution if contract.signal else contract.full_scale
        payload = (steps * unit).astype("<f4").tobytes()
    return Case(
        contract=contract_index,
        kind=Kind.PREPARE,
        height=shape[0],
        width=shape[1],
        bits=16 if source.samples == "int16" else 32,
        payload=payload,
    )


def wrong_leads(draw: st.DrawFn, case: Case, contract: Contract) -> Case:
    """Leave out a lead, or add one."""
    del contract
    near = (whole(case.height - 1), whole(case.height + 1))
    leads = draw(st.sampled_from((*near, 0, 2**32 - 1)))
    lead = case.payload[: case.width * case.bits // 8]
    return replace(case, height=leads, payload=lead * min(leads, 20))


def wrong_samples(draw: st.DrawFn, case: Case, contract: Contract) -> Case:
    """Give a longer or a shorter signal."""
    del contract
    near = (whole(case.width - 1), whole(case.width + 1))
    width = draw(st.sampled_from((*near, 0, MAX_SIGNAL_LENGTH + 1, 2**31 - 1)))
    return replace(case, width=width, payload=blank(case.height * width * case.bits // 8))


def broken_sample(draw: st.DrawFn, case: Case, contract: Contract) -> Case:
    """Put a NaN, an infinity or a huge number into a signal of float32."""
    del contract
    if case.bits != 32:
        return case
    samples = np.frombuffer(case.payload[: len(case.payload) // 4 * 4], "<f4").copy()
    odd = (math.nan, math.inf, -math.inf, 3.4e38, -3.4e38, 1e30)
    for _ in range(draw(st.integers(1, 2))):
        if samples.size:
            samples[draw(st.integers(0, samples.size - 1))] = draw(st.sampled_from(odd))
    return replace(case, payload=samples.tobytes())


def flat_signal(draw: st.DrawFn, case: Case, contract: Contract) -> Case:
    """Give one lead or all of them the same value throughout."""
    del contract
    size = len(case.payload)
    lead = size // max(1, case.height) if draw(st.booleans()) else size
    one = case.payload[: case.bits // 8]
    return replace(case, payload=(one * size)[:lead] + case.payload[lead:])


SIGNAL_MISTAKES: tuple[Mistake, ...] = (
    wrong_depth,
    wrong_leads,
    wrong_samples,
    wrong_length,
    broken_sample,
    broken_sample,
    flat_signal,
    flat_signal,
)


# Outputs


class Output(Enum):
    """What a program gives."""

    USUAL = auto()
    WIDE = auto()
    TIES = auto()
    EQUAL = auto()
    EXTREMES = auto()
    NEAR_THRESHOLD = auto()
    BROKEN = auto()


def floats(kind: Output, seed: int, size: int, threshold: float) -> NDArray[np.float32]:
    """Return so many outputs of float32."""
    rng = np.random.default_rng(seed)
    usual = rng.normal(0.0, 2.0, size)
    match kind:
        case Output.USUAL:
            values = usual
        case Output.WIDE:
            values = usual * 30.0
        case Output.TIES:
            values = rng.integers(-1, 1, size, endpoint=True).astype(np.float64)
        case Output.EQUAL:
            values = np.full(size, usual[0])
        case Output.EXTREMES:
            most = float(np.finfo(np.float32).max)
            values = rng.choice([-most, most, 1e30, -1e30, 0.0, -0.0, 88.7, -88.72, 1e-45], size)
        case Output.NEAR_THRESHOLD:
            # Within a few units in the last place of where the threshold lies.
            edge = np.float32(math.log(threshold / (1.0 - threshold)))
            values = np.zeros(size)
            values[-1] = edge + rng.integers(-3, 3, endpoint=True) * np.spacing(edge)
        case Output.BROKEN:
            values = usual
            values[rng.integers(size)] = rng.choice([math.nan, math.inf, -math.inf])
        case _:
            assert_never(kind)
    return values.astype(np.float32)


def bytes_of_int8(kind: Output, seed: int, size: int) -> NDArray[np.int8]:
    """Return so many outputs of int8."""
    rng = np.random.default_rng(seed)
    if kind in {Output.USUAL, Output.WIDE}:
        return rng.integers(-128, 127, size, np.int8, endpoint=True)
    if kind is Output.TIES:
        return rng.integers(-1, 1, size, np.int8, endpoint=True)
    if kind is Output.EQUAL:
        return np.full(size, rng.integers(-128, 127, endpoint=True), np.int8)
    return rng.choice(np.array([-128, 127, 0], np.int8), size)


def around_a_few_places(values: NDArray[np.float32], seed: int, boxes: Boxes) -> None:
    """Move most boxes of (candidates, 4 + labels) to a few places, so that some overlap."""
    rng = np.random.default_rng(seed)
    first, extent = rng.uniform(-0.1, 0.8, (3, 2)), rng.uniform(0.05, 0.5, (3, 2))
    ends = extent if boxes.form is BoxForm.CENTRE else first + extent
    places = np.concatenate([first, ends], axis=1)[rng.integers(0, 3, len(values))]
    moved = places + rng.normal(0.0, 0.02, places.shape)
    values[:, :4] = np.where(rng.random((len(values), 1)) < 0.8, moved, values[:, :4])


@st.composite
def output_cases(draw: st.DrawFn, contract_index: int, io: IoContract) -> Case:
    """What a program may answer; for boxes, with the size of the upright frame."""
    kind, seed, size = draw(st.sampled_from(Output)), draw(SEEDS), math.prod(io.output.shape)
    if io.output.dtype is Precision.INT8:
        payload = bytes_of_int8(kind, seed, size).tobytes()
    else:
        values = floats(kind, seed, size, io.contract.threshold or 0.5)
        if io.contract.boxes and kind in {Output.USUAL, Output.TIES, Output.WIDE}:
            shaped = values.reshape(io.contract.boxes.candidates, -1)
            around_a_few_places(shaped, seed, io.contract.boxes)
        payload = values.astype("<f4").tobytes()
    height, width = draw(shown_sizes(io.contract))
    case = Case(
        contract=contract_index, kind=Kind.ANSWER, height=height, width=width, payload=payload
    )
    return wrong_output(draw, case, io) if one_in(draw, 8) else case


def wrong_output(draw: st.DrawFn, case: Case, io: IoContract) -> Case:
    """Leave out values, or add one; or say that a frame was shown that there is not."""
    size = dtype_of(io.output).itemsize
    if io.contract.boxes and draw(st.booleans()):
        height = draw(st.sampled_from((0, MAX_SIDE_PX + 1, 2**31 - 1)))
        case = replace(case, height=height) if one_in(draw, 2) else replace(case, width=height)
    fewer = (case.payload[:-size], case.payload[: len(case.payload) // 2 // size * size], b"")
    return replace(case, payload=draw(st.sampled_from((case.payload + bytes(size), *fewer))))


@st.composite
def shown_sizes(draw: st.DrawFn, contract: Contract) -> Size:
    """Upright sizes of frames that were shown: no pixels are needed, so these go up to the top."""
    if not contract.boxes:
        return 0, 0
    if contract.resize is None or contract.image.size_px:
        return draw(upright_sizes(contract))
    side = st.integers(1, 40) | st.integers(41, MAX_SIDE_PX) | st.just(MAX_SIDE_PX)
    return draw(side), draw(side)


# Batches


def batch(
    *, contracts: int, cases: int, seed: int
) -> tuple[tuple[IoContract, ...], tuple[Case, ...]]:
    """Return so many contracts, and at least so many cases; the same ones for the same seed."""
    each = -(-cases // contracts)
    drawn = [_drawn(index, each, seed) for index in range(contracts)]
    return tuple(io for io, _ in drawn), tuple(case for _, some in drawn for case in some)


def _drawn(index: int, count: int, seed: int) -> tuple[IoContract, list[Case]]:
    """Draw one contract, and so many cases for it.

    Of each run, the first example is the plainest one and those from the third on may be
    variants of others before them: the second one is always new. So that it is like the
    first one in nothing, it begins with a number that has no other use.
    """
    drawn: list[tuple[IoContract, list[Case]]] = []

    @hypothesis.seed(seed * 10_000 + index)
    @hypothesis.settings(
        max_examples=2,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        derandomize=False,
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(st.data())
    def collect(data: st.DataObject) -> None:
        data.draw(SEEDS)
        io = data.draw(contracts(st.just(index)))
        some = data.draw(st.lists(cases(index, io), min_size=count, max_size=count))
        drawn.append((io, some))

    collect()
    return drawn[-1]
