"""Make a `.tflite` file fit to ship, and say what is in it."""

from collections import Counter
from collections.abc import Iterable

import flatbuffers
from ai_edge_litert.schema_py_generated import BufferT, ModelT, OperatorT, SubGraphT, TensorT

from packager import tflite_file
from packager.artifacts import Fallback, Layout, OperatorCount, Precision, TensorIo
from packager.errors import ConversionError

INPUT_NAME, OUTPUT_NAME = b"input", b"output"

# The schema demands it of weights, and the Python writer aligns them to 4 bytes only.
ALIGNMENT_BYTES = 16

_FLOATS = frozenset({"float16", "bfloat16", "float32", "float64"})
_BORDER_REASON = "converts between float32 and int8 beside operators that compute in float32"
_ISLAND_REASON = "computes in float32 inside an int8 program"


class _AlignedBuilder(flatbuffers.Builder):  # type: ignore[misc]  # it publishes no types
    def StartVector(self, item_bytes: int, count: int, alignment: int) -> int:  # noqa: N802
        """Align byte vectors, of which weights are made, as the schema demands."""
        aligned = ALIGNMENT_BYTES if item_bytes == 1 else alignment
        return int(super().StartVector(item_bytes, count, aligned))


def make_shippable(model: ModelT) -> bytes:
    """Serialise a program with all weights inside and no trace of where it was built.

    Tensor names spell out the user's modules and source files, and take a third of a small
    program; only the input and the output keep one. `model` is changed.
    """
    model.description = None
    model.metadata = None
    model.metadataBuffer = None
    for graph in model.subgraphs:
        graph.name = None
        graph.debugMetadataIndex = -1
        for tensor in graph.tensors:
            tensor.name = None
        for used in graph.operators:
            used.debugMetadataIndex = -1
    _name_border(model)
    _keep_used_buffers(model)
    builder = _AlignedBuilder(1024)
    builder.Finish(model.Pack(builder), file_identifier=tflite_file.IDENTIFIER)
    return bytes(builder.Output())


def _name_border(model: ModelT) -> None:
    main = model.subgraphs[0]
    for names, indices in ((INPUT_NAME, main.inputs), (OUTPUT_NAME, main.outputs)):
        for index in indices:
            main.tensors[index].name = names
    for signature in model.signatureDefs or []:
        for entry in signature.inputs:
            entry.name = INPUT_NAME
        for entry in signature.outputs:
            entry.name = OUTPUT_NAME


def _keep_used_buffers(model: ModelT) -> None:
    """Drop the buffers that no tensor uses; the first is empty by the schema's rule."""
    places = {0: 0}
    buffers = [BufferT()]
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            if tensor.buffer not in places:
                places[tensor.buffer] = len(buffers)
                buffers.append(model.buffers[tensor.buffer])
            tensor.buffer = places[tensor.buffer]
    model.buffers = buffers


def count_operators(model: ModelT) -> tuple[OperatorCount, ...]:
    """Count each operator by the type in which it computes, in the order of their names."""
    counts = Counter(
        (tflite_file.operator_name(used, model), _computed_type(used, graph))
        for used, graph in tflite_file.operators(model)
    )
    return tuple(
        OperatorCount(operator=name, dtype=dtype, count=count)
        for (name, dtype), count in sorted(counts.items())
    )


def _computed_type(used: OperatorT, graph: SubGraphT) -> str:
    """Return `float32` where any operand is, else the type of what the operator gives."""
    given = tflite_file.operand_types(used.outputs, graph)
    operands = [*given, *tflite_file.operand_types(used.inputs, graph)]
    floats = [dtype for dtype in operands if dtype in _FLOATS]
    return (floats or operands)[0]


def float_islands(model: ModelT) -> tuple[Fallback, ...]:
    """List what computes in float32 in a program that should compute in int8.

    The QUANTIZE that takes the program's own input and the DEQUANTIZE that gives its output
    do not count: they are how such a program talks to an app in float32.
    """
    counts = Counter(
        tflite_file.operator_name(used, model)
        for used, graph in tflite_file.operators(model)
        if _computed_type(used, graph) in _FLOATS and not _at_border(used, graph, model)
    )
    return tuple(
        Fallback(operator=name, count=count, reason=_reason(name))
        for name, count in sorted(counts.items())
    )


def _at_border(used: OperatorT, graph: SubGraphT, model: ModelT) -> bool:
    name = tflite_file.operator_name(used, model)
    main = graph is model.subgraphs[0]
    enters = name == "QUANTIZE" and set(used.inputs) <= set(graph.inputs)
    leaves = name == "DEQUANTIZE" and set(used.outputs) <= set(graph.outputs)
    return main and (enters or leaves)


def _reason(name: str) -> str:
    return _BORDER_REASON if name in {"QUANTIZE", "DEQUANTIZE"} else _ISLAND_REASON


def input_of(model: ModelT, layout: Layout) -> TensorIo:
    """Describe the program's one input, whose axes are in `layout`.

    Raises:
        ConversionError: There are several inputs, or it is neither float32 nor int8.
    """
    return _describe(model.subgraphs[0], model.subgraphs[0].inputs, layout, what="input")


def output_of(model: ModelT) -> TensorIo:
    """Describe the program's one output, whose axes are as the network gave them.

    Raises:
        ConversionError: There are several outputs, or it is neither float32 nor int8.
    """
    graph = model.subgraphs[0]
    return _describe(graph, graph.outputs, Layout.CHANNELS_FIRST, what="output")


def _describe(graph: SubGraphT, indices: Iterable[int], layout: Layout, *, what: str) -> TensorIo:
    tensors = [graph.tensors[index] for index in indices]
    if len(tensors) != 1:
        remedy = "Let the model take one tensor and return one."
        raise ConversionError(f"The program has {len(tensors)} {what}s. {remedy}")
    tensor, dtype = tensors[0], tflite_file.tensor_type(tensors[0])
    if dtype not in {"float32", "int8"}:
        remedy = "Let the model take and return real numbers, such as logits."
        raise ConversionError(f"The program's {what} is {dtype}. {remedy}")
    scale, zero_point = _quantisation(tensor) if dtype == "int8" else (None, None)
    return TensorIo(
        shape=tflite_file.tensor_shape(tensor),
        layout=layout,
        dtype=Precision(dtype),
        scale=scale,
        zero_point=zero_point,
    )


def _quantisation(tensor: TensorT) -> tuple[float, int]:
    parameters = tensor.quantization
    scales = None if parameters is None else parameters.scale
    if scales is None or len(scales) != 1:
        message = "An int8 input or output of the program has no scale. Convert the model again."
        raise ConversionError(message)
    return float(scales[0]), int(parameters.zeroPoint[0])
