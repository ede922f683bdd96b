"""A tensor is shown as what it holds."""

import numpy as np
import pytest

from packager.artifacts import Layout, Precision, TensorIo
from packager.check_input import fit, picture
from packager.contract import Activation, Contract, IoContract
from packager.contract.frames import Frame
from packager.contract.golden import prepare
from packager.contract.spec import Colour, ImageSource, Resize, ResizeMode
from packager.seen import Stock
from tests.contracts import GRAY, RGB


@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize("channels", [1, 3])
def test_picture_of_a_float_tensor_is_the_frame(layout: Layout, channels: int) -> None:
    shape = (channels, 4, 5) if layout is Layout.CHANNELS_FIRST else (4, 5, channels)
    io = IoContract(
        contract=contract(channels),
        input=TensorIo(shape=(1, *shape), layout=layout, dtype=Precision.FLOAT32),
        output=TensorIo(shape=(1, 2), layout=Layout.CHANNELS_FIRST, dtype=Precision.FLOAT32),
    )
    sides = (4, 5) if channels == 1 else (4, 5, 3)
    pixels = np.random.default_rng(0).integers(0, 256, sides, np.uint8)
    np.testing.assert_array_equal(picture(prepare(Frame(pixels=pixels), io), io), pixels)


def test_picture_of_an_int8_tensor_shows_what_quantisation_cut_off() -> None:
    io = IoContract(
        contract=contract(1),
        input=TensorIo(
            shape=(1, 1, 4, 5),
            layout=Layout.CHANNELS_FIRST,
            dtype=Precision.INT8,
            scale=0.01,
            zero_point=0,
        ),
        output=TensorIo(shape=(1, 2), layout=Layout.CHANNELS_FIRST, dtype=Precision.FLOAT32),
    )
    white = np.full((4, 5), 255, np.uint8)
    # 127 steps of 0.01 are 1.27 deviations of 0.25 above the mean of 0.5: 0.8175 of white.
    np.testing.assert_array_equal(
        picture(prepare(Frame(pixels=white), io), io), np.full((4, 5), 208)
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_stock_resizers_take_frames_of_16_bits(channels: int) -> None:
    source = ImageSource(kind="image", colour=Colour.GRAY if channels == 1 else Colour.RGB, bits=16)
    deep = contract(channels).model_copy(
        update={"source": source, "resize": Resize(mode=ResizeMode.ANTIALIAS)}
    )
    sides = (9, 13) if channels == 1 else (9, 13, 3)
    frame = Frame(pixels=np.random.default_rng(0).integers(0, 65_536, sides, np.uint16))
    ours, pillow = fit(frame, deep, Stock.CONTRACT), fit(frame, deep, Stock.PILLOW_BILINEAR)
    assert pillow.dtype == np.uint16
    assert pillow.shape == ours.shape
    # Pillow's antialias is the same triangle: two roundings to 16 bits, and float32's own.
    assert np.abs(pillow.astype(np.int64) - ours.astype(np.int64)).max() <= 4


def contract(channels: int) -> Contract:
    return Contract(
        input_shape=(channels, 4, 5),
        source=GRAY if channels == 1 else RGB,
        full_scale=255.0,
        mean=(0.5, 0.25, 0.75)[:channels],
        std=(0.25, 0.5, 0.125)[:channels],
        activation=Activation.SOFTMAX,
        labels=("cyst", "solid"),
    )
