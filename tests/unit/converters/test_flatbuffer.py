import numpy as np
import pytest

from tests.conftest import require_package

require_package("ai_edge_litert", "litert")

from ai_edge_litert import schema_py_generated as schema

from packager import tflite_file
from packager.artifacts import Fallback, Layout, OperatorCount, Precision, TensorIo
from packager.converters import flatbuffer
from packager.errors import ConversionError
from tests.tflite_programs import add_constant, chain, serialise, serialise_externally

ISLAND = "computes in float32 inside an int8 program"
CROSSING = "converts between float32 and int8 beside operators that compute in float32"


def reread(content: bytes) -> schema.ModelT:
    return tflite_file.parse(content, "model.tflite")


def shipped(content: bytes) -> bytes:
    return flatbuffer.make_shippable(reread(content))


def test_weights_behind_the_flatbuffer_come_inside() -> None:
    weights = np.arange(-50, 50, dtype=np.int8)
    model = chain(["int8", "int8"], ["RELU"])
    add_constant(model, weights)
    outside = serialise_externally(model)
    assert tflite_file.external_buffers(outside) == 1
    inside = shipped(outside)
    assert tflite_file.external_buffers(inside) == 0
    read = reread(inside)
    assert bytes(read.buffers[read.subgraphs[0].tensors[2].buffer].data) == weights.tobytes()


def test_no_name_of_the_source_is_left() -> None:
    content = serialise(chain(["int8", "int8", "int8"], ["RELU", "RELU"]))
    told = (b"clinic", b"someone", b"args_0", b"output_0", b"min_runtime_version")
    assert all(name in content for name in told)
    assert not any(name in shipped(content) for name in told)


def test_input_and_output_have_plain_names() -> None:
    read = reread(shipped(serialise(chain(["int8", "int8", "int8"], ["RELU", "RELU"]))))
    assert [t.name for t in read.subgraphs[0].tensors] == [b"input", None, b"output"]
    signature = read.signatureDefs[0]
    assert signature.signatureKey == b"serving_default"
    assert [(e.name, e.tensorIndex) for e in signature.inputs] == [(b"input", 0)]
    assert [(e.name, e.tensorIndex) for e in signature.outputs] == [(b"output", 2)]


def test_every_constant_starts_at_a_multiple_of_sixteen() -> None:
    model = chain(["int8", "int8"], ["RELU"])
    for length in (1, 5, 16, 33):
        add_constant(model, np.arange(length, dtype=np.int8))
    content = shipped(serialise(model))
    packed = schema.Model.GetRootAs(content, 0)
    buffers = [packed.Buffers(i) for i in range(packed.BuffersLength())]
    starts = [b._tab.Vector(b._tab.Offset(4)) for b in buffers if b.DataLength()]
    assert len(starts) == 4
    assert [start % flatbuffer.ALIGNMENT_BYTES for start in starts] == [0] * 4


def test_two_constants_in_one_buffer_keep_one_buffer() -> None:
    model = chain(["int8", "int8"], ["RELU"])
    add_constant(model, np.arange(8, dtype=np.int8))
    add_constant(model, np.arange(8, dtype=np.int8))
    model.subgraphs[0].tensors[3].buffer = model.subgraphs[0].tensors[2].buffer
    read = reread(shipped(serialise(model)))
    assert len(read.buffers) == 2
    assert [t.buffer for t in read.subgraphs[0].tensors] == [0, 0, 1, 1]


def test_operators_are_counted_by_the_type_they_compute_in() -> None:
    types = ["float32", "int8", "int8", "int8", "float32", "float32"]
    names = ["QUANTIZE", "RELU", "RELU", "DEQUANTIZE", "LEAKY_RELU"]
    assert flatbuffer.count_operators(chain(types, names)) == (
        OperatorCount(operator="DEQUANTIZE", dtype="float32", count=1),
        OperatorCount(operator="LEAKY_RELU", dtype="float32", count=1),
        OperatorCount(operator="QUANTIZE", dtype="float32", count=1),
        OperatorCount(operator="RELU", dtype="int8", count=2),
    )


def test_all_int8_program_has_no_islands() -> None:
    assert flatbuffer.float_islands(chain(["int8", "int8"], ["RELU"])) == ()


def test_conversion_of_the_programs_own_input_and_output_is_no_island() -> None:
    types = ["float32", "int8", "int8", "float32"]
    assert flatbuffer.float_islands(chain(types, ["QUANTIZE", "RELU", "DEQUANTIZE"])) == ()


def test_float_operator_in_the_middle_is_an_island_with_its_bridges() -> None:
    types = ["int8", "int8", "float32", "float32", "int8", "int8"]
    names = ["RELU", "DEQUANTIZE", "LEAKY_RELU", "QUANTIZE", "RELU"]
    assert flatbuffer.float_islands(chain(types, names)) == (
        Fallback(operator="DEQUANTIZE", count=1, reason=CROSSING),
        Fallback(operator="LEAKY_RELU", count=1, reason=ISLAND),
        Fallback(operator="QUANTIZE", count=1, reason=CROSSING),
    )


def test_float_operator_at_the_border_is_an_island() -> None:
    types = ["float32", "float32", "int8", "int8"]
    assert flatbuffer.float_islands(chain(types, ["LEAKY_RELU", "QUANTIZE", "RELU"])) == (
        Fallback(operator="LEAKY_RELU", count=1, reason=ISLAND),
        Fallback(operator="QUANTIZE", count=1, reason=CROSSING),
    )


def test_operator_on_int8_weights_and_float_values_is_an_island() -> None:
    model = chain(["float32", "float32"], ["FULLY_CONNECTED"])
    add_constant(model, np.arange(16, dtype=np.int8))
    model.subgraphs[0].operators[0].inputs = [0, 2]
    islands = flatbuffer.float_islands(model)
    assert islands == (Fallback(operator="FULLY_CONNECTED", count=1, reason=ISLAND),)


def test_int8_tensors_are_described_with_their_scale() -> None:
    model = reread(serialise(chain(["int8", "float32"], ["DEQUANTIZE"])))
    assert flatbuffer.input_of(model, Layout.CHANNELS_LAST) == TensorIo(
        shape=(1, 4),
        layout=Layout.CHANNELS_LAST,
        dtype=Precision.INT8,
        scale=0.5,
        zero_point=3,
    )
    assert flatbuffer.output_of(model) == TensorIo(
        shape=(1, 4), layout=Layout.CHANNELS_FIRST, dtype=Precision.FLOAT32
    )


def test_two_outputs_are_refused() -> None:
    model = chain(["int8", "int8"], ["RELU"])
    model.subgraphs[0].outputs = [0, 1]
    with pytest.raises(ConversionError) as caught:
        flatbuffer.output_of(model)
    expected = "The program has 2 outputs. Let the model take one tensor and return one."
    assert str(caught.value) == expected


def test_output_of_indices_is_refused() -> None:
    with pytest.raises(ConversionError) as caught:
        flatbuffer.output_of(chain(["int8", "int64"], ["ARG_MAX"]))
    assert str(caught.value) == (
        "The program's output is int64. Let the model take and return real numbers, such as logits."
    )


def test_int8_input_without_a_scale_is_refused() -> None:
    model = chain(["int8", "int8"], ["RELU"])
    model.subgraphs[0].tensors[0].quantization = None
    with pytest.raises(ConversionError) as caught:
        flatbuffer.input_of(model, Layout.CHANNELS_LAST)
    assert str(caught.value) == (
        "An int8 input or output of the program has no scale. Convert the model again."
    )
