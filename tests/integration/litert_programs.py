"""The test networks as `.tflite` programs, each converted once in a test run."""

import tempfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx, nn

from packager import program, runtimes
from packager.artifacts import Converted, Layout, Precision, Runtime
from packager.converters import Conversion, litert
from packager.target import Io
from tests.networks import INPUT_SHAPES, seeded

FOLDER = tempfile.TemporaryDirectory(prefix="litert-programs-")
CONVERTED: dict[tuple[type[nn.Module], Conversion], Converted] = {}

LAST, FIRST = Layout.CHANNELS_LAST, Layout.CHANNELS_FIRST


def settings(runtime: Runtime, precision: Precision, layout: Layout, io: Precision) -> Conversion:
    return Conversion(
        runtime=runtime, precision=precision, io=Io(layout=layout, dtype=io), rewrites=()
    )


MICRO = settings(Runtime.TFLITE_MICRO, Precision.INT8, LAST, Precision.INT8)
MICRO_FIRST = settings(Runtime.TFLITE_MICRO, Precision.INT8, FIRST, Precision.INT8)
HANDHELD = settings(Runtime.LITERT, Precision.INT8, LAST, Precision.FLOAT32)
HANDHELD_FIRST = settings(Runtime.LITERT, Precision.INT8, FIRST, Precision.FLOAT32)
FLOAT = settings(Runtime.LITERT, Precision.FLOAT32, LAST, Precision.FLOAT32)
FLOAT_FIRST = settings(Runtime.LITERT, Precision.FLOAT32, FIRST, Precision.FLOAT32)


def samples(kind: type[nn.Module], count: int, *, seed: int) -> NDArray[np.float32]:
    """Return prepared samples (count, channels, ...)."""
    shape = (count, *INPUT_SHAPES[kind])
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def network(kind: type[nn.Module]) -> fx.GraphModule:
    """Return the network as a build hands it to a converter."""
    return program.to_module(program.export(seeded(kind), INPUT_SHAPES[kind]))


def convert(kind: type[nn.Module], conversion: Conversion) -> Converted:
    known = CONVERTED.get((kind, conversion))
    if known is None:
        out = Path(tempfile.mkdtemp(dir=FOLDER.name))
        known = litert.convert(out, network(kind), samples(kind, 32, seed=1), conversion)
        CONVERTED[kind, conversion] = known
    return known


def float_answers(kind: type[nn.Module], batch: NDArray[np.float32]) -> NDArray[np.float32]:
    with torch.no_grad():
        answers: NDArray[np.float32] = seeded(kind)(torch.from_numpy(batch)).numpy()
    return answers


def max_abs_error(kind: type[nn.Module], converted: Converted) -> float:
    batch = samples(kind, 16, seed=2)
    answers = runtimes.predict(converted, batch)
    return float(np.abs(answers - float_answers(kind, batch)).max())


def sqnr_db(answers: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    noise = np.square(answers - expected).sum()
    return float(10 * np.log10(np.square(expected).sum() / noise))
