"""Numbers that stand in generated code are those of the reference."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from packager.artifacts import Layout, Precision
from packager.codegen.facts import facts_of, identifier, scale_and_zero_point
from packager.contract import Contract, IoContract, document
from packager.contract.frames import content, region
from packager.contract.resampling import taps
from packager.contract.spec import (
    Boxes,
    BoxForm,
    CentreCrop,
    Colour,
    Orientation,
    Position,
    Resize,
    ResizeMode,
    Sector,
    Taper,
)
from packager.contract.tensors import normalise, quantise
from tests.languages import strategies
from tests.unit.contract.examples import (
    float32,
    image_contract,
    image_source,
    int8,
    signal_contract,
    signal_source,
    signal_steps,
)


def whole(contract: Contract) -> IoContract:
    shape = (1, *contract.input_shape)
    return IoContract(
        contract=contract,
        input=float32(Layout.CHANNELS_FIRST, *shape),
        output=float32(Layout.CHANNELS_FIRST, 1, contract.outputs),
    )


SOME = settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("breast-net", "breast_net"),
        ("Breast  Net 2", "breast_net_2"),
        ("3d", "model_3d"),
        ("--", "model"),
        ("Größe", "gr_e"),
    ],
)
def test_name_becomes_an_identifier(name: str, expected: str) -> None:
    assert identifier(name) == expected
    assert identifier(name).isidentifier()


@SOME
@given(io=strategies.image_contracts(0) | strategies.image_contracts(10))
def test_table_has_what_each_value_of_8_bits_becomes(io: IoContract) -> None:
    """One value after the other, each in its own call, as a frame of one pixel."""
    table = facts_of(io, "net").table
    channels = io.contract.input_shape[0]
    assert [len(row) for row in table] == [256] * channels
    one_pixel = io.contract.model_copy(update={"input_shape": (channels, 1, 1)})
    for value in (*range(0, 256, 15), 1, 127, 128, 254):
        pixel = np.full((1, 1, 1, channels), value, np.uint8)
        expected = quantise(normalise(pixel, one_pixel), io.input).ravel().tolist()
        assert [row[value] for row in table] == expected


def test_table_of_a_plain_contract_is_what_its_formula_says() -> None:
    io = whole(image_contract(1, 2, 2, mean=(0.5,), std=(0.25,)))
    f32 = np.float32
    expected = [
        (f32(v) / f32(255.0) - f32(0.5)) / f32(0.25) for v in np.arange(256, dtype=np.float32)
    ]
    assert facts_of(io, "net").table == (tuple(float(v) for v in expected),)
    quantised = replace(io, input=int8(1 / 32, 3, 1, 1, 2, 2))
    steps = [math.floor(abs(float(v)) * 32 + 0.5) * (1 if v >= 0 else -1) for v in expected]
    assert facts_of(quantised, "net").table == (
        tuple(max(-128, min(127, step + 3)) for step in steps),
    )


@SOME
@given(strategies.contracts())
def test_facts_follow_from_the_contract(io: IoContract) -> None:
    found, contract = facts_of(io, "net"), io.contract
    assert found.contract_sha256 == document.digest(io)
    assert found.int8_input == (io.input.dtype is Precision.INT8)
    assert found.int8_output == (io.output.dtype is Precision.INT8)
    assert found.channels_last == (io.input.layout is Layout.CHANNELS_LAST)
    assert found.channels_last_output == (io.output.layout is Layout.CHANNELS_LAST)
    assert found.turns == (contract.is_image and contract.image.orientation is Orientation.EXIF)
    assert (found.table == ()) == (not contract.is_image or contract.image.bits == 16)
    if io.input.dtype is Precision.INT8:
        assert scale_and_zero_point(io.input) == (
            float(np.float32(io.input.scale or 0.0)),
            io.input.zero_point,
        )


def test_facts_of_a_frame() -> None:
    contract = image_contract(
        1,
        8,
        8,
        source=image_source(bits=16),
        crop=CentreCrop(kind="centre", keep_ratio=0.875),
        sector=Sector(apex_px=(0, 0), left_deg=-90.0, right_deg=30.0, inner_px=0, outer_px=9),
        resize=Resize(mode=ResizeMode.AREA),
        boxes=Boxes(
            candidates=1, form=BoxForm.CORNERS, min_score=0.5, max_overlap_ratio=0.45, max_boxes=1
        ),
    )
    found = facts_of(whole(contract), "net")
    assert (found.bits, found.kept_bits) == (16, 0)
    assert found.keep_share == 57_344
    assert found.sector_edges == (-16_384, 0, 8_192, 14_189)
    assert found.overlap_limit == 29_491  # 0.45 of 65536 is 29491.2
    assert found.full_scale == 255.0


def test_facts_of_a_signal() -> None:
    contract = signal_contract(
        1,
        40,
        source=signal_source(length=100, rate_hz=500),
        signal=signal_steps(
            resample_hz=250,
            resolution=0.1,
            fir=(0.25, 0.5, 0.25),
            position=Position.END,
            taper=Taper.HANN,
        ),
        full_scale=3.0,
    )
    found = facts_of(whole(contract), "net")
    assert (found.bits, found.resampled_length, found.first_sample) == (32, 50, 10)
    assert found.fir == (16_384, 32_768, 16_384)
    assert (len(found.taper), found.taper[0], found.taper[-1]) == (40, 0, 0)
    assert found.full_scale == float(np.float32(3.0 / 0.1))


@SOME
@given(
    fixed=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    wanted=st.tuples(st.integers(1, 24), st.integers(1, 24)),
    mode=st.sampled_from(ResizeMode),
    colour=st.sampled_from((Colour.GRAY, Colour.RGB)),
)
def test_workspace_holds_the_plan_of_both_axes_and_a_row(
    fixed: tuple[int, int], wanted: tuple[int, int], mode: ResizeMode, colour: Colour
) -> None:
    source = image_source(colour=colour, size_px=fixed, orientation=Orientation.EXIF)
    contract = image_contract(3, *wanted, source=source, resize=Resize(mode=mode))
    words = facts_of(whole(contract), "net").workspace_words
    for height_px, width_px in (fixed, fixed[::-1]):
        cut = region(contract, height_px, width_px)
        inner = content(contract, cut)
        plans = sum(
            2 + len(found.shares)
            for old, new in ((height_px, inner.height_px), (width_px, inner.width_px))
            for found in taps(old, new, mode)
        )
        assert words >= plans + width_px * colour.channels


def test_no_workspace_is_kept_where_nothing_is_blended_or_frames_have_any_size() -> None:
    resized = image_contract(1, 4, 4, resize=Resize(mode=ResizeMode.AREA))
    fixed = image_contract(1, 4, 4, source=image_source(size_px=(4, 4)))
    for contract in (resized, fixed):
        assert facts_of(whole(contract), "net").workspace_words == 0
