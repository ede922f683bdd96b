"""The int8 network that emulators are tried with, and its answer in whole numbers.

`python -m tests.known_network` writes the file anew.
"""

from pathlib import Path

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

PLACE = Path(__file__).parent.parent / "packager/device_setup/probe/known.tflite"

SIDE, CHANNELS, FILTERS, CLASSES = 6, 8, 16, 10

# All are powers of two, so that a product of them is exact in float32, in any order.
INPUT_SCALE, FILTER_SCALE, HIDDEN_SCALE, WEIGHT_SCALE, OUTPUT_SCALE = (
    2**-5,
    2**-7,
    2**-3,
    2**-7,
    2**3,
)
HIDDEN_SHIFT, OUTPUT_SHIFT = 9, 13
"""Bits by which an accumulator is larger than what is stored."""


def values(count: int, *, seed: int) -> NDArray[np.int64]:
    """Return numbers from -128 to 127; `probe.c` makes its input with seed 1."""
    state, made = seed, []
    for _ in range(count):
        state = (state * 1664525 + 1013904223) % 2**32
        made.append((state >> 24) - 128)
    return np.array(made, np.int64)


def network_input() -> NDArray[np.int64]:
    return values(SIDE * SIDE * CHANNELS, seed=1).reshape(SIDE, SIDE, CHANNELS)


def filters() -> NDArray[np.int64]:
    return np.maximum(values(FILTERS * 9 * CHANNELS, seed=10), -127).reshape(
        FILTERS, 3, 3, CHANNELS
    )


def weights() -> NDArray[np.int64]:
    count = CLASSES * SIDE * SIDE * FILTERS
    return np.maximum(values(count, seed=3), -127).reshape(CLASSES, SIDE * SIDE * FILTERS)


def filter_biases() -> NDArray[np.int64]:
    return values(FILTERS, seed=4) * 16


def class_biases() -> NDArray[np.int64]:
    return values(CLASSES, seed=5) * 16


def answer() -> tuple[int, ...]:
    """Return what the network gives for `network_input`, by whole-number arithmetic."""
    padded = np.pad(network_input(), ((1, 1), (1, 1), (0, 0)))
    sums = np.zeros((SIDE, SIDE, FILTERS), np.int64) + filter_biases()
    for row in range(3):
        for column in range(3):
            window = padded[row : row + SIDE, column : column + SIDE]
            sums += window @ filters()[:, row, column].T
    hidden = _stored(sums, HIDDEN_SHIFT)
    output = _stored(weights() @ hidden.reshape(-1) + class_biases(), OUTPUT_SHIFT)
    return tuple(int(value) for value in output)


def _stored(sums: NDArray[np.int64], shift: int) -> NDArray[np.int64]:
    """Round to the nearest; ties, which runtimes round differently, must not come up."""
    assert not np.any(sums % 2**shift == 2 ** (shift - 1))
    stored: NDArray[np.int64] = np.clip((sums + 2 ** (shift - 1)) >> shift, -128, 127)
    return stored


def program() -> bytes:
    """Return the network as a `.tflite` file: a 3 x 3 convolution, then a matrix product."""
    model = schema.ModelT(
        version=3,
        operatorCodes=[_code("CONV_2D", 3), _code("FULLY_CONNECTED", 4)],
        buffers=[schema.BufferT()],
        subgraphs=[schema.SubGraphT(tensors=[], inputs=[0], outputs=[6])],
        signatureDefs=[
            schema.SignatureDefT(
                signatureKey=b"serving_default",
                inputs=[schema.TensorMapT(name=b"input", tensorIndex=0)],
                outputs=[schema.TensorMapT(name=b"output", tensorIndex=6)],
            )
        ],
    )
    hidden_bias_scale, output_bias_scale = INPUT_SCALE * FILTER_SCALE, HIDDEN_SCALE * WEIGHT_SCALE
    _add(model, (1, SIDE, SIDE, CHANNELS), INPUT_SCALE, None)
    _add(model, filters().shape, FILTER_SCALE, filters().astype(np.int8), channels=FILTERS)
    _add(model, (FILTERS,), hidden_bias_scale, filter_biases().astype(np.int32), channels=FILTERS)
    _add(model, (1, SIDE, SIDE, FILTERS), HIDDEN_SCALE, None)
    _add(model, weights().shape, WEIGHT_SCALE, weights().astype(np.int8))
    _add(model, (CLASSES,), output_bias_scale, class_biases().astype(np.int32))
    _add(model, (1, CLASSES), OUTPUT_SCALE, None)
    model.subgraphs[0].operators = [
        schema.OperatorT(
            opcodeIndex=0,
            inputs=[0, 1, 2],
            outputs=[3],
            builtinOptionsType=schema.BuiltinOptions.Conv2DOptions,
            builtinOptions=schema.Conv2DOptionsT(
                padding=schema.Padding.SAME,
                strideH=1,
                strideW=1,
                dilationHFactor=1,
                dilationWFactor=1,
            ),
        ),
        schema.OperatorT(
            opcodeIndex=1,
            inputs=[3, 4, 5],
            outputs=[6],
            builtinOptionsType=schema.BuiltinOptions.FullyConnectedOptions,
            builtinOptions=schema.FullyConnectedOptionsT(),
        ),
    ]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _code(name: str, version: int) -> schema.OperatorCodeT:
    number = getattr(schema.BuiltinOperator, name)
    return schema.OperatorCodeT(builtinCode=number, deprecatedBuiltinCode=number, version=version)


def _add(
    model: schema.ModelT,
    shape: tuple[int, ...],
    scale: float,
    constant: NDArray[np.int8] | NDArray[np.int32] | None,
    *,
    channels: int = 1,
) -> None:
    buffer = 0
    if constant is not None:
        model.buffers.append(schema.BufferT(data=np.frombuffer(constant.tobytes(), np.uint8)))
        buffer = len(model.buffers) - 1
    wide = constant is not None and constant.dtype == np.int32
    quantisation = schema.QuantizationParametersT(
        scale=[scale] * channels, zeroPoint=[0] * channels
    )
    model.subgraphs[0].tensors.append(
        schema.TensorT(
            shape=list(shape),
            type=schema.TensorType.INT32 if wide else schema.TensorType.INT8,
            buffer=buffer,
            name=f"tensor_{len(model.subgraphs[0].tensors)}".encode(),
            quantization=quantisation,
        )
    )


if __name__ == "__main__":
    PLACE.write_bytes(program())
    print(answer())  # noqa: T201
