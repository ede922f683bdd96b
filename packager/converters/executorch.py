"""ExecuTorch programs for Android: XNNPACK's kernels, in int8 by PT2E static quantisation.

What XNNPACK does not take runs on ExecuTorch's own CPU kernels: rightly, without a word,
and for a whole network about 300 times slower. So every operator that stayed outside is
listed, with the partitioner's reason.
"""

import logging
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
    XNNPACKQuantizer,
    get_symmetric_quantization_config,
)
from executorch.backends.xnnpack.utils.quant_utils import (
    is_dequant,
    is_quant,
    is_tagged_as_implicit_q_dq,
)
from executorch.exir import EdgeProgramManager, to_edge_transform_and_lower
from executorch.exir.backend.canonical_partitioners.config_partitioner import format_target_name
from executorch.exir.lowered_backend_module import get_lowered_submodules
from numpy.typing import NDArray
from torch import Tensor, fx, nn
from torch.export import ExportedProgram, export
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

from packager import runtimes
from packager.artifacts import (
    Converted,
    Fallback,
    File,
    Layout,
    OperatorCount,
    Precision,
    TensorIo,
)
from packager.converters import Conversion
from packager.errors import ConversionError
from packager.target import Io

PROGRAM = "model.pte"
# Where XNNPACK's partitioner says, at DEBUG, why it leaves a node alone.
REASONS_LOGGER = "executorch.backends.xnnpack.partition.config"
# Not of the model: the call of a delegate, and what takes its results apart.
PLUMBING = frozenset({"getitem", "executorch_call_delegate"})
# These move values and compute nothing: in float32 they cost neither accuracy nor a kernel.
MOVES = frozenset({"cat", "clone", "_clone_dim_order", "_to_dim_order_copy", "constant_pad_nd"})
RECURRENT = re.compile(r"\b(lstm|gru|rnn_tanh|rnn_relu)\b")


@dataclass(frozen=True, kw_only=True)
class Use:
    """One operator of a lowered program.

    Attributes:
        operator: Such as `aten.mean.dim`.
        dtype: What it computes in, such as `int8`.
        reason: Why it is slower than it could be; empty where it is not.
    """

    operator: str
    dtype: str
    reason: str


def convert(
    out: Path, network: nn.Module, calibration: NDArray[np.float32], settings: Conversion
) -> Converted:
    """Write `out`/model.pte for one sample at a time, and try it with ExecuTorch's runtime.

    The same network and calibration give the same bytes; no source file is named in them.

    Args:
        out: An existing folder.
        network: In eval mode; float32 (batch, channels, ...) to (batch, outputs).
        calibration: Prepared samples (n, channels, ...), at least one; they decide the
            int8 ranges.
        settings: Its rewrites have been applied to `network` already.

    Raises:
        UnsupportedOperatorError: ExecuTorch's runtime lacks an operator.
        ConversionError: The target asks for inputs that an ExecuTorch program does not take,
            or the runtime cannot run what was written.
    """
    _require_plain_input(settings.io)
    example = torch.from_numpy(calibration[:1])
    with torch.no_grad():
        answer = network(example)
    program = export(network, (example,))
    if settings.precision is Precision.INT8:
        program = _quantise(program, calibration)
    edge, reasons = lower(program, [XnnpackPartitioner()])
    uses = operator_uses(edge, reasons, settings.precision)
    path = out / PROGRAM
    path.write_bytes(edge.to_executorch().buffer)
    converted = Converted(
        program=File.of(path),
        runtime=settings.runtime,
        precision=settings.precision,
        input=_float_io(example),
        output=_float_io(answer),
        operators=count_operators(uses),
        fallbacks=count_fallbacks(uses),
    )
    # Some kernels are missing, and some refuse what they are given, only when they run.
    runtimes.open_session(converted).run(calibration[:1])
    return converted


def _require_plain_input(io: Io) -> None:
    if io.layout is not Layout.CHANNELS_FIRST or io.dtype is not Precision.FLOAT32:
        message = (
            f"io: ExecuTorch targets take {Layout.CHANNELS_FIRST} {Precision.FLOAT32} inputs, "
            f"not {io.layout} {io.dtype}. Change [io] in the target's target.toml."
        )
        raise ConversionError(message)


def _float_io(tensor: Tensor) -> TensorIo:
    return TensorIo(
        shape=tuple(tensor.shape), layout=Layout.CHANNELS_FIRST, dtype=Precision.FLOAT32
    )


def _quantise(program: ExportedProgram, calibration: NDArray[np.float32]) -> ExportedProgram:
    """Return the program in static int8, with one scale for each output channel of a weight."""
    quantizer = XNNPACKQuantizer().set_global(
        get_symmetric_quantization_config(is_per_channel=True, is_dynamic=False)
    )
    # PyTorch's guards are a submodule of their own, which later passes do not know.
    prepared = prepare_pt2e(program.module(check_guards=False), quantizer)
    samples = torch.from_numpy(calibration)
    with torch.no_grad():
        for sample in samples:
            prepared(sample.unsqueeze(0))
    return export(convert_pt2e(prepared), (samples[:1],))


def lower(
    program: ExportedProgram, partitioners: list[XnnpackPartitioner]
) -> tuple[EdgeProgramManager, dict[str, str]]:
    """Hand what the partitioners take to their delegates.

    Returns:
        The lowered program, and why a partitioner left a node outside, by the node's name.
    """
    with _listening() as reasons:
        return to_edge_transform_and_lower(program, partitioner=partitioners), reasons


class _Listener(logging.Handler):
    """Collects the partitioner's reasons."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.reasons: dict[str, str] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Note a reason; the message is not a text, but an object with node and reason."""
        node, reason = getattr(record.msg, "node", None), getattr(record.msg, "reason", "")
        if isinstance(node, fx.Node):
            self.reasons[node.name] = str(reason)


@contextmanager
def _listening() -> Iterator[dict[str, str]]:
    """Listen to the partitioner; its logger is left as it was found."""
    logger, listener = logging.getLogger(REASONS_LOGGER), _Listener()
    level, propagate = logger.level, logger.propagate
    logger.addHandler(listener)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    try:
        yield listener.reasons
    finally:
        logger.propagate = propagate
        logger.setLevel(level)
        logger.removeHandler(listener)


def operator_uses(
    edge: EdgeProgramManager, reasons: dict[str, str], precision: Precision
) -> tuple[Use, ...]:
    """List the operators of a lowered program: those outside its delegates, then those inside.

    Args:
        edge: A lowered program, not yet in ExecuTorch's own form.
        reasons: Why the partitioner left a node outside, by the node's name.
        precision: What the program was to compute in.
    """
    module = edge.exported_program().graph_module
    outside = [
        Use(operator=_name(node), dtype=_dtype(node), reason=_outside_reason(node, reasons))
        for node in _calls(module)
    ]
    inside = [
        _delegated_use(node, precision)
        for _, delegate, _ in get_lowered_submodules(module)
        for node in _calls(delegate.original_module.graph_module)
        if not is_tagged_as_implicit_q_dq(node)
    ]
    return (*outside, *inside)


def _calls(module: fx.GraphModule) -> list[fx.Node]:
    return [n for n in module.graph.nodes if n.op == "call_function" and _name(n) not in PLUMBING]


def _name(node: fx.Node) -> str:
    return str(getattr(node.target, "__name__", node.target))


def _dtype(node: fx.Node) -> str:
    value = node.meta.get("val")
    first = value[0] if isinstance(value, tuple | list) else value
    return str(first.dtype).removeprefix("torch.") if isinstance(first, Tensor) else "scalar"


def _outside_reason(node: fx.Node, reasons: dict[str, str]) -> str:
    if node.name in reasons:
        return f"XNNPACK did not take it: {reasons[node.name]}."
    if format_target_name(_name(node)) in XnnpackPartitioner().target_partitioner_configs:
        return "XNNPACK's partitioner left it to ExecuTorch's own CPU kernel, without a reason."
    return "XNNPACK's partitioner does not know it; it runs on ExecuTorch's own CPU kernel."


def _delegated_use(node: fx.Node, precision: Precision) -> Use:
    """Return what becomes of a node inside a delegate.

    In the graph each quantised operator stands between a dequantisation and a
    quantisation, and its own tensors are float32. Where XNNPACK fuses the three, the
    partitioner has marked the outer two; where it has not, float32 is meant.
    """
    name, dtype = _name(node), _dtype(node)
    if is_quant(node) or is_dequant(node):
        return Use(operator=name, dtype=dtype, reason="")
    if any(is_tagged_as_implicit_q_dq(n) for n in (*node.all_input_nodes, *node.users)):
        return Use(operator=name, dtype="int8", reason="")
    island = precision is Precision.INT8 and dtype == "float32" and not _moves(name)
    return Use(operator=name, dtype=dtype, reason=_island_reason(node) if island else "")


def _moves(operator: str) -> bool:
    plain = operator.split(".")[1]
    return plain.endswith("_copy") or plain in MOVES


def _island_reason(node: fx.Node) -> str:
    source = RECURRENT.search(str(node.meta.get("torch_fn")))
    if source:
        return (
            f"XNNPACK runs it in float32: its quantizer does not see inside {source[0]}, "
            "which int8 makes neither smaller nor faster."
        )
    return "XNNPACK runs it in float32: its quantizer has no int8 form of it here."


def count_operators(uses: tuple[Use, ...]) -> tuple[OperatorCount, ...]:
    """Count by operator and type, sorted by name."""
    counts = Counter((use.operator, use.dtype) for use in uses)
    return tuple(
        OperatorCount(operator=operator, dtype=dtype, count=count)
        for (operator, dtype), count in sorted(counts.items())
    )


def count_fallbacks(uses: tuple[Use, ...]) -> tuple[Fallback, ...]:
    """Count the operators that are slower than they could be, by name and reason."""
    counts = Counter((use.operator, use.reason) for use in uses if use.reason)
    return tuple(
        Fallback(operator=operator, count=count, reason=reason)
        for (operator, reason), count in sorted(counts.items())
    )
