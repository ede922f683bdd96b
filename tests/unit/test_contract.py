"""A frame becomes a tensor, and a tensor an answer, in one way only."""

import io
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from PIL import Image

from packager.artifacts import Layout, Precision, TensorIo
from packager.contract import (
    Activation,
    Contract,
    decisions,
    decode_image,
    dequantise,
    prepare,
    probabilities,
    quantise,
    resize,
    to_device,
)
from packager.errors import DataError


def contract(*input_shape: int, activation: Activation = Activation.SOFTMAX) -> Contract:
    channels = input_shape[0]
    return Contract(
        input_shape=input_shape,
        full_scale=255.0,
        mean=(0.5, 0.25, 0.75)[:channels],
        std=(0.5, 0.25, 0.125)[:channels],
        activation=activation,
        labels=("cyst", "solid"),
    )


def int8(scale: float, zero_point: int, *shape: int) -> TensorIo:
    return TensorIo(
        shape=shape,
        layout=Layout.CHANNELS_FIRST,
        dtype=Precision.INT8,
        scale=scale,
        zero_point=zero_point,
    )


def float32(layout: Layout, *shape: int) -> TensorIo:
    return TensorIo(shape=shape, layout=layout, dtype=Precision.FLOAT32)


# Outputs


def test_softmax_has_one_output_a_label_and_sigmoid_one_in_all() -> None:
    assert contract(1, 8, 8).outputs == 2
    assert contract(1, 8, 8, activation=Activation.SIGMOID).outputs == 1


def test_softmax_of_huge_logits_is_finite_and_sums_to_one() -> None:
    logits = np.array([[1e4, 1e4 - math.log(3.0)], [-1e4, 1e4]], np.float32)
    # float32 holds 1e4 to 1e-3 only, and the exponent takes that over.
    expected = [[0.75, 0.25], [0.0, 1.0]]
    np.testing.assert_allclose(probabilities(logits, Activation.SOFTMAX), expected, atol=1e-3)


def test_sigmoid_gives_the_negative_label_first() -> None:
    logits = np.array([[math.log(3.0)], [0.0]], np.float32)
    expected = [[0.25, 0.75], [0.5, 0.5]]
    np.testing.assert_allclose(probabilities(logits, Activation.SIGMOID), expected, atol=1e-7)


def test_decision_is_the_most_probable_label() -> None:
    softmax = np.array([[0.1, 0.2], [3.0, -3.0], [1.0, 1.0]], np.float32)
    assert decisions(softmax, Activation.SOFTMAX).tolist() == [1, 0, 0]
    sigmoid = np.array([[0.1], [-0.1], [0.0]], np.float32)
    assert decisions(sigmoid, Activation.SIGMOID).tolist() == [1, 0, 0]


# From frame to tensor


def test_gray_frames_get_a_channel_and_the_scale_of_the_contract() -> None:
    frames = np.array([[[0, 255], [51, 102]]], np.uint8)
    batch = prepare(frames, contract(1, 2, 2))
    assert batch.dtype == np.float32
    # 51 and 102 are 0.2 and 0.4 of full scale, but for the last digit of float32.
    np.testing.assert_allclose(batch, [[[[-1.0, 1.0], [-0.6, -0.2]]]], atol=1e-6)


def test_gray_frames_with_a_channel_axis_are_the_same_frames() -> None:
    frames = np.arange(32, dtype=np.uint8).reshape(2, 4, 4)
    with_axis = prepare(frames[..., np.newaxis], contract(1, 4, 4))
    np.testing.assert_array_equal(with_axis, prepare(frames, contract(1, 4, 4)))


def test_colours_move_to_the_front_and_each_is_normalised_by_itself() -> None:
    frames = np.zeros((1, 2, 3, 3), np.uint8)
    frames[0, 1, 2] = 255
    batch = prepare(frames, contract(3, 2, 3))
    assert batch.shape == (1, 3, 2, 3)
    assert batch.flags.c_contiguous
    assert batch[0, :, 0, 0].tolist() == [-1.0, -1.0, -6.0]
    assert batch[0, :, 1, 2].tolist() == [1.0, 3.0, 2.0]


def test_signals_come_with_or_without_a_channel_axis() -> None:
    signals = np.linspace(-255, 255, 10, dtype=np.float32).reshape(2, 5)
    plain = prepare(signals, contract(1, 5))
    assert plain.shape == (2, 1, 5)
    np.testing.assert_array_equal(plain, prepare(signals[:, np.newaxis], contract(1, 5)))
    two_leads = np.zeros((4, 2, 5), np.float32)
    assert prepare(two_leads, contract(2, 5)).shape == (4, 2, 5)


def test_frames_of_another_size_are_refused_with_both_shapes() -> None:
    with pytest.raises(DataError) as caught:
        prepare(np.zeros((1, 8, 9), np.uint8), contract(1, 9, 8))
    assert str(caught.value) == (
        "frames: each sample is (1, 8, 9), the contract says (1, 9, 8) "
        "(contract.input_shape, channels first)."
    )


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_broken_numbers_are_refused_with_their_sample(broken: float) -> None:
    signals = np.zeros((3, 5), np.float32)
    signals[2, 4] = broken
    with pytest.raises(DataError) as caught:
        prepare(signals, contract(1, 5))
    assert str(caught.value) == "frames: sample 2 holds NaN or infinity. Remove or repair it."


# From tensor to device


def test_channels_go_last_where_the_program_wants_them_there() -> None:
    batch = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)
    moved = to_device(batch, float32(Layout.CHANNELS_LAST, 1, 3, 4, 2))
    assert moved.shape == (1, 3, 4, 2)
    assert moved.flags.c_contiguous
    np.testing.assert_array_equal(moved[0, :, :, 1], batch[0, 1])
    np.testing.assert_array_equal(
        to_device(batch, float32(Layout.CHANNELS_FIRST, 1, 2, 3, 4)), batch
    )


HALVES = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5], np.float32)
AWAY_FROM_ZERO = [-3, -2, -1, 1, 2, 3]


def test_halves_are_rounded_away_from_zero() -> None:
    assert quantise(HALVES, int8(1.0, 0, 6)).tolist() == AWAY_FROM_ZERO


def test_rounding_of_numpy_would_fail_the_test_of_halves() -> None:
    assert np.rint(HALVES).astype(np.int8).tolist() == [-2, -2, 0, 0, 2, 2]
    assert np.rint(HALVES).astype(np.int8).tolist() != AWAY_FROM_ZERO


def test_halves_are_rounded_before_the_zero_point_is_added() -> None:
    # In C: roundf(value / scale) + zero_point. The other order gives 4 for -0.5 + 5.
    assert quantise(np.array([-0.5], np.float32), int8(1.0, 5, 1)).tolist() == [4]
    assert quantise(np.array([-1.5], np.float32), int8(1.0, 5, 1)).tolist() == [3]


def test_values_beyond_the_range_are_clipped() -> None:
    values = np.array([-1e9, -128.4, 127.4, 1e9], np.float32)
    stored = quantise(values, int8(1.0, 0, 4))
    assert stored.dtype == np.int8
    assert stored.tolist() == [-128, -128, 127, 127]


def test_float_programs_get_the_values_themselves() -> None:
    values = np.array([0.1, -2.7], np.float32)
    io_ = float32(Layout.CHANNELS_FIRST, 2)
    np.testing.assert_array_equal(quantise(values, io_), values)
    np.testing.assert_array_equal(dequantise(values, io_), values)


SCALES = st.floats(2**-12, 4.0, width=32)
ZERO_POINTS = st.integers(-128, 127)


@given(scale=SCALES, zero_point=ZERO_POINTS)
def test_every_stored_value_survives_the_way_out_and_back(scale: float, zero_point: int) -> None:
    stored = np.arange(-128, 128, dtype=np.int8)
    io_ = int8(scale, zero_point, 256)
    np.testing.assert_array_equal(quantise(dequantise(stored, io_), io_), stored)


@given(
    scale=SCALES,
    zero_point=ZERO_POINTS,
    share=arrays.arrays(np.float32, 20, elements=st.floats(0.0, 1.0, width=32)),
)
def test_values_within_range_come_back_within_half_a_step(
    scale: float, zero_point: int, share: NDArray[np.float32]
) -> None:
    io_ = int8(scale, zero_point, 20)
    lowest, highest = dequantise(np.array([-128, 127], np.int8), io_)
    values = np.clip(lowest + share * (highest - lowest), lowest, highest)
    error = np.abs(dequantise(quantise(values, io_), io_) - values)
    # float32 arithmetic adds a few units in the last place of the largest value.
    assert error.max() <= 0.5 * scale * (1 + 1e-4)


# Resizing


@given(
    value=st.integers(0, 255),
    source=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    wanted=st.tuples(st.integers(1, 40), st.integers(1, 40)),
)
def test_constant_frame_stays_constant(
    value: int, source: tuple[int, int], wanted: tuple[int, int]
) -> None:
    frame = np.full(source, value, np.uint8)
    resized = resize(frame, height_px=wanted[0], width_px=wanted[1])
    np.testing.assert_array_equal(resized, np.full(wanted, value, np.uint8))


@given(arrays.arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_frame_of_the_right_size_is_left_alone(frame: NDArray[np.uint8]) -> None:
    height, width = frame.shape
    np.testing.assert_array_equal(resize(frame, height_px=height, width_px=width), frame)


def test_shrinking_averages_and_does_not_pick_pixels() -> None:
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, ::8] = 240
    shrunk = resize(stripes, height_px=8, width_px=8)
    # One column in eight is 240, hence 30 on average; picking pixels, or blending the two
    # nearest, would miss every stripe. The border weighs its own pixels differently.
    assert shrunk[:, 1:-1].tolist() == [[30] * 6] * 8


@given(arrays.arrays(np.uint8, (24, 24)))
def test_shrinking_keeps_the_mean_roughly(frame: NDArray[np.uint8]) -> None:
    # Pixels at the border weigh up to 9/8 and those next to them less, in each direction,
    # so a frame of extremes may move by a sixteenth of full scale; rounding adds a half.
    shrunk = resize(frame, height_px=8, width_px=8)
    assert abs(float(shrunk.mean()) - float(frame.mean())) <= 255 / 8 + 0.5


def test_enlarging_draws_a_straight_line_between_pixel_centres() -> None:
    frame = np.array([[0, 100]], np.uint8)
    assert resize(frame, height_px=1, width_px=4).tolist() == [[0, 25, 75, 100]]


def test_result_is_rounded_half_up() -> None:
    frame = np.array([[0, 1]], np.uint8)
    assert resize(frame, height_px=1, width_px=1).tolist() == [[1]]


def test_colours_do_not_mix() -> None:
    frame = np.zeros((6, 6, 3), np.uint8)
    frame[..., 1] = 200
    resized = resize(frame, height_px=4, width_px=5)
    assert resized.shape == (4, 5, 3)
    np.testing.assert_array_equal(resized[..., 1], np.full((4, 5), 200))
    np.testing.assert_array_equal(resized[..., [0, 2]], np.zeros((4, 5, 2)))


# Image files


def png(path: Path, pixels: NDArray[np.generic]) -> Path:
    Image.fromarray(pixels).save(path)
    return path


def test_gray_image_is_read_as_it_is(tmp_path: Path) -> None:
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    frame = decode_image(png(tmp_path / "a.png", pixels), contract(1, 3, 4))
    np.testing.assert_array_equal(frame, pixels)


def test_colour_becomes_gray_by_luma_where_the_contract_has_one_channel(tmp_path: Path) -> None:
    colours = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    path = png(tmp_path / "a.png", colours)
    # ITU-R 601: 0.299, 0.587, 0.114 of 255.
    assert decode_image(path, contract(1, 1, 3)).tolist() == [[76, 150, 29]]
    np.testing.assert_array_equal(decode_image(path, contract(3, 1, 3)), colours)


def test_gray_becomes_three_equal_colours_where_the_contract_has_three(tmp_path: Path) -> None:
    path = png(tmp_path / "a.png", np.array([[7, 9]], np.uint8))
    assert decode_image(path, contract(3, 1, 2)).tolist() == [[[7, 7, 7], [9, 9, 9]]]


def test_turn_that_a_camera_noted_is_applied(tmp_path: Path) -> None:
    pixels = np.array([[10, 20, 30], [40, 50, 60]], np.uint8)
    turned = Image.Exif()
    turned[0x0112] = 6  # show it a quarter clockwise
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=turned)
    frame = decode_image(tmp_path / "turned.png", contract(1, 3, 2))
    np.testing.assert_array_equal(frame, np.rot90(pixels, -1))
    untouched = decode_image(png(tmp_path / "plain.png", pixels), contract(1, 2, 3))
    np.testing.assert_array_equal(untouched, pixels)


def test_image_is_resized_to_the_contract(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30), np.uint8)
    frame = decode_image(png(tmp_path / "a.png", pixels), contract(1, 8, 8))
    np.testing.assert_array_equal(frame, resize(pixels, height_px=8, width_px=8))


def test_gray_image_of_16_bits_is_refused(tmp_path: Path) -> None:
    path = png(tmp_path / "deep.png", np.full((4, 4), 1000, np.uint16))
    with pytest.raises(DataError) as caught:
        decode_image(path, contract(1, 4, 4))
    assert str(caught.value) == f"{path}: pixels are I;16B; only 8-bit images are read."


def test_colour_image_of_16_bits_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "deep.png"
    path.write_bytes(colour_png_of_16_bits())
    with Image.open(path) as image:
        # Why the mode alone is not enough: Pillow calls it 8-bit and drops the low bytes.
        assert image.mode == "RGB"
    with pytest.raises(DataError) as caught:
        decode_image(path, contract(3, 1, 1))
    assert str(caught.value) == f"{path}: pixels are RGB;16B; only 8-bit images are read."


def colour_png_of_16_bits() -> bytes:
    """Return one pixel of a depth that Pillow cannot write itself."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    row = b"\0" + struct.pack(">3H", 300, 300, 300)
    chunks = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(row)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "BMP"])
def test_truncated_image_is_refused(tmp_path: Path, format_: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32), np.uint8)
    whole = io.BytesIO()
    Image.fromarray(pixels).save(whole, format_)
    path = tmp_path / "cut"
    path.write_bytes(whole.getvalue())
    assert decode_image(path, contract(1, 32, 32)).shape == (32, 32)
    path.write_bytes(whole.getvalue()[: len(whole.getvalue()) * 2 // 3])
    with pytest.raises(DataError, match=f"^{path}: is not a readable image: .*truncated"):
        decode_image(path, contract(1, 32, 32))


def test_file_that_is_no_image_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.png"
    path.write_text("not an image")
    with pytest.raises(DataError, match=f"^{path}: is not a readable image: cannot identify"):
        decode_image(path, contract(1, 4, 4))


def test_damaged_image_is_decoded_or_refused_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "damaged.png"
    rng = np.random.default_rng(1)
    whole = png(path, rng.integers(0, 256, (5, 6, 3), np.uint8)).read_bytes()
    outcomes: set[object] = set()
    for _ in range(500):
        content = bytearray(whole)
        for place in rng.integers(len(content), size=2):
            content[place] = rng.integers(256)
        path.write_bytes(content)
        try:
            outcomes.add(decode_image(path, contract(1, 4, 4)).shape)
        except DataError:
            outcomes.add("refused")
    assert outcomes == {(4, 4), "refused"}


def test_header_that_pillow_calls_a_wrong_value_is_refused(tmp_path: Path) -> None:
    path = png(tmp_path / "short.png", np.zeros((2, 2), np.uint8))
    content = bytearray(path.read_bytes())
    content[8:12] = struct.pack(">I", 5)  # an IHDR of 5 bytes
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"^{path}: is not a readable image: Truncated IHDR"):
        decode_image(path, contract(1, 2, 2))
