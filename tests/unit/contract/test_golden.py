"""Golden samples come back as they were kept, and an app that differs is named."""

import numpy as np
import pytest
from numpy.typing import NDArray

from packager.artifacts import Layout, OperatorCount, Precision, Runtime, TensorIo
from packager.contract import Activation, Contract, IoContract
from packager.contract.frames import Frame
from packager.contract.golden import (
    EXACT,
    FLOAT,
    Sample,
    first_difference,
    golden_sample,
    output_tolerance,
    prepare,
    self_test,
)
from packager.contract.spec import Colour, ImageSource
from tests.contracts import GRAY, SIGNAL

CONTRACT = Contract(
    input_shape=(1, 2, 3),
    source=GRAY,
    full_scale=255.0,
    mean=(0.0,),
    std=(1.0,),
    activation=Activation.SOFTMAX,
    labels=("cyst", "solid"),
)
IO = IoContract(
    contract=CONTRACT,
    input=TensorIo(
        shape=(1, 2, 3, 1),
        layout=Layout.CHANNELS_LAST,
        dtype=Precision.INT8,
        scale=1 / 255,
        zero_point=-128,
    ),
    output=TensorIo(shape=(1, 2), layout=Layout.CHANNELS_FIRST, dtype=Precision.FLOAT32),
)
STORED = np.array([[0, 1, 2], [253, 254, 255]], np.uint8)


def golden() -> dict[str, NDArray[np.generic]]:
    turned = np.ascontiguousarray(STORED.T[::-1])  # orientation 6 turns it back
    frames = {"frame_000": STORED, "frame_001": turned}
    arrays = {"samples": np.array([4, 9]), "orientations": np.array([1, 6]), **frames}
    inputs = [prepare(golden_sample(arrays, place, CONTRACT), IO) for place in range(2)]
    return arrays | {"inputs": np.concatenate(inputs)}


def test_prepared_samples_are_the_programs_input() -> None:
    arrays = golden()
    expected = (STORED.astype(np.int64) - 128).astype(np.int8).reshape(2, 3, 1)
    for row in arrays["inputs"]:
        np.testing.assert_array_equal(row, expected)


def test_frame_comes_back_with_its_turn_and_palette() -> None:
    palette = np.arange(9, dtype=np.uint8).reshape(3, 3)
    source = ImageSource(kind="image", colour=Colour.PALETTE, bits=8)
    contract = CONTRACT.model_copy(update={"source": source})
    arrays = {
        "frame_000": STORED,
        "orientations": np.array([3]),
        "palette_000": palette,
    }
    sample = golden_sample(arrays, 0, contract)
    assert isinstance(sample, Frame)
    assert sample.orientation == 3
    np.testing.assert_array_equal(sample.pixels, STORED)
    assert sample.palette is palette


def test_signal_comes_back_as_it_is() -> None:
    contract = CONTRACT.model_copy(update={"input_shape": (1, 4), "source": SIGNAL})
    stored = np.arange(4, dtype=np.float32)
    assert golden_sample({"frame_000": stored}, 0, contract) is stored


def test_self_test_passes_for_the_contract_and_names_each_sample_that_differs() -> None:
    arrays = golden()
    assert self_test(arrays, IO, prepare) == ()

    def without_the_turn(sample: Sample, io: IoContract) -> NDArray[np.generic]:
        assert isinstance(sample, Frame)
        return prepare(Frame(pixels=sample.pixels.reshape(2, 3)), io)

    assert self_test(arrays, IO, without_the_turn) == (1,)


def test_first_difference_is_the_byte() -> None:
    one = np.array([1.0, 2.0], np.float32)
    other = np.array([1.0, 2.5], np.float32)
    assert first_difference(one, one.copy()) is None
    assert first_difference(one, other) == 6
    assert first_difference(one, one.astype(np.float64)) == 0
    assert first_difference(one, one[:1]) == 0
    # Equal numbers are not enough: the bytes count.
    assert first_difference(np.array([0.0], np.float32), np.array([-0.0], np.float32)) == 3


def used(operator: str, dtype: str) -> OperatorCount:
    return OperatorCount(operator=operator, dtype=dtype, count=1)


@pytest.mark.parametrize("runtime", [Runtime.EXECUTORCH, Runtime.LITERT])
def test_outputs_of_an_int8_program_must_be_equal_to_the_bit(runtime: Runtime) -> None:
    operators = [used("CONV_2D", "int8"), used("SOFTMAX", "float32")]
    assert output_tolerance(Precision.INT8, runtime, operators) == EXACT


def test_int8_operators_that_round_otherwise_on_arm_are_named() -> None:
    operators = [used("SOFTMAX", "int8"), used("CONV_2D", "int8"), used("BATCH_MATMUL", "int8")]
    tolerance = output_tolerance(Precision.INT8, Runtime.LITERT, operators)
    assert tolerance.ratio == 0.03
    assert tolerance.reason == "LiteRT's int8 BATCH_MATMUL and SOFTMAX round otherwise on Arm"
    assert output_tolerance(Precision.INT8, Runtime.EXECUTORCH, operators) == EXACT


@pytest.mark.parametrize("runtime", Runtime)
def test_float32_programs_have_one_tolerance(runtime: Runtime) -> None:
    assert output_tolerance(Precision.FLOAT32, runtime, [used("SOFTMAX", "float32")]) == FLOAT
