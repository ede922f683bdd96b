"""Read `.tflite` files, which may come from anywhere, as objects of their published schema.

TensorFlow Lite Micro trusts every offset in a file and ends the process where one is wrong,
so whatever is handed to a runtime passes through `read` first.
"""

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from packager.errors import ConversionError, MissingToolError

try:
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.schema_py_generated import ModelT, OperatorT, SubGraphT, TensorT
    from ai_edge_litert.tools.flatbuffer_utils import read_model_from_bytearray
except ModuleNotFoundError:
    raise MissingToolError(
        "ai-edge-litert",
        needed_by="Reading a .tflite file",
        install="pip install 'packager[litert]'",
    ) from None

IDENTIFIER = b"TFL3"

# What the generated accessors raise on offsets and lengths that lead out of the file.
_BROKEN = (struct.error, IndexError, ValueError, TypeError, OverflowError, AttributeError)

_ITEM_BYTES = {
    schema.TensorType.FLOAT32: 4,
    schema.TensorType.FLOAT16: 2,
    schema.TensorType.INT32: 4,
    schema.TensorType.UINT8: 1,
    schema.TensorType.INT64: 8,
    schema.TensorType.BOOL: 1,
    schema.TensorType.INT16: 2,
    schema.TensorType.INT8: 1,
    schema.TensorType.FLOAT64: 8,
}


def _names(enumeration: type) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}


_TENSOR_TYPES = _names(schema.TensorType)
_OPERATORS = _names(schema.BuiltinOperator)


def read(path: Path) -> ModelT:
    """Parse a program and check that nothing in it points outside of it.

    Weights that lie behind the flatbuffer are brought into it.

    Raises:
        ConversionError: The file is missing, truncated, or no `.tflite` file.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConversionError(f"{path}: cannot be read ({error.strerror}).") from None
    return parse(content, str(path))


def parse(content: bytes, where: str) -> ModelT:
    """Do what `read` does with the bytes of a file; `where` names it in errors."""
    if content[4:8] != IDENTIFIER:
        raise ConversionError(f"{where}: is not a .tflite file. Convert the model again.")
    try:
        model = read_model_from_bytearray(content)
        _require_sound(model)
    except _BROKEN as error:
        remedy = "The file is damaged or truncated; convert the model again."
        raise ConversionError(f"{where}: {error}. {remedy}") from None
    return model


def _require_sound(model: ModelT) -> None:
    if not model.subgraphs:
        message = "the file holds no graph"
        raise ValueError(message)
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            _require_whole(tensor, model)
        _require_indices(graph.inputs, len(graph.tensors), "tensor")
        _require_indices(graph.outputs, len(graph.tensors), "tensor")
        for used in graph.operators:
            _require_indices([used.opcodeIndex], len(model.operatorCodes), "operator code")
            # -1 stands for an optional operand that is left out.
            given = [index for index in (*used.inputs, *used.outputs) if index != -1]
            _require_indices(given, len(graph.tensors), "tensor")


def _require_whole(tensor: TensorT, model: ModelT) -> None:
    """Fail unless a constant has as many bytes as its shape and type need."""
    data = model.buffers[tensor.buffer].data
    item_bytes = _ITEM_BYTES.get(tensor.type)
    if data is None or item_bytes is None:
        return
    wanted = item_bytes * int(np.prod(tensor_shape(tensor), dtype=np.int64))
    if len(data) != wanted:
        message = f"a constant of {wanted} bytes has {len(data)} of them"
        raise ValueError(message)


def _require_indices(indices: Iterable[int], count: int, what: str) -> None:
    for index in indices:
        if not 0 <= index < count:
            message = f"{what} {index} of {count} does not exist"
            raise ValueError(message)


def external_buffers(content: bytes) -> int:
    """Count the weights that lie behind the flatbuffer, where not every runtime looks."""
    model = schema.Model.GetRootAs(content, 0)
    # An offset of 1 is the placeholder of a buffer without data.
    return sum(model.Buffers(i).Offset() > 1 for i in range(model.BuffersLength()))


def operators(model: ModelT) -> Iterator[tuple[OperatorT, SubGraphT]]:
    """Yield every operator with the graph that it belongs to, in order of execution."""
    for graph in model.subgraphs:
        for used in graph.operators:
            yield used, graph


def operator_name(used: OperatorT, model: ModelT) -> str:
    """Return an operator's name, such as `CONV_2D`, or `CUSTOM:name` for one of no schema."""
    code = model.operatorCodes[used.opcodeIndex]
    # Codes above 127 are in the newer field, older writers fill only the older one.
    name = _OPERATORS.get(max(code.builtinCode, code.deprecatedBuiltinCode), "UNKNOWN")
    if name == "CUSTOM":
        return f"CUSTOM:{(code.customCode or b'').decode('utf-8', 'replace')}"
    return name


def operand_types(indices: Iterable[int], graph: SubGraphT) -> list[str]:
    """Return the type of each operand that is there, such as `int8`."""
    return [tensor_type(graph.tensors[index]) for index in indices if index != -1]


def tensor_type(tensor: TensorT) -> str:
    """Return a tensor's type, such as `int8`."""
    return _TENSOR_TYPES.get(tensor.type, "UNKNOWN").lower()


def tensor_shape(tensor: TensorT) -> tuple[int, ...]:
    """Return a tensor's shape; () for a scalar."""
    shape = tensor.shape
    return () if shape is None else tuple(int(size) for size in cast("NDArray[np.int32]", shape))
