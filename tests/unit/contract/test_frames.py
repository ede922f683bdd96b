"""A frame becomes the tensor's pixels in one way only, or is refused with a named fault."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from PIL import Image, ImageOps

from packager.contract import Contract
from packager.contract.frames import (
    Frame,
    Region,
    content,
    edge,
    fit_frame,
    frame_of_bytes,
    inside_sector,
    luma,
    region,
    resample,
    rgb_of_ybr,
    turn,
)
from packager.contract.resampling import ONE, taps
from packager.contract.spec import (
    BoxCrop,
    CentreCrop,
    ChannelOrder,
    Colour,
    Fit,
    Orientation,
    Resize,
    ResizeMode,
    Sector,
)
from packager.errors import FrameError
from tests.unit.contract.examples import fault_and_problem, image_contract, image_source

SIDES = st.integers(1, 40)
SIZES = st.tuples(SIDES, SIDES)
MODES = st.sampled_from(ResizeMode)
SMOOTH = MODES.filter(lambda mode: mode is not ResizeMode.NEAREST)
SMALL_FRAMES = arrays.arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)))
DEPTHS = {8: np.uint8, 16: np.uint16}


def random_frame(seed: int, *shape: int, bits: int = 8) -> NDArray[np.generic]:
    """Return pixels of which half are extremes."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 2**bits, shape)
    return np.where(rng.random(shape) < 0.5, pixels, pixels % 2 * (2**bits - 1)).astype(
        DEPTHS[bits]
    )


# Resizing


@given(
    bits=st.sampled_from((8, 16)),
    seed=st.integers(0, 999),
    source=SIZES,
    wanted=SIZES,
    mode=MODES,
)
def test_constant_frame_stays_constant(
    bits: int, seed: int, source: tuple[int, int], wanted: tuple[int, int], mode: ResizeMode
) -> None:
    value = random_frame(seed, 1, bits=bits)[0]
    resized = resample(np.full(source, value), height_px=wanted[0], width_px=wanted[1], mode=mode)
    assert resized.dtype == DEPTHS[bits]
    np.testing.assert_array_equal(resized, np.full(wanted, value))


@given(frame=SMALL_FRAMES, mode=MODES)
def test_frame_of_the_right_size_is_left_alone(frame: NDArray[np.uint8], mode: ResizeMode) -> None:
    height, width = frame.shape
    same = resample(frame, height_px=height, width_px=width, mode=mode)
    np.testing.assert_array_equal(same, frame)


def test_shrinking_averages_and_does_not_pick_pixels() -> None:
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, ::8] = 240
    shrunk = resample(stripes, height_px=8, width_px=8, mode=ResizeMode.ANTIALIAS)
    # One column in eight is 240, hence 30 on average; picking pixels, or blending the two
    # nearest, would miss every stripe. The border weighs its own pixels differently.
    assert shrunk[:, 1:-1].tolist() == [[30] * 6] * 8
    bilinear = resample(stripes, height_px=8, width_px=8, mode=ResizeMode.BILINEAR)
    assert bilinear.tolist() == [[0] * 8] * 8


@given(
    frame=arrays.arrays(np.uint8, (24, 24)),
    wanted=st.tuples(st.sampled_from((1, 2, 3, 8, 12)), st.sampled_from((1, 4, 6))),
)
def test_shrinking_by_area_keeps_the_mean(
    frame: NDArray[np.uint8], wanted: tuple[int, int]
) -> None:
    shrunk = resample(frame, height_px=wanted[0], width_px=wanted[1], mode=ResizeMode.AREA)
    # Two roundings: to whole levels, and to 1 / 128 between the passes; and those of shares.
    assert abs(float(shrunk.mean()) - float(frame.mean())) <= 0.5 + 1 / 256 + 0.1


@given(arrays.arrays(np.uint8, (24, 24)))
def test_shrinking_smoothly_keeps_the_mean_roughly(frame: NDArray[np.uint8]) -> None:
    # Pixels at the border weigh up to 9/8 and those next to them less, in each direction,
    # so a frame of extremes may move by a sixteenth of full scale; rounding adds a half.
    shrunk = resample(frame, height_px=8, width_px=8, mode=ResizeMode.ANTIALIAS)
    assert abs(float(shrunk.mean()) - float(frame.mean())) <= 255 / 8 + 0.5


@pytest.mark.parametrize("mode", [ResizeMode.ANTIALIAS, ResizeMode.BILINEAR])
def test_enlarging_draws_a_straight_line_between_pixel_centres(mode: ResizeMode) -> None:
    frame = np.array([[0, 100]], np.uint8)
    enlarged = resample(frame, height_px=1, width_px=4, mode=mode)
    assert enlarged.tolist() == [[0, 25, 75, 100]]


@given(frame=SMALL_FRAMES, wanted=SIZES)
def test_nearest_picks_the_pixel_under_the_centre(
    frame: NDArray[np.uint8], wanted: tuple[int, int]
) -> None:
    picked = resample(frame, height_px=wanted[0], width_px=wanted[1], mode=ResizeMode.NEAREST)
    rows, columns = (
        [math.floor((i + Fraction(1, 2)) * old / new) for i in range(new)]
        for old, new in zip(frame.shape, wanted, strict=True)
    )
    np.testing.assert_array_equal(picked, frame[np.ix_(rows, columns)])


@pytest.mark.parametrize("mode", [ResizeMode.ANTIALIAS, ResizeMode.BILINEAR, ResizeMode.AREA])
def test_result_is_rounded_half_up(mode: ResizeMode) -> None:
    for dtype, pair in ((np.uint8, [0, 1]), (np.uint16, [65_534, 65_535])):
        frame = np.array([pair], dtype)
        assert resample(frame, height_px=1, width_px=1, mode=mode).tolist() == [[pair[1]]]
        upright = frame.T
        assert resample(upright, height_px=1, width_px=1, mode=mode).tolist() == [[pair[1]]]


def exactly_resized(
    frame: NDArray[np.generic], wanted: tuple[int, int], mode: ResizeMode
) -> NDArray[np.float64]:
    """Return the resized frame by the same shares, in exact arithmetic and without rounding."""
    down, across = (
        np.zeros((new, old), np.int64) for old, new in zip(frame.shape, wanted, strict=True)
    )
    for matrix, old in ((down, frame.shape[0]), (across, frame.shape[1])):
        for i, found in enumerate(taps(old, len(matrix), mode)):
            matrix[i, found.start : found.start + len(found.shares)] = found.shares
    sums = down @ frame.astype(np.int64) @ across.T
    return np.asarray(sums / float(ONE) ** 2)  # sums of 48 bits are exact, and so is the quotient


@given(
    bits=st.sampled_from((8, 16)),
    seed=st.integers(0, 999),
    source=SIZES,
    wanted=SIZES,
    mode=MODES,
)
def test_two_roundings_move_a_pixel_by_less_than_one_level(
    bits: int, seed: int, source: tuple[int, int], wanted: tuple[int, int], mode: ResizeMode
) -> None:
    frame = random_frame(seed, *source, bits=bits)
    resized = resample(frame, height_px=wanted[0], width_px=wanted[1], mode=mode)
    error = np.abs(resized.astype(np.float64) - exactly_resized(frame, wanted, mode)).max()
    # A half at the end, and before that 1 / 256 where seven more bits are kept, or a half.
    assert error <= 0.5 + {8: 1 / 256, 16: 0.5}[bits]


@given(seed=st.integers(0, 999), source=SIZES, wanted=SIZES, mode=SMOOTH)
def test_mirrored_frame_gives_the_mirrored_result_within_one_level(
    seed: int, source: tuple[int, int], wanted: tuple[int, int], mode: ResizeMode
) -> None:
    frame = random_frame(seed, *source)
    height, width = wanted
    plain = resample(frame, height_px=height, width_px=width, mode=mode).astype(int)
    mirrored = resample(frame[::-1, ::-1], height_px=height, width_px=width, mode=mode)
    assert np.abs(plain[::-1, ::-1] - mirrored).max() <= 1


@given(seed=st.integers(0, 999), source=SIZES, wanted=SIZES)
def test_antialias_is_what_pillow_calls_bilinear_within_one_level(
    seed: int, source: tuple[int, int], wanted: tuple[int, int]
) -> None:
    frame = random_frame(seed, *source)
    ours = resample(frame, height_px=wanted[0], width_px=wanted[1], mode=ResizeMode.ANTIALIAS)
    theirs = Image.fromarray(frame).resize(wanted[::-1], Image.Resampling.BILINEAR)
    # Pillow rounds to whole levels between its passes, and so may be off by one itself.
    assert np.abs(ours.astype(int) - np.asarray(theirs, int)).max() <= 1


@given(seed=st.integers(0, 999), factors=st.tuples(st.integers(1, 5), st.integers(1, 5)))
def test_area_averages_whole_blocks_as_pillow_does(seed: int, factors: tuple[int, int]) -> None:
    frame = random_frame(seed, 6 * factors[0], 7 * factors[1])
    ours = resample(frame, height_px=6, width_px=7, mode=ResizeMode.AREA).astype(int)
    theirs = np.asarray(Image.fromarray(frame).reduce(factors[::-1]), int)
    assert np.abs(ours - theirs).max() <= 1


def test_colours_do_not_mix() -> None:
    frame = np.zeros((6, 6, 3), np.uint8)
    frame[..., 1] = 200
    resized = resample(frame, height_px=4, width_px=5, mode=ResizeMode.ANTIALIAS)
    assert resized.shape == (4, 5, 3)
    np.testing.assert_array_equal(resized[..., 1], np.full((4, 5), 200))
    np.testing.assert_array_equal(resized[..., [0, 2]], np.zeros((4, 5, 2)))


@given(seed=st.integers(0, 999), source=SIZES, wanted=SIZES, mode=MODES)
def test_three_channels_are_three_frames(
    seed: int, source: tuple[int, int], wanted: tuple[int, int], mode: ResizeMode
) -> None:
    frame = random_frame(seed, *source, 3)
    size = {"height_px": wanted[0], "width_px": wanted[1]}
    whole = resample(frame, mode=mode, **size)
    each = [resample(frame[..., c], mode=mode, **size) for c in range(3)]
    np.testing.assert_array_equal(whole, np.stack(each, axis=-1))


# Colour


def test_luma_is_pillows_to_the_last_level() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
    pixels[0] = [[i % 256] * 3 for i in range(300)]
    np.testing.assert_array_equal(luma(pixels), np.asarray(Image.fromarray(pixels).convert("L")))


def test_luma_of_16_bits_keeps_grays_and_the_brightest_white() -> None:
    grays = np.repeat(np.arange(65_536, dtype=np.uint16)[np.newaxis, :, np.newaxis], 3, axis=2)
    np.testing.assert_array_equal(luma(grays), grays[..., 0])


def test_ybr_becomes_what_pillow_makes_of_it_within_one_level() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
    theirs = Image.fromarray(pixels, "YCbCr").convert("RGB")
    error = np.abs(rgb_of_ybr(pixels, 8).astype(int) - np.asarray(theirs, int))
    assert error.max() <= 1


@pytest.mark.parametrize("bits", [8, 16])
def test_ybr_without_colour_is_gray(bits: int) -> None:
    pixels = np.full((1, 2**bits, 3), 1 << bits - 1, DEPTHS[bits])
    pixels[..., 0] = np.arange(2**bits)
    np.testing.assert_array_equal(rgb_of_ybr(pixels, bits), np.repeat(pixels[..., :1], 3, axis=2))


def test_ybr_is_clipped_at_both_ends() -> None:
    pixels = np.array([[[255, 255, 255], [0, 0, 0], [0, 255, 255], [255, 0, 0]]], np.uint8)
    # 1.402 * 127 = 178.05, 0.344136 * 127 + 0.714136 * 127 = 134.4, 1.772 * 127 = 225.04.
    assert rgb_of_ybr(pixels, 8).tolist() == [
        [[255, 121, 255], [0, 135, 0], [178, 0, 225], [76, 255, 28]]
    ]


REDDISH = [60, 112, 228]  # in YBR


@pytest.mark.parametrize(
    ("colour", "pixel", "gray", "colours"),
    [
        (Colour.GRAY, 90, 90, [90, 90, 90]),
        (Colour.RGB, [200, 100, 50], 124, [200, 100, 50]),
        (Colour.BGR, [50, 100, 200], 124, [200, 100, 50]),
        (Colour.YBR, REDDISH, 60, [200, 0, 32]),
        (Colour.PALETTE, 2, 124, [200, 100, 50]),
    ],
)
def test_each_colour_becomes_gray_or_three_channels_in_the_models_order(
    colour: Colour, pixel: int | list[int], gray: int, colours: list[int]
) -> None:
    palette = np.array([[0, 0, 0], [1, 1, 1], [200, 100, 50]], np.uint8)
    frame = Frame(
        pixels=np.array([[pixel]], np.uint8),
        palette=palette if colour is Colour.PALETTE else None,
    )
    source = image_source(colour=colour)
    assert fit_frame(frame, image_contract(1, 1, 1, source=source)).tolist() == [[gray]]
    three = image_contract(3, 1, 1, source=source)
    assert fit_frame(frame, three).tolist() == [[colours]]
    bgr = three.model_copy(update={"channel_order": ChannelOrder.BGR})
    assert fit_frame(frame, bgr).tolist() == [[colours[::-1]]]


def test_gray_frame_may_have_an_axis_for_its_one_channel() -> None:
    pixels = np.arange(6, dtype=np.uint8).reshape(2, 3)
    frame = Frame(pixels=pixels[..., np.newaxis])
    np.testing.assert_array_equal(fit_frame(frame, image_contract(1, 2, 3)), pixels)


# Orientation


@pytest.mark.parametrize("orientation", range(1, 9))
def test_frame_is_turned_as_pillow_turns_it(orientation: int) -> None:
    pixels = np.arange(6, dtype=np.uint8).reshape(2, 3)
    image = Image.fromarray(pixels)
    image.getexif()[0x0112] = orientation
    np.testing.assert_array_equal(
        turn(pixels, orientation), np.asarray(ImageOps.exif_transpose(image))
    )
    upright = turn(pixels, orientation)
    frame = Frame(pixels=pixels, orientation=orientation)
    fitted = fit_frame(frame, image_contract(1, *upright.shape))
    np.testing.assert_array_equal(fitted, upright)


def test_orientation_is_left_alone_where_the_contract_says_so() -> None:
    pixels = np.arange(6, dtype=np.uint8).reshape(2, 3)
    contract = image_contract(1, 2, 3, source=image_source(orientation=Orientation.IGNORE))
    frame = Frame(pixels=pixels, orientation=6)
    np.testing.assert_array_equal(fit_frame(frame, contract), pixels)


def test_crop_and_sector_are_places_of_the_upright_frame() -> None:
    pixels = np.arange(1, 7, dtype=np.uint8).reshape(2, 3)
    frame = Frame(pixels=pixels, orientation=6)  # upright: [[4, 1], [5, 2], [6, 3]]
    crop = BoxCrop(kind="box", left_px=1, top_px=0, width_px=1, height_px=3)
    assert fit_frame(frame, image_contract(1, 3, 1, crop=crop)).tolist() == [[1], [2], [3]]
    down = Sector(apex_px=(0, 0), left_deg=-1.0, right_deg=1.0, inner_px=0, outer_px=1)
    masked = fit_frame(frame, image_contract(1, 3, 2, sector=down))
    assert masked.tolist() == [[4, 0], [5, 0], [0, 0]]


# The probe's fan


def test_edges_of_a_sector_point_down_and_to_the_sides() -> None:
    assert edge(0.0) == (0, 16_384)
    assert edge(90.0) == (16_384, 0)
    assert edge(-90.0) == (-16_384, 0)
    assert edge(30.0) == (8_192, 14_189)


def test_edges_of_a_sector_belong_to_it() -> None:
    fan = Sector(apex_px=(2, 0), left_deg=-45.0, right_deg=45.0, inner_px=1, outer_px=3)
    shown = inside_sector(fan, 5, 5).astype(int).tolist()
    assert shown == [
        [0, 0, 0, 0, 0],
        [0, 1, 1, 1, 0],
        [1, 1, 1, 1, 1],
        [0, 0, 1, 0, 0],
        [0, 0, 0, 0, 0],
    ]


@given(
    apex=st.tuples(st.integers(-10, 40), st.integers(-10, 40)),
    angles=st.lists(st.floats(-90.0, 90.0), min_size=2, max_size=2, unique=True),
    reaches=st.lists(st.integers(0, 60), min_size=2, max_size=2, unique=True),
)
def test_sector_is_that_of_angles_and_distances_but_for_its_very_edges(
    apex: tuple[int, int], angles: list[float], reaches: list[int]
) -> None:
    (left, right), (inner, outer) = sorted(angles), sorted(reaches)
    assume(right - left > 0.01)
    fan = Sector(apex_px=apex, left_deg=left, right_deg=right, inner_px=inner, outer_px=outer)
    y, x = np.indices((30, 35), np.float64) - np.array([apex[1], apex[0]])[:, None, None]
    angle, distance = np.degrees(np.arctan2(x, y)), np.hypot(x, y)
    expected = (angle >= left) & (angle <= right) & (distance >= inner) & (distance <= outer)
    # Directions are in 1 / 16384, which is 0.004 degrees; at the apex there is no angle.
    clear = (np.abs(angle - left) > 0.01) & (np.abs(angle - right) > 0.01) & (distance > 0)
    np.testing.assert_array_equal(inside_sector(fan, 30, 35)[clear], expected[clear])


def test_what_is_outside_of_the_sector_is_black_in_every_channel() -> None:
    fan = Sector(apex_px=(0, 0), left_deg=-1.0, right_deg=1.0, inner_px=0, outer_px=1)
    pixels = np.full((2, 2, 3), 9, np.uint8)
    contract = image_contract(3, 2, 2, source=image_source(colour=Colour.RGB), sector=fan)
    fitted = fit_frame(Frame(pixels=pixels), contract)
    assert fitted.tolist() == [[[9] * 3, [0] * 3], [[9] * 3, [0] * 3]]


# Crops and fits


def cut(contract: Contract, height_px: int, width_px: int) -> tuple[int, int, int, int]:
    found = region(contract, height_px, width_px)
    return found.left_px, found.top_px, found.width_px, found.height_px


def test_without_a_crop_the_whole_frame_is_used() -> None:
    assert cut(image_contract(1, 8, 8), 30, 40) == (0, 0, 40, 30)


def test_box_is_cut_where_it_is() -> None:
    box = BoxCrop(kind="box", left_px=3, top_px=4, width_px=5, height_px=6)
    assert cut(image_contract(1, 6, 5, crop=box), 30, 40) == (3, 4, 5, 6)
    pixels = random_frame(1, 30, 40)
    fitted = fit_frame(Frame(pixels=pixels), image_contract(1, 6, 5, crop=box))
    np.testing.assert_array_equal(fitted, pixels[4:10, 3:8])


@pytest.mark.parametrize(
    ("shape", "aspect", "keep", "frame", "expected"),
    [
        ((8, 8), (1, 1), 1.0, (100, 200), (50, 0, 100, 100)),
        ((8, 8), (1, 1), 1.0, (200, 101), (0, 49, 101, 101)),
        ((8, 16), (1, 1), 1.0, (100, 100), (0, 25, 100, 50)),
        ((224, 224), (1, 1), 0.875, (256, 256), (16, 16, 224, 224)),
        ((8, 8), (2, 1), 1.0, (100, 100), (0, 25, 100, 50)),
        ((8, 8), (1, 2), 1.0, (100, 100), (25, 0, 50, 100)),
        ((1, 2_000), (1, 1), 1.0, (7, 3), (0, 3, 3, 1)),
        ((8, 8), (10_000, 1), 0.01, (1, 40), (19, 0, 1, 1)),
    ],
)
def test_centre_crop_has_the_proportions_of_the_tensor(
    shape: tuple[int, int],
    aspect: tuple[int, int],
    keep: float,
    frame: tuple[int, int],
    expected: tuple[int, int, int, int],
) -> None:
    crop = CentreCrop(kind="centre", keep_ratio=keep)
    source = image_source(pixel_aspect=aspect)
    assert cut(image_contract(1, *shape, source=source, crop=crop), *frame) == expected


@given(shape=SIZES, aspect=SIZES, frame=st.tuples(st.integers(1, 16_384), st.integers(1, 16_384)))
def test_centre_crop_is_as_large_as_it_can_be_and_in_the_middle(
    shape: tuple[int, int], aspect: tuple[int, int], frame: tuple[int, int]
) -> None:
    source = image_source(pixel_aspect=aspect)
    contract = image_contract(1, *shape, source=source, crop=CentreCrop(kind="centre"))
    left, top, width, height = cut(contract, *frame)
    assert width == frame[1] or height == frame[0]
    assert 0 <= frame[1] - width - 2 * left <= 1
    assert 0 <= frame[0] - height - 2 * top <= 1
    # Within half a pixel of the tensor's proportions, along the side that was cut.
    tall, wide = Fraction(aspect[0] * shape[1]), Fraction(aspect[1] * shape[0])
    if height < frame[0]:
        assert abs(max(Fraction(1), width * wide / tall) - height) <= Fraction(1, 2)
    if width < frame[1]:
        assert abs(max(Fraction(1), height * tall / wide) - width) <= Fraction(1, 2)


def place(contract: Contract, height_px: int, width_px: int) -> tuple[int, int, int, int]:
    cut_part = Region(left_px=0, top_px=0, width_px=width_px, height_px=height_px)
    found = content(contract, cut_part)
    return found.left_px, found.top_px, found.width_px, found.height_px


@pytest.mark.parametrize(
    ("fit", "aspect", "cut_part", "expected"),
    [
        (Fit.STRETCH, (1, 1), (10, 100), (0, 0, 9, 7)),
        (Fit.PAD, (1, 1), (70, 90), (0, 0, 9, 7)),
        (Fit.PAD, (1, 1), (70, 30), (3, 0, 3, 7)),
        (Fit.PAD, (1, 1), (30, 90), (0, 2, 9, 3)),
        (Fit.PAD, (2, 1), (30, 90), (0, 0, 9, 6)),
        (Fit.PAD, (1, 1), (1, 900), (0, 3, 9, 1)),
        (Fit.PAD, (1, 1), (900, 1), (4, 0, 1, 7)),
    ],
)
def test_content_fills_the_tensor_or_keeps_its_proportions(
    fit: Fit,
    aspect: tuple[int, int],
    cut_part: tuple[int, int],
    expected: tuple[int, int, int, int],
) -> None:
    source = image_source(pixel_aspect=aspect)
    resize = Resize(mode=ResizeMode.AREA, fit=fit)
    contract = image_contract(1, 7, 9, source=source, resize=resize)
    assert place(contract, *cut_part) == expected


def test_padded_frame_lies_in_the_middle_of_the_fill_value() -> None:
    resize = Resize(mode=ResizeMode.NEAREST, fit=Fit.PAD, fill=7)
    fitted = fit_frame(
        Frame(pixels=np.array([[1, 2]], np.uint8)), image_contract(1, 4, 2, resize=resize)
    )
    assert fitted.tolist() == [[7, 7], [1, 2], [7, 7], [7, 7]]


@settings(max_examples=50)
@given(seed=st.integers(0, 999), source=SIZES, wanted=SIZES, mode=MODES)
def test_only_what_is_cut_takes_part_in_the_resize(
    seed: int, source: tuple[int, int], wanted: tuple[int, int], mode: ResizeMode
) -> None:
    inner = random_frame(seed, *source)
    outer = np.pad(inner, ((2, 3), (1, 4)), constant_values=99)
    box = BoxCrop(kind="box", left_px=1, top_px=2, width_px=source[1], height_px=source[0])
    contract = image_contract(1, *wanted, crop=box, resize=Resize(mode=mode))
    expected = resample(inner, height_px=wanted[0], width_px=wanted[1], mode=mode)
    np.testing.assert_array_equal(fit_frame(Frame(pixels=outer), contract), expected)


# Bytes


@given(
    bits=st.sampled_from((8, 16)),
    colour=st.sampled_from(Colour),
    seed=st.integers(0, 999),
    size=SIZES,
)
def test_bytes_are_read_row_after_row_in_little_endian(
    bits: int, colour: Colour, seed: int, size: tuple[int, int]
) -> None:
    channels = colour.channels
    pixels = random_frame(seed, *size, channels, bits=bits)
    palette = random_frame(seed, 2**bits if colour is Colour.PALETTE else 0, 3, bits=bits)
    little = f"<u{bits // 8}"
    frame = frame_of_bytes(
        pixels.astype(little).tobytes(),
        (*size, channels),
        image_contract(1, *size, source=image_source(colour=colour, bits=bits)),
        bits=bits,
        palette=palette.astype(little).tobytes(),
    )
    np.testing.assert_array_equal(frame.pixels, pixels if channels > 1 else pixels[..., 0])
    assert (frame.palette is None) == (colour is not Colour.PALETTE)
    if frame.palette is not None:
        np.testing.assert_array_equal(frame.palette, palette)


# Faults

GRAY = image_contract(1, 4, 6)
RESIZED = image_contract(1, 4, 6, resize=Resize(mode=ResizeMode.AREA))
COLOURS = image_contract(3, 4, 6, source=image_source(colour=Colour.RGB))
BY_PALETTE = image_contract(3, 4, 6, source=image_source(colour=Colour.PALETTE))
FIXED = image_contract(1, 4, 6, source=image_source(size_px=(6, 4)))
BOX = BoxCrop(kind="box", left_px=2, top_px=1, width_px=6, height_px=4)
CUT = image_contract(1, 4, 6, crop=BOX)

PLAIN = np.zeros((4, 6), np.uint8)
TWO_COLOURS = np.zeros((2, 3), np.uint8)
REMEDY = "Give frames of that size, or add [contract.resize]."

FRAME_FAULTS = [
    (
        Frame(pixels=PLAIN.astype(np.uint16)),
        GRAY,
        "wrong-bit-depth",
        "pixels have 16 bits, the contract says 8 bits.",
    ),
    (
        Frame(pixels=PLAIN.astype(np.float32)),
        GRAY,
        "wrong-bit-depth",
        "pixels have no unsigned whole numbers, the contract says 8 bits.",
    ),
    (
        Frame(pixels=PLAIN.astype(np.int8)),
        GRAY,
        "wrong-bit-depth",
        "pixels have no unsigned whole numbers, the contract says 8 bits.",
    ),
    (
        Frame(pixels=np.zeros(6, np.uint8)),
        GRAY,
        "wrong-channels",
        "the frame has shape (6,), not (height, width) or with channels.",
    ),
    (
        Frame(pixels=np.zeros((4, 6, 3), np.uint8)),
        GRAY,
        "wrong-channels",
        "the frame has 3 values a pixel, gray has 1.",
    ),
    (
        Frame(pixels=PLAIN),
        COLOURS,
        "wrong-channels",
        "the frame has 1 values a pixel, rgb has 3.",
    ),
    (
        Frame(pixels=np.zeros((0, 6), np.uint8)),
        RESIZED,
        "wrong-size",
        "the frame is 0 by 6 pixels; sides go from 1 to 16384.",
    ),
    (
        Frame(pixels=np.zeros((1, 16_385), np.uint8)),
        RESIZED,
        "wrong-size",
        "the frame is 1 by 16385 pixels; sides go from 1 to 16384.",
    ),
    (
        Frame(pixels=PLAIN, orientation=6),
        FIXED,
        "wrong-size",
        "the frame is 4 by 6 pixels, the contract says 6 by 4.",
    ),
    (
        Frame(pixels=np.zeros((6, 4), np.uint8)),
        GRAY,
        "wrong-size",
        f"the frame is 6 by 4 pixels, the contract wants 4 by 6. {REMEDY}",
    ),
    (
        Frame(pixels=PLAIN, orientation=5),
        GRAY,
        "wrong-size",
        f"the frame is 4 by 6 pixels, the contract wants 4 by 6. {REMEDY}",
    ),
    (
        Frame(pixels=np.zeros((5, 7), np.uint8)),
        CUT,
        "wrong-size",
        "the frame is 5 by 7 pixels; the contract's crop reaches to 5 by 8.",
    ),
    (
        Frame(pixels=np.zeros((4, 8), np.uint8)),
        CUT,
        "wrong-size",
        "the frame is 4 by 8 pixels; the contract's crop reaches to 5 by 8.",
    ),
    (
        Frame(pixels=PLAIN, orientation=0),
        GRAY,
        "wrong-orientation",
        "the EXIF orientation is 0; it goes from 1 to 8.",
    ),
    (
        Frame(pixels=PLAIN, orientation=9),
        GRAY,
        "wrong-orientation",
        "the EXIF orientation is 9; it goes from 1 to 8.",
    ),
    (
        Frame(pixels=PLAIN),
        BY_PALETTE,
        "wrong-palette",
        "the frame has no palette. The contract's colour is palette.",
    ),
    (
        Frame(pixels=PLAIN, palette=TWO_COLOURS),
        GRAY,
        "wrong-palette",
        "the frame has a palette. The contract's colour is gray.",
    ),
    (
        Frame(pixels=PLAIN, palette=TWO_COLOURS.astype(np.uint16)),
        BY_PALETTE,
        "wrong-palette",
        "the palette is uint16 of shape (2, 3). It should be uint8 of shape (entries, 3).",
    ),
    (
        Frame(pixels=PLAIN, palette=np.zeros((2, 4), np.uint8)),
        BY_PALETTE,
        "wrong-palette",
        "the palette is uint8 of shape (2, 4). It should be uint8 of shape (entries, 3).",
    ),
    (
        Frame(pixels=PLAIN + np.uint8(2), palette=TWO_COLOURS),
        BY_PALETTE,
        "wrong-palette",
        "a pixel is 2, and the palette has 2 entries.",
    ),
]


@pytest.mark.parametrize(("frame", "contract", "fault", "problem"), FRAME_FAULTS)
def test_frame_of_another_kind_is_refused(
    frame: Frame, contract: Contract, fault: str, problem: str
) -> None:
    with pytest.raises(FrameError) as caught:
        fit_frame(frame, contract)
    assert fault_and_problem(caught) == (fault, problem)


def test_frame_that_only_just_fits_is_taken() -> None:
    assert fit_frame(Frame(pixels=np.zeros((5, 8), np.uint8)), CUT).shape == (4, 6)
    turned = Frame(pixels=np.zeros((8, 5), np.uint8), orientation=6)
    assert fit_frame(turned, CUT).shape == (4, 6)
    upright = Frame(pixels=np.zeros((6, 4), np.uint8), orientation=6)
    assert fit_frame(upright, FIXED).shape == (4, 6)
    last = Frame(pixels=PLAIN + np.uint8(1), palette=TWO_COLOURS)
    assert fit_frame(last, BY_PALETTE).shape == (4, 6, 3)
    longest = Frame(pixels=np.zeros((1, 16_384), np.uint8))
    assert fit_frame(longest, RESIZED).shape == (4, 6)


@pytest.mark.parametrize(
    ("size", "palette", "problem"),
    [
        (23, 0, "the frame has 23 bytes and should have 24."),
        (25, 0, "the frame has 25 bytes and should have 24."),
        (0, 0, "the frame has 0 bytes and should have 24."),
        (24, 4, "the frame has 24 bytes and should have 24."),
    ],
)
def test_frame_with_bytes_missing_or_left_over_is_refused(
    size: int, palette: int, problem: str
) -> None:
    with pytest.raises(FrameError) as caught:
        frame_of_bytes(bytes(size), (4, 6, 1), GRAY, palette=bytes(palette))
    assert fault_and_problem(caught) == ("truncated", problem)


def test_first_of_several_faults_is_the_one_that_comes_first_in_the_list() -> None:
    """Mend one fault after the other: each time, the next one in the list is reported."""
    source = image_source(colour=Colour.PALETTE)
    contract = image_contract(1, 4, 6, source=source)
    given_ = {"bits": 16, "channels": 3, "height": 5, "size": 9, "orientation": 0, "palette": 0}
    found = []
    for mended in ({}, {"bits": 8}, {"channels": 1}, {"height": 4}, {"size": 24},
                   {"orientation": 1}, {"palette": 3}):  # fmt: skip
        given_ |= mended
        try:
            frame_of_bytes(
                bytes(given_["size"]),
                (given_["height"], 6, given_["channels"]),
                contract,
                orientation=given_["orientation"],
                bits=given_["bits"],
                palette=bytes(given_["palette"]),
            )
            found.append("taken")
        except FrameError as error:
            found.append(error.fault.value)
    assert found == [
        "wrong-bit-depth",
        "wrong-channels",
        "wrong-size",
        "truncated",
        "wrong-orientation",
        "wrong-palette",
        "taken",
    ]


def test_frame_is_not_changed_by_being_fitted() -> None:
    pixels = random_frame(3, 9, 9, 3)
    frame = Frame(pixels=pixels.copy(), orientation=3)
    fan = Sector(apex_px=(4, 0), left_deg=-9.0, right_deg=9.0, inner_px=1, outer_px=5)
    contract = image_contract(3, 9, 9, source=image_source(colour=Colour.BGR), sector=fan)
    fit_frame(frame, contract)
    np.testing.assert_array_equal(frame.pixels, pixels)
