"""A contract that cannot be kept is refused when it is read, in words that name the key."""

import pytest
from pydantic import ValidationError

from packager.contract import Contract
from packager.contract.spec import (
    Activation,
    BoxCrop,
    Boxes,
    BoxForm,
    CentreCrop,
    Colour,
    Resize,
    ResizeMode,
    Sector,
    Segments,
)
from tests.unit.contract.examples import (
    INT16,
    image_contract,
    image_source,
    signal_contract,
    signal_source,
    signal_steps,
)

TWO_LABELS = ("cyst", "solid")
BOXES = Boxes(candidates=5, form=BoxForm.CORNERS, min_score=0.5, max_overlap_ratio=0.5, max_boxes=3)
SEGMENTS = Segments(size_px=(4, 6))
SECTOR = {
    "apex_px": (10, -5),
    "left_deg": -30.0,
    "right_deg": 30.0,
    "inner_px": 2,
    "outer_px": 60,
}


def problems(caught: pytest.ExceptionInfo[ValidationError]) -> list[tuple[str, str]]:
    """Return the place and the text of every mistake."""
    return [
        (".".join(map(str, error["loc"])), error["msg"].removeprefix("Value error, "))
        for error in caught.value.errors()
    ]


def test_outputs_are_counted_by_kind_of_answer() -> None:
    assert image_contract(1, 8, 8).outputs == 2
    assert image_contract(1, 8, 8, labels=("a", "b", "c")).outputs == 3
    assert image_contract(1, 8, 8, activation=Activation.SIGMOID).outputs == 1
    assert image_contract(1, 8, 8, boxes=BOXES).outputs == 5 * 6
    sigmoid = image_contract(1, 8, 8, boxes=BOXES, activation=Activation.SIGMOID)
    assert sigmoid.outputs == 5 * 6
    assert image_contract(1, 8, 8, segments=SEGMENTS).outputs == 2 * 24
    binary = image_contract(1, 8, 8, segments=SEGMENTS, activation=Activation.SIGMOID)
    assert binary.outputs == 24


def test_colours_have_one_value_a_pixel_or_three() -> None:
    assert {colour.value: colour.channels for colour in Colour} == {
        "gray": 1,
        "rgb": 3,
        "bgr": 3,
        "ybr": 3,
        "palette": 1,
    }


def test_contract_knows_images_from_signals() -> None:
    assert image_contract(1, 8, 8).is_image
    assert image_contract(1, 8, 8).image == image_source()
    assert not signal_contract(1, 8).is_image


IMAGE_MISTAKES = [
    ((2, 8, 8), {}, "'input_shape' of images must be [1 or 3, height, width]"),
    ((1, 8), {}, "'input_shape' of images must be [1 or 3, height, width]"),
    (
        (1, 8, 16_385),
        {},
        "'input_shape' is too large: an image has at most 16384 pixels, a signal 8192 samples",
    ),
    ((3, 8, 8), {"mean": (0.5,)}, "'mean' and 'std' need 3 values, one for each channel"),
    ((1, 8, 8), {"std": (0.5, 0.5)}, "'mean' and 'std' need 1 values, one for each channel"),
    (
        (1, 8, 8),
        {"signal": signal_steps()},
        "'signal' goes with a source of kind 'signal'",
    ),
    (
        (1, 8, 8),
        {"resize": Resize(mode=ResizeMode.AREA, fill=256)},
        "'resize.fill' must fit into 8 bits",
    ),
    ((1, 8, 8), {"labels": ("cyst", "cyst")}, "'labels' names one of them twice"),
    (
        (1, 8, 8),
        {"labels": ("a", "b", "c"), "activation": Activation.SIGMOID},
        "'sigmoid' needs exactly two labels",
    ),
    (
        (1, 8, 8),
        {"labels": ("a", "b", "c"), "threshold": 0.5},
        "'threshold' needs exactly two labels",
    ),
    ((1, 8, 8), {"top_k": 3}, "'top_k' must be at most 2, the number of labels"),
    ((1, 8, 8), {"boxes": BOXES, "segments": SEGMENTS}, "give either 'boxes' or 'segments'"),
    (
        (1, 8, 8),
        {"boxes": BOXES, "threshold": 0.5},
        "'threshold' and 'top_k' go with a model that classifies",
    ),
    (
        (1, 8, 8),
        {"segments": SEGMENTS, "top_k": 2},
        "'threshold' and 'top_k' go with a model that classifies",
    ),
    (
        (1, 8, 8),
        {"segments": SEGMENTS, "labels": tuple(map(str, range(257)))},
        "'segments' takes at most 256 labels",
    ),
    (
        (1, 4_097, 8),
        {"boxes": BOXES},
        "'boxes' takes an 'input_shape' of at most 4096 pixels a side",
    ),
    (
        (1, 8, 8),
        {"labels": ("cy\0st", "solid")},
        "'labels' holds a NUL character, which ends a text in C",
    ),
    (
        (1, 8, 8),
        {"crop": BoxCrop(kind="box", left_px=0, top_px=0, width_px=8, height_px=9)},
        "'crop' has not the size of 'input_shape': add [contract.resize]",
    ),
]


@pytest.mark.parametrize(("shape", "changes", "problem"), IMAGE_MISTAKES)
def test_contract_of_images_that_contradicts_itself_is_refused(
    shape: tuple[int, ...], changes: dict[str, object], problem: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        image_contract(*shape, **changes)
    assert problems(caught) == [("", problem)]


TOO_LARGE = "'input_shape' is too large: an image has at most 16384 pixels, a signal 8192 samples"
FOR_IMAGES = "'sector', 'crop' and 'resize' go with a source of kind 'image'"
ECG = signal_source(rate_hz=500, length=1_000)
BOX = BoxCrop(kind="box", left_px=0, top_px=0, width_px=1, height_px=1)
SIGNAL_MISTAKES = [
    ((1, 8, 8), {}, "'input_shape' of signals must be [channels, length]"),
    ((1, 8_193), {}, TOO_LARGE),
    ((2, 8), {"std": (1.0,)}, "'mean' and 'std' need 2 values, one for each channel"),
    ((1, 8), {"sector": Sector.model_validate(SECTOR)}, FOR_IMAGES),
    ((1, 8), {"crop": CentreCrop(kind="centre")}, FOR_IMAGES),
    ((1, 8), {"crop": BOX}, FOR_IMAGES),
    ((1, 8), {"resize": Resize(mode=ResizeMode.AREA)}, FOR_IMAGES),
    (
        (1, 8),
        {"source": signal_source(length=9)},
        "'source.length' differs from 'input_shape': add [contract.signal]",
    ),
    (
        (1, 8),
        {"source": INT16, "signal": signal_steps(resolution=0.5)},
        "'signal.resolution' of int16 samples must be 1.0: they are whole numbers already",
    ),
    (
        (1, 8),
        {"signal": signal_steps(resample_hz=100)},
        "'signal.resample_hz' needs 'source.rate_hz'",
    ),
    (
        (1, 8),
        {
            "source": signal_source(rate_hz=500, length=999),
            "signal": signal_steps(resample_hz=333),
        },
        "'source.length' is no whole number of samples at 'signal.resample_hz'",
    ),
    (
        (1, 201),
        {"source": ECG, "signal": signal_steps(resample_hz=100)},
        "200 samples are left, and 'input_shape' wants 201",
    ),
    (
        (1, 8),
        {
            "source": signal_source(rate_hz=1, length=1_000),
            "signal": signal_steps(resample_hz=9),
        },
        "9000 samples are left, and 'input_shape' wants 8",
    ),
    ((1, 8), {"boxes": BOXES}, "'boxes' and 'segments' go with a source of kind 'image'"),
]


@pytest.mark.parametrize(("shape", "changes", "problem"), SIGNAL_MISTAKES)
def test_contract_of_signals_that_contradicts_itself_is_refused(
    shape: tuple[int, ...], changes: dict[str, object], problem: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        signal_contract(*shape, **changes)
    assert problems(caught) == [("", problem)]


ORDER = "'left_deg' must be 0.1 degrees or more below 'right_deg', and 'inner_px' below 'outer_px'"
APEX = "'apex_px' must be within 16384 pixels of the frame's corner"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"left_deg": 30.0}, ORDER),
        ({"inner_px": 60}, ORDER),
        ({"apex_px": (-16_385, 0)}, APEX),
        ({"apex_px": (0, 16_385)}, APEX),
    ],
)
def test_sector_that_is_none_is_refused(changes: dict[str, object], problem: str) -> None:
    Sector.model_validate(SECTOR)
    with pytest.raises(ValidationError) as caught:
        Sector.model_validate(SECTOR | changes)
    assert problems(caught) == [("", problem)]


@pytest.mark.parametrize(
    ("fir", "problem"),
    [
        ((0.5, 0.5), "'fir' must be symmetric, with an odd number of coefficients"),
        ((0.25, 0.5, 0.2), "'fir' must be symmetric, with an odd number of coefficients"),
        ((-8.0, 0.5, -8.0), "the absolute coefficients of 'fir' must sum to 16 or less"),
    ],
)
def test_filter_that_shifts_or_overflows_is_refused(fir: tuple[float, ...], problem: str) -> None:
    assert signal_steps(fir=(-8.0, 0.0, -8.0)).fir == (-8.0, 0.0, -8.0)
    with pytest.raises(ValidationError) as caught:
        signal_steps(fir=fir)
    assert problems(caught) == [("", problem)]


@pytest.mark.parametrize(
    ("changes", "place", "problem"),
    [
        ({"full_scale": 0.0}, "full_scale", "Input should be greater than or equal to 0.000001"),
        ({"full_scale": 1e10}, "full_scale", "Input should be less than or equal to 1000000000"),
        ({"mean": (-2e6,)}, "mean.0", "Input should be greater than or equal to -1000000"),
        ({"std": (0.0,)}, "std.0", "Input should be greater than or equal to 0.000001"),
        ({"std": (float("nan"),)}, "std.0", "Input should be a finite number"),
        ({"threshold": 1.0}, "threshold", "Input should be less than 1"),
        ({"threshold": 0.0}, "threshold", "Input should be greater than 0"),
        ({"top_k": 0}, "top_k", "Input should be greater than or equal to 1"),
        ({"input_shape": (1, 0, 8)}, "input_shape.1", "Input should be greater than or equal to 1"),
        (
            {"input_shape": (8,)},
            "input_shape",
            "Tuple should have at least 2 items after validation, not 1",
        ),
        (
            {"labels": ("one",)},
            "labels",
            "Tuple should have at least 2 items after validation, not 1",
        ),
        ({"layout": "nchw"}, "layout", "Extra inputs are not permitted"),
    ],
)
def test_numbers_beyond_the_bounds_of_the_arithmetic_are_refused(
    changes: dict[str, object], place: str, problem: str
) -> None:
    plain = dict(image_contract(1, 8, 8, labels=TWO_LABELS))
    Contract.model_validate(plain)
    with pytest.raises(ValidationError) as caught:
        Contract.model_validate(plain | changes)
    assert problems(caught) == [(place, problem)]


def test_bounds_themselves_are_allowed() -> None:
    image_contract(1, 1, 16_384, full_scale=1e9, mean=(-1e6,), std=(1e-6,), top_k=2)
    resize = Resize(mode=ResizeMode.AREA, fill=65_535)
    image_contract(1, 8, 8, source=image_source(bits=16), resize=resize)
    many = tuple(map(str, range(256)))
    assert image_contract(1, 8, 8, segments=SEGMENTS, labels=many).outputs == 256 * 24
    source = signal_source(length=8_192, samples="int16")
    assert signal_contract(1, 8_192, source=source, signal=signal_steps()).outputs == 2
