"""Hand-made `.tflite` programs, for tests that need no converter."""

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

SHAPE = (1, 4)


def chain(types: list[str], operators: list[str]) -> schema.ModelT:
    """Return operators in a row; `types` are those of the tensors before, between and after."""
    codes = [_code(name) for name in operators]
    return schema.ModelT(
        version=3,
        description=b"made in /home/someone/clinic",
        operatorCodes=codes,
        buffers=[schema.BufferT(), schema.BufferT(data=np.frombuffer(b"2.0.0", np.uint8))],
        metadata=[schema.MetadataT(name=b"min_runtime_version", buffer=1)],
        subgraphs=[
            schema.SubGraphT(
                name=b"clinic.py",
                tensors=[_tensor(f"clinic.Net_{i}", dtype) for i, dtype in enumerate(types)],
                inputs=[0],
                outputs=[len(types) - 1],
                operators=[
                    schema.OperatorT(opcodeIndex=i, inputs=[i], outputs=[i + 1])
                    for i in range(len(operators))
                ],
            )
        ],
        signatureDefs=[
            schema.SignatureDefT(
                signatureKey=b"serving_default",
                inputs=[schema.TensorMapT(name=b"args_0", tensorIndex=0)],
                outputs=[schema.TensorMapT(name=b"output_0", tensorIndex=len(types) - 1)],
            )
        ],
    )


def _code(name: str) -> schema.OperatorCodeT:
    number = getattr(schema.BuiltinOperator, name)
    return schema.OperatorCodeT(
        builtinCode=number, deprecatedBuiltinCode=min(number, 127), version=1
    )


def _tensor(name: str, dtype: str) -> schema.TensorT:
    quantisation = schema.QuantizationParametersT(scale=[0.5], zeroPoint=[3])
    return schema.TensorT(
        shape=list(SHAPE),
        type=getattr(schema.TensorType, dtype.upper()),
        buffer=0,
        name=name.encode(),
        quantization=quantisation if dtype == "int8" else None,
    )


def add_constant(model: schema.ModelT, values: np.ndarray[tuple[int], np.dtype[np.int8]]) -> None:
    """Give the program an int8 constant; no operator uses it."""
    model.buffers.append(schema.BufferT(data=values.view(np.uint8)))
    constant = _tensor("clinic.Net.weights", "int8")
    constant.shape = list(values.shape)
    constant.buffer = len(model.buffers) - 1
    model.subgraphs[0].tensors.append(constant)


def serialise(model: schema.ModelT) -> bytes:
    """Return the bytes of a `.tflite` file."""
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def serialise_externally(model: schema.ModelT) -> bytes:
    """Return the same, with the last buffer's data behind the flatbuffer."""
    last = model.buffers[-1]
    data = bytes(last.data)
    last.data, last.offset, last.size = None, 1, 1
    content = bytearray(serialise(model))
    last.data = np.frombuffer(data, np.uint8)
    last.offset = last.size = 0
    packed = schema.Model.GetRootAs(content, 0).Buffers(len(model.buffers) - 1)
    flatbuffer_utils.update_packed_buffer(packed, offset=len(content), size=len(data))
    return bytes(content) + data
