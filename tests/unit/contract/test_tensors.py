"""Fitted pixels and samples become the program's input by divisions and a subtraction."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from packager.artifacts import Layout
from packager.contract import Contract
from packager.contract.spec import Standardise
from packager.contract.tensors import dequantise, full_scale, normalise, quantise, to_device
from packager.errors import DataError, FrameError
from tests.unit.contract.examples import (
    fault_and_problem,
    float32,
    image_contract,
    int8,
    signal_contract,
    signal_steps,
)

# From pixels to real numbers


def test_gray_frames_get_a_channel_and_the_scale_of_the_contract() -> None:
    frames = np.array([[[0, 255], [51, 102]]], np.uint8)
    batch = normalise(frames, image_contract(1, 2, 2))
    assert batch.dtype == np.float32
    # 51 and 102 are 0.2 and 0.4 of full scale, but for the last digit of float32.
    np.testing.assert_allclose(batch, [[[[-1.0, 1.0], [-0.6, -0.2]]]], atol=1e-6)


@given(
    pixel=st.integers(0, 65_535),
    scale=st.floats(1e-6, 1e9),
    mean=st.floats(-1e6, 1e6),
    std=st.floats(1e-6, 1e6),
)
def test_each_of_three_steps_is_rounded_to_float32(
    pixel: int, scale: float, mean: float, std: float
) -> None:
    contract = image_contract(1, 1, 1, full_scale=scale, mean=(mean,), std=(std,))
    # Each operand is a float32, which float64 divides and subtracts exactly enough to round
    # to float32 only once (53 bits are more than twice 24, and two).
    f32 = np.float32
    scaled = f32(float(f32(pixel)) / float(f32(scale)))
    centred = f32(float(scaled) - float(f32(mean)))
    expected = f32(float(centred) / float(f32(std)))
    assert normalise(np.array([[[pixel]]], np.uint16), contract).tolist() == [[[[expected]]]]


def test_gray_frames_with_a_channel_axis_are_the_same_frames() -> None:
    frames = np.arange(32, dtype=np.uint8).reshape(2, 4, 4)
    contract = image_contract(1, 4, 4)
    with_axis = normalise(frames[..., np.newaxis], contract)
    np.testing.assert_array_equal(with_axis, normalise(frames, contract))


def test_colours_move_to_the_front_and_each_is_normalised_by_itself() -> None:
    frames = np.zeros((1, 2, 3, 3), np.uint8)
    frames[0, 1, 2] = 255
    batch = normalise(frames, image_contract(3, 2, 3))
    assert batch.shape == (1, 3, 2, 3)
    assert batch.flags.c_contiguous
    assert batch[0, :, 0, 0].tolist() == [-1.0, -1.0, -6.0]
    assert batch[0, :, 1, 2].tolist() == [1.0, 3.0, 2.0]


def test_signals_come_with_or_without_a_channel_axis() -> None:
    signals = np.linspace(-255, 255, 10, dtype=np.float32).reshape(2, 5)
    plain = normalise(signals, signal_contract(1, 5))
    assert plain.shape == (2, 1, 5)
    np.testing.assert_array_equal(plain, normalise(signals[:, np.newaxis], signal_contract(1, 5)))
    two_leads = np.arange(40, dtype=np.float32).reshape(4, 2, 5)
    contract = signal_contract(2, 5, mean=(0.0, 5.0))
    np.testing.assert_array_equal(
        normalise(two_leads, contract), two_leads - np.array([[[0.0], [5.0]]])
    )


def test_full_scale_of_whole_steps_is_in_steps() -> None:
    assert full_scale(signal_contract(1, 2, full_scale=2.0)) == 2.0
    contract = signal_contract(1, 2, full_scale=2.0, signal=signal_steps(resolution=0.005))
    assert full_scale(contract) == np.float32(2.0 / 0.005)
    assert normalise(np.array([[200, -400]], np.int32), contract).tolist() == [[[0.5, -1.0]]]


def test_window_is_standardised_by_itself_where_the_contract_says_so() -> None:
    contract = signal_contract(
        1, 4, mean=(99.0,), signal=signal_steps(standardise=Standardise.WINDOW)
    )
    windows = np.array([[0, 2, 0, 2], [7, 7, 7, 9]], np.int32)
    batch = normalise(windows, contract)
    assert batch.shape == (2, 1, 4)
    assert batch[0, 0].tolist() == [-1.0, 1.0, -1.0, 1.0]
    with pytest.raises(FrameError) as caught:
        normalise(np.array([[0, 2, 0, 2], [7, 7, 7, 7]], np.int32), contract)
    problem = "a lead does not vary. Is its electrode loose?"
    assert fault_and_problem(caught) == ("flat-signal", problem)


@pytest.mark.parametrize(
    ("frames", "contract", "shape", "wanted"),
    [
        (np.zeros((1, 8, 9), np.uint8), image_contract(1, 9, 8), (1, 8, 9), (1, 9, 8)),
        (np.zeros((1, 4, 4, 3), np.uint8), image_contract(1, 4, 4), (3, 4, 4), (1, 4, 4)),
        (np.zeros((2, 3, 5), np.float32), signal_contract(2, 5), (3, 5), (2, 5)),
    ],
)
def test_samples_of_another_shape_are_refused_with_both_shapes(
    frames: NDArray[np.generic],
    contract: Contract,
    shape: tuple[int, ...],
    wanted: tuple[int, ...],
) -> None:
    with pytest.raises(DataError) as caught:
        normalise(frames, contract)
    assert str(caught.value) == (
        f"frames: each sample is {shape}, the contract says {wanted} "
        "(contract.input_shape, channels first)."
    )


BROKEN = "sample 2 holds NaN or infinity. Remove or repair it."
TOO_LARGE = "sample 2 is too large for float32 once it is normalised."


@pytest.mark.parametrize(
    ("broken", "fault", "problem"),
    [
        (math.nan, "not-finite", BROKEN),
        (math.inf, "not-finite", BROKEN),
        (-math.inf, "not-finite", BROKEN),
        (3e38, "out-of-range", TOO_LARGE),
    ],
)
def test_broken_numbers_are_refused_with_their_sample(
    broken: float, fault: str, problem: str
) -> None:
    signals = np.zeros((3, 5), np.float32)
    signals[2, 4] = broken
    with pytest.raises(FrameError) as caught:
        normalise(signals, signal_contract(1, 5, full_scale=0.01))
    assert fault_and_problem(caught) == (fault, problem)


# From real numbers to the device


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


def test_number_just_below_a_half_is_rounded_down() -> None:
    below = np.nextafter(np.float32(0.5), np.float32(0.0))
    assert quantise(np.array([below, -below], np.float32), int8(1.0, 0, 2)).tolist() == [0, 0]


def test_halves_are_rounded_before_the_zero_point_is_added() -> None:
    # In C: roundf(value / scale) + zero_point. The other order gives 5 for -0.5 + 5.
    assert quantise(np.array([-0.5], np.float32), int8(1.0, 5, 1)).tolist() == [4]
    assert quantise(np.array([-1.5], np.float32), int8(1.0, 5, 1)).tolist() == [3]


def test_scale_divides_and_does_not_multiply_by_its_inverse() -> None:
    # 1 / 0.1f is not exact: times it, this would be just above a half, and become 11.
    value, scale = np.float32(1.05), np.float32(0.1)
    assert float(value) / float(scale) < 10.5
    assert quantise(np.array([value]), int8(float(scale), 0, 1)).tolist() == [
        math.floor(float(value / scale) + 0.5)
    ]


def test_values_beyond_the_range_are_clipped() -> None:
    values = np.array([-3e38, -1e9, -128.4, 127.4, 1e9, 3e38], np.float32)
    stored = quantise(values, int8(1.0, 0, 6))
    assert stored.dtype == np.int8
    assert stored.tolist() == [-128, -128, -128, 127, 127, 127]
    # A tiny scale makes infinities of them; the zero point moves what is clipped.
    assert quantise(values, int8(1e-6, 100, 6)).tolist() == [-128, -128, -128, 127, 127, 127]
    assert quantise(np.array([-228.0, 27.4], np.float32), int8(1.0, 100, 2)).tolist() == [-128, 127]


def test_float_programs_get_the_values_themselves() -> None:
    values = np.array([0.1, -2.7], np.float32)
    io_ = float32(Layout.CHANNELS_FIRST, 2)
    np.testing.assert_array_equal(quantise(values, io_), values)
    np.testing.assert_array_equal(dequantise(values, io_), values)


def test_stored_values_are_multiplied_once_after_the_zero_point_is_taken_off() -> None:
    stored = np.array([-128, 0, 127], np.int8)
    scale = float(np.float32(0.1))
    expected = [np.float32(steps * scale) for steps in (-138, -10, 117)]
    assert dequantise(stored, int8(0.1, 10, 3)).tolist() == expected
    # Where float32 ends, infinity comes out, which an answer refuses.
    assert dequantise(stored, int8(1e37, 0, 3)).tolist() == [-math.inf, 0.0, math.inf]


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
