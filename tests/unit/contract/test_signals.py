"""A signal becomes whole steps first, and everything after that is exact."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from packager.contract import Contract
from packager.contract.resampling import taps
from packager.contract.signals import (
    fir_steps,
    first_sample,
    fit_signal,
    round_half_away,
    signal_of_bytes,
    standardise,
    taper_steps,
)
from packager.contract.spec import Position, ResizeMode, Standardise, Taper
from packager.errors import FrameError
from tests.unit.contract.examples import (
    INT16,
    fault_and_problem,
    signal_contract,
    signal_source,
    signal_steps,
)

LEADS = arrays.arrays(
    np.int16,
    st.tuples(st.integers(1, 3), st.integers(1, 40)),
    elements=st.integers(-32_768, 32_767),
)


def steps(*leads: list[float], **said: object) -> list[list[int]]:
    """Return what becomes of leads of float32, by a contract whose tensor holds all of them."""
    contract = signal_contract(len(leads), len(leads[0]), signal=signal_steps(**said))
    fitted = fit_signal(np.array(leads, np.float32), contract)
    assert fitted.dtype == np.int32
    return [list(map(int, lead)) for lead in fitted]


# Whole steps


def test_nearest_whole_number_is_taken_and_the_farther_one_of_two() -> None:
    below = np.nextafter(np.float32(0.5), np.float32(0.0))
    values = np.array([below, 0.5, 1.5, 2.5, -below, -0.5, -1.5, -2.5, 0.0, -0.0], np.float32)
    assert float(below) > 0.49999996
    assert round_half_away(values).tolist() == [0, 1, 2, 3, 0, -1, -2, -3, 0, 0]
    # Adding a half in float32 would make 1 of the first.
    assert math.floor(below + np.float32(0.5)) == 1


@given(arrays.arrays(np.float32, 20, elements=st.floats(-(2.0**20), 2.0**20, width=32)))
def test_rounding_moves_a_number_by_half_a_step_at_most(values: NDArray[np.float32]) -> None:
    error = np.abs(round_half_away(values) - values.astype(np.float64))
    assert error.max() <= 0.5
    np.testing.assert_array_equal(round_half_away(-values), -round_half_away(values))


def test_samples_become_whole_multiples_of_the_resolution() -> None:
    assert steps([0.0, 0.1, 0.124, 0.125, -0.125, 3.0], resolution=0.25) == [[0, 0, 0, 1, -1, 12]]


def test_integer_samples_are_steps_already() -> None:
    contract = signal_contract(1, 3, source=INT16, signal=signal_steps())
    raw = np.array([-32_768, 0, 32_767], np.int16)
    assert fit_signal(raw, contract).tolist() == [[-32_768, 0, 32_767]]


def test_without_steps_samples_stay_as_they_are() -> None:
    raw = np.array([0.1, -0.2], np.float32)
    fitted = fit_signal(raw, signal_contract(1, 2))
    assert fitted.dtype == np.float32
    np.testing.assert_array_equal(fitted, raw[np.newaxis])


def test_largest_sample_is_taken_and_the_next_one_is_not() -> None:
    assert steps([2.0**20, -(2.0**20)]) == [[2**20, -(2**20)]]
    for value in (np.nextafter(np.float32(2.0**20), np.float32(2.0**21)), -3e38):
        with pytest.raises(FrameError) as caught:
            steps([0.0, float(value)])
        problem = "a sample is more than 1048576 times the resolution."
        assert fault_and_problem(caught) == ("out-of-range", problem)


# Resampling


def resampled(length: int, rate_hz: int, resample_hz: int, wanted: int) -> Contract:
    source = signal_source(length=length, rate_hz=rate_hz)
    return signal_contract(1, wanted, source=source, signal=signal_steps(resample_hz=resample_hz))


@given(
    value=st.integers(-(2**20), 2**20),
    length=st.integers(1, 50),
    rate=st.integers(1, 30),
)
def test_constant_signal_stays_constant_when_resampled(value: int, length: int, rate: int) -> None:
    raw = np.full((1, length * rate), value, np.float32)
    contract = resampled(length * rate, rate * 10, 10, length)
    np.testing.assert_array_equal(fit_signal(raw, contract), np.full((1, length), value))


def test_resampling_takes_the_shares_of_an_antialiased_resize_rounded_half_up() -> None:
    raw = np.array([[-9, 4, 7, -30, 12, 5, -1, -8, 100]], np.float32)
    expected = [
        sum(s * int(raw[0, found.start + k]) for k, s in enumerate(found.shares)) / 65_536
        for found in taps(9, 6, ResizeMode.ANTIALIAS)
    ]
    fitted = fit_signal(raw, resampled(9, 300, 200, 6))
    assert fitted.tolist() == [[math.floor(value + 0.5) for value in expected]]
    # -1 / 2 goes up to 0, not away from 0.
    half = np.array([[-1.0, 0.0]], np.float32)
    assert fit_signal(half, resampled(2, 2, 1, 1)).tolist() == [[0]]


# Filter


def test_coefficients_are_rounded_half_up() -> None:
    unit = 1 / 65_536
    fir = (0.5 * unit, -0.5 * unit, 1.0, -0.5 * unit, 0.5 * unit)
    assert fir_steps(signal_steps(fir=fir)) == (1, 0, 65_536, 0, 1)


@given(
    leads=LEADS,
    half=st.lists(st.floats(-1.0, 1.0), max_size=8),
    middle=st.floats(-1.0, 1.0),
)
def test_filter_is_a_convolution_that_holds_the_ends(
    leads: NDArray[np.int16], half: list[float], middle: float
) -> None:
    fir = (*half, middle, *half[::-1])
    contract = signal_contract(*leads.shape, source=INT16, signal=signal_steps(fir=fir))
    kernel = np.array(fir_steps(signal_steps(fir=fir)), np.int64)
    padded = np.pad(leads.astype(np.int64), ((0, 0), (len(half), len(half))), mode="edge")
    exact = np.stack([np.convolve(lead, kernel, "valid") for lead in padded])
    expected = np.floor(exact / 65_536 + 0.5)  # sums of 41 bits, exact in float64
    np.testing.assert_array_equal(fit_signal(leads, contract), expected)


def test_filtered_sample_beyond_the_range_is_refused() -> None:
    at_the_limit = steps([2.0**20] * 3, fir=(0.0, 8.0, 0.0))
    assert at_the_limit == [[2**23] * 3]
    with pytest.raises(FrameError) as caught:
        steps([2.0**20] * 3, fir=(0.0, 8.01, 0.0))
    problem = "a filtered sample is more than 8388608 times the resolution."
    assert fault_and_problem(caught) == ("out-of-range", problem)


# Cut and taper


@pytest.mark.parametrize(
    ("position", "start"), [(Position.START, 0), (Position.CENTRE, 2), (Position.END, 5)]
)
def test_part_is_taken_where_the_contract_says(position: Position, start: int) -> None:
    assert first_sample(8, 3, position) == start
    contract = signal_contract(
        1, 3, source=signal_source(length=8), signal=signal_steps(position=position)
    )
    fitted = fit_signal(np.arange(8, dtype=np.float32), contract)
    assert fitted.tolist() == [[start, start + 1, start + 2]]


def test_taper_is_whole_in_the_middle_and_the_windows_own_at_its_ends() -> None:
    assert taper_steps(Taper.NONE, 5) == ()
    assert taper_steps(Taper.HANN, 5) == (0, 16_384, 32_768, 16_384, 0)
    assert taper_steps(Taper.HAMMING, 5) == (2_621, 17_695, 32_768, 17_695, 2_621)
    assert taper_steps(Taper.HANN, 1) == (0,)


@pytest.mark.parametrize("taper", [Taper.HANN, Taper.HAMMING])
@pytest.mark.parametrize("length", [2, 3, 8, 187, 1_000])
def test_taper_is_the_window_of_numpy_within_a_step(taper: Taper, length: int) -> None:
    window = {Taper.HANN: np.hanning, Taper.HAMMING: np.hamming}[taper](length)
    assert np.abs(np.array(taper_steps(taper, length)) / 32_768 - window).max() <= 0.51 / 32_768


def test_tapered_samples_are_rounded_half_up() -> None:
    assert steps([9.0, 1.0, -7.0, -1.0, 9.0], taper=Taper.HANN) == [[0, 1, -7, 0, 0]]


# Standardised by the window


def by_window(*leads: list[int]) -> NDArray[np.float32]:
    """Return what steps become, lead by lead."""
    contract = signal_contract(
        len(leads), len(leads[0]), source=INT16, signal=signal_steps(standardise=Standardise.WINDOW)
    )
    windows = standardise(np.array([leads]), contract)
    return np.asarray(windows[0])


def test_each_lead_of_a_window_is_less_its_mean_over_its_deviation() -> None:
    leads = by_window([0, 2, 0, 2], [100, 200, 300, 400])
    assert leads[0].tolist() == [-1.0, 1.0, -1.0, 1.0]
    # The deviation is the root of 12500: 111.80 in whole steps of 1 / 64.
    deviation = math.isqrt(12_500 * 4_096) / 64
    np.testing.assert_array_equal(
        leads[1], (np.array([-150, -50, 50, 150]) / deviation).astype(np.float32)
    )


def test_mean_is_a_whole_step_rounded_half_up() -> None:
    # The mean is -1 / 2, which goes up to 0; the deviation from 0 is the root of 1 / 2.
    deviation = math.isqrt(4_096 // 2) / 64
    np.testing.assert_array_equal(by_window([0, -1])[0], np.array([0, -1 / deviation], np.float32))


@given(seed=st.integers(0, 999), length=st.integers(50, 200), reach=st.integers(50, 2**23))
def test_standardised_lead_has_a_mean_of_0_and_a_deviation_of_1(
    seed: int, length: int, reach: int
) -> None:
    lead = np.random.default_rng(seed).integers(-reach, reach, length)
    values = by_window(lead.tolist())[0].astype(np.float64)
    # The mean is off by half a step, the deviation by 1 / 64: little, beside some 30 steps.
    assert abs(values.mean()) <= 0.5 / lead.std() + 1e-6
    assert abs(values.std() - 1.0) <= 0.02


@given(st.integers(-(2**23), 2**23), st.integers(1, 60))
def test_flat_lead_is_refused(value: int, length: int) -> None:
    with pytest.raises(FrameError) as caught:
        by_window(list(range(length + 1)), [value] * (length + 1))
    problem = "a lead does not vary. Is its electrode loose?"
    assert fault_and_problem(caught) == ("flat-signal", problem)


def test_longest_and_loudest_window_does_not_overflow() -> None:
    lead = [2**23, -(2**23)] * 4_096
    assert by_window(lead)[0].tolist() == [1.0, -1.0] * 4_096


def test_deviation_of_less_than_a_step_is_not_flat() -> None:
    lead = by_window([0] * 4_095 + [1])[0]
    # The mean is 0; the deviation is 1 / 64, the root of 1 / 4096.
    assert lead.tolist() == [0.0] * 4_095 + [64.0]


# Bytes and faults


def test_bytes_are_read_lead_after_lead_in_little_endian() -> None:
    contract = signal_contract(2, 3, source=INT16, signal=signal_steps())
    raw = b"\x01\x00\x02\x00\x03\x00\xff\xff\x00\x80\xff\x7f"
    signal = signal_of_bytes(raw, (2, 3), contract, bits=16)
    assert signal.tolist() == [[1, 2, 3], [-1, -32_768, 32_767]]


FLOATS = signal_contract(2, 3)
LONGER = signal_contract(2, 3, source=signal_source(length=5), signal=signal_steps())
BROKEN = np.array([[0, 1, 2], [0, 1, math.nan]], np.float32)


@pytest.mark.parametrize(
    ("signal", "contract", "fault", "problem"),
    [
        (
            np.zeros((2, 3), np.int16),
            FLOATS,
            "wrong-bit-depth",
            "samples are int16, the contract says float32.",
        ),
        (
            np.zeros((2, 3), np.float64),
            FLOATS,
            "wrong-bit-depth",
            "samples are float64, the contract says float32.",
        ),
        (
            np.zeros((3, 3), np.float32),
            FLOATS,
            "wrong-channels",
            "the signal has shape (3, 3), the contract has 2 leads.",
        ),
        (
            np.zeros(3, np.float32),
            FLOATS,
            "wrong-channels",
            "the signal has shape (1, 3), the contract has 2 leads.",
        ),
        (
            np.zeros((2, 4), np.float32),
            FLOATS,
            "wrong-size",
            "each lead has 4 samples, the contract says 3.",
        ),
        (
            np.zeros((2, 3), np.float32),
            LONGER,
            "wrong-size",
            "each lead has 3 samples, the contract says 5.",
        ),
        (
            BROKEN,
            FLOATS,
            "not-finite",
            "sample 2 of lead 1 is NaN or infinite. Remove or repair it.",
        ),
        (
            -np.array([[0, math.inf, 2], [0, 1, math.nan]], np.float32),
            FLOATS,
            "not-finite",
            "sample 1 of lead 0 is NaN or infinite. Remove or repair it.",
        ),
    ],
)
def test_signal_of_another_kind_is_refused(
    signal: NDArray[np.generic], contract: Contract, fault: str, problem: str
) -> None:
    with pytest.raises(FrameError) as caught:
        fit_signal(signal, contract)
    assert fault_and_problem(caught) == (fault, problem)


@pytest.mark.parametrize("size", [0, 23, 25])
def test_signal_with_bytes_missing_or_left_over_is_refused(size: int) -> None:
    with pytest.raises(FrameError) as caught:
        signal_of_bytes(bytes(size), (2, 3), FLOATS, bits=32)
    problem = f"the signal has {size} bytes and should have 24."
    assert fault_and_problem(caught) == ("truncated", problem)


@pytest.mark.parametrize(
    ("bits", "shape", "problem"),
    [
        (16, (2, 3), "wrong-bit-depth: samples are int16, the contract says float32."),
        (8, (2, 3), "wrong-bit-depth: samples have 8 bits; whole numbers have 16, float32 has 32."),
        (32, (1, 3), "wrong-channels: the signal has shape (1, 3), the contract has 2 leads."),
        (32, (2, 9), "wrong-size: each lead has 9 samples, the contract says 3."),
    ],
)
def test_kind_of_a_signal_is_checked_before_its_bytes(
    bits: int, shape: tuple[int, int], problem: str
) -> None:
    with pytest.raises(FrameError) as caught:
        signal_of_bytes(b"?", shape, FLOATS, bits=bits)
    assert str(caught.value) == problem
