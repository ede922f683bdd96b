"""The test networks as `.pte` programs, each converted once in a test run."""

import json
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx, nn

from packager import program
from packager.artifacts import Converted, Layout, Precision, Runtime
from packager.converters import Conversion
from packager.target import Io
from tests.networks import INPUT_SHAPES, seeded

with warnings.catch_warnings():
    # ExecuTorch and torchao warn of their own code as they are imported.
    warnings.simplefilter("ignore")
    from executorch.backends.xnnpack import serialization
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir._serialize._flatbuffer import _flatc_decompile
    from executorch.exir._serialize._program import _extract_delegate_payload

    from packager.converters import executorch

FOLDER = tempfile.TemporaryDirectory(prefix="executorch-programs-")
CONVERTED: dict[tuple[type[nn.Module], Precision], Converted] = {}


def settings(precision: Precision) -> Conversion:
    io = Io(layout=Layout.CHANNELS_FIRST, dtype=Precision.FLOAT32)
    return Conversion(runtime=Runtime.EXECUTORCH, precision=precision, io=io, rewrites=())


INT8, FLOAT32 = settings(Precision.INT8), settings(Precision.FLOAT32)


def samples(shape: tuple[int, ...], count: int, *, seed: int) -> NDArray[np.float32]:
    """Return prepared samples (count, channels, ...)."""
    return np.random.default_rng(seed).standard_normal((count, *shape)).astype(np.float32)


def network(kind: type[nn.Module]) -> fx.GraphModule:
    """Return the network as a build hands it to a converter."""
    return program.to_module(program.export(seeded(kind), INPUT_SHAPES[kind]))


def convert_here(
    out: Path, module: nn.Module, shape: tuple[int, ...], conversion: Conversion
) -> Converted:
    torch.set_num_threads(1)
    return executorch.convert(out, module.eval(), samples(shape, 16, seed=1), conversion)


def convert(kind: type[nn.Module], conversion: Conversion) -> Converted:
    known = CONVERTED.get((kind, conversion.precision))
    if known is None:
        out = Path(tempfile.mkdtemp(dir=FOLDER.name))
        known = convert_here(out, network(kind), INPUT_SHAPES[kind], conversion)
        CONVERTED[kind, conversion.precision] = known
    return known


def uses(kind: type[nn.Module], *, xnnpack: bool) -> tuple[executorch.Use, ...]:
    """Return what a float32 network is lowered to, with XNNPACK's partitioner or with none."""
    captured = torch.export.export(network(kind), (torch.zeros(1, *INPUT_SHAPES[kind]),))
    partitioners = [XnnpackPartitioner()] if xnnpack else []
    return executorch.operator_uses(*executorch.lower(captured, partitioners), Precision.FLOAT32)


def torch_answers(module: nn.Module, batch: NDArray[np.float32]) -> NDArray[np.float32]:
    with torch.no_grad():
        answers: NDArray[np.float32] = module(torch.from_numpy(batch)).numpy()
    return answers


def sqnr_db(answers: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    noise = np.square(answers - expected).sum()
    return float(10 * np.log10(np.square(expected).sum() / noise))


# What XNNPACK itself was told, read back from the shipped file: its own operators and types.
XNNPACK_NAMES = {
    "XNNAdd": "aten.add.Tensor",
    "XNNBatchMatrixMultiply": "aten.bmm.default",
    "XNNConv2d": "aten.convolution.default",
    "XNNDepthwiseConv2d": "aten.convolution.default",
    "XNNFullyConnected": "aten.linear.default",
    "XNNGelu": "aten.gelu.default",
    "XNNGlobalAvgPooling2d": "aten.mean.dim",
    "XNNSoftmax": "aten._softmax.default",
}
XNNPACK_TYPES = {
    "xnn_datatype_fp32": "float32",
    "xnn_datatype_qcint8": "int8, one scale for each channel",
    "xnn_datatype_qint8": "int8",
}


@dataclass(frozen=True)
class Shipped:
    """An operator as XNNPACK is told of it; `weight` is empty where it has none."""

    operator: str
    output: str
    weight: str


def shipped_operators(content: bytes) -> list[Shipped]:
    """Return what XNNPACK computes, read back from a program's bytes."""
    shipped = []
    for text in _delegate_graphs(content):
        graph = json.loads(text.replace(": inf", ": Infinity").replace(": -inf", ": -Infinity"))
        values = [value["xvalue_union"] for value in graph["xvalues"]]
        tensors = [value.get("tensor_value", value) for value in values]
        types = {t["id_out"]: XNNPACK_TYPES.get(t["datatype"], "") for t in tensors}
        for node in graph["xnodes"]:
            name, union = XNNPACK_NAMES.get(node["xnode_union_type"]), node["xnode_union"]
            if name is not None:
                output, weight = types[union["output_id"]], types.get(union.get("filter_id"), "")
                shipped.append(Shipped(name, output, weight))
    return shipped


def _delegate_graphs(content: bytes) -> Iterator[str]:
    """Yield each XNNPACK graph of a program as JSON."""
    schema = Path(next(iter(serialization.__path__))) / "schema.fbs"
    index = 0
    while (payload := _extract_delegate_payload(content, "xnnpack", index)) is not None:
        # The payload's header: 4 bytes, magic, 2 bytes of length, place and size of the graph.
        start, size = (int.from_bytes(payload[at : at + 4], "little") for at in (10, 14))
        with tempfile.TemporaryDirectory() as folder:
            binary = Path(folder) / "graph.bin"
            binary.write_bytes(payload[start : start + size])
            _flatc_decompile(folder, str(schema), str(binary), ["--raw-binary", "--strict-json"])
            yield binary.with_suffix(".json").read_text()
        index += 1
