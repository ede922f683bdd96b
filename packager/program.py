"""Networks between stages: `torch.export` programs, and modules made from them.

A program is what a stage stores: plain tensors and ATen operators, no user code and no
pickle. A module is what a stage works on: `load` gives convolutions, linear layers and
norms back their own modules, which pruning and training need, and keeps the names that
the user gave them.
"""

import functools
import io
import operator
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, fx, nn
from torch.utils.flop_counter import FlopCounterMode

from packager.artifacts import Cost, File, OperatorUse
from packager.errors import ModelError
from packager.safe_archive import require_safe
from packager.storage import write_whole

aten = torch.ops.aten
Attributes = dict[str, Tensor | None]
Maker = Callable[[fx.Node, Callable[[object], Tensor | None]], nn.Module]

# Two samples, because a batch of one is taken for a constant.
EXAMPLE_BATCH = 2
FRAME = re.compile(r'File "([^"]+)", line (\d+)')


def export(network: nn.Module, input_shape: tuple[int, ...]) -> torch.export.ExportedProgram:
    """Capture a network in eval mode, with a dynamic batch.

    Args:
        network: Takes one tensor float32 (batch, *input_shape), returns one tensor.
        input_shape: Of one sample.

    Raises:
        Exception: Whatever `torch.export` raises; see `sources.torch_module` for users'
            networks.
    """
    example = torch.zeros(EXAMPLE_BATCH, *input_shape)
    batch = torch.export.Dim("batch", min=1)
    network.eval()
    with torch.no_grad():
        return torch.export.export(network, (example,), dynamic_shapes=({0: batch},))


def save(network: nn.Module, path: Path, input_shape: tuple[int, ...]) -> File:
    """Export a network and write it to `path`; the same network gives the same bytes."""
    return save_program(export(network, input_shape), path)


def save_program(program: torch.export.ExportedProgram, path: Path) -> File:
    """Write a program without the paths of the source files that it came from."""
    for node in program.graph.nodes:
        # What else is noted of a node names source files, and objects by their address.
        node.meta = {key: node.meta[key] for key in ("val", "tensor_meta") if key in node.meta}
    # The example inputs would make the bytes depend on what the stage happened to run.
    program._example_inputs = None
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    write_whole(path, buffer.getvalue())
    return File.of(path)


def load(file: File) -> fx.GraphModule:
    """Return the network of a program, in eval mode, with modules for its layers.

    Returns:
        Takes float32 (batch, *input_shape), returns one tensor (batch, ...).

    Raises:
        ModelError: The file is damaged, could run code, or has several inputs or outputs.
    """
    return to_module(load_program(file.path))


def load_program(path: Path) -> torch.export.ExportedProgram:
    """Read a `.pt2` file that may come from anywhere.

    Raises:
        ModelError: The file is damaged or could run code.
    """
    require_safe(path)
    try:
        return torch.export.load(path)
    except (RuntimeError, ValueError, KeyError, AssertionError, TypeError) as error:
        first = str(error).partition("\n")[0]
        remedy = "Write it with torch.export.save of PyTorch 2.13."
        raise ModelError(str(path), f"is not a readable program: {first}. {remedy}") from None


def to_module(program: torch.export.ExportedProgram) -> fx.GraphModule:
    """Return the program's network, with modules in place of functional layers.

    Raises:
        ModelError: The network has several inputs or outputs.
    """
    flat = program.module(check_guards=False)
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in flat.graph.nodes:
        if node.op == "output":
            graph.output(copies[_single(node.args[0], "outputs")])
        else:
            copies[node] = graph.node_copy(node, lambda n: copies[n])
    _single([n for n in graph.nodes if n.op == "placeholder"], "inputs")
    root: dict[str, object] = dict(flat.named_parameters()) | dict(flat.named_buffers())
    module = _Modules(graph, root).build()
    module.eval()
    return module


def _single(values: object, what: str) -> fx.Node:
    if isinstance(values, fx.Node):
        return values
    nodes = [v for v in cast("Iterable[object]", values) if isinstance(v, fx.Node)]
    if len(nodes) != 1:
        remedy = "packager takes networks with one input tensor and one output tensor."
        raise ModelError("model", f"has {len(nodes)} {what}. {remedy}")
    return nodes[0]


class _Modules:
    """Replaces the functional layers of a graph by modules, one for each set of weights."""

    def __init__(self, graph: fx.Graph, attributes: dict[str, object]) -> None:
        self.graph = graph
        self.attributes = attributes
        self.root: dict[str, object] = dict(attributes)

    def build(self) -> fx.GraphModule:
        for node in list(self.graph.nodes):
            maker = MAKERS.get(node.target) if node.op == "call_function" else None
            if maker is not None:
                self._replace(node, maker)
        _flatten_baked_views(self.graph)
        for node in self.graph.find_nodes(op="get_attr"):
            if not node.users:
                self.graph.erase_node(node)
        module = fx.GraphModule(self.root, self.graph)
        module.graph.eliminate_dead_code()
        module.recompile()
        return module

    def _replace(self, node: fx.Node, maker: Maker) -> None:
        values = [a for a in node.args[1:] if isinstance(a, fx.Node)]
        if any(v.op != "get_attr" for v in values):
            return  # weights that are computed, as in a hypernetwork, stay functional
        layer = maker(node, self._tensor)
        name = self._place(node, layer)
        with self.graph.inserting_after(node):
            call = self.graph.call_module(name, (node.args[0],))
        call.meta = dict(node.meta)
        node.replace_all_uses_with(call)
        self.graph.erase_node(node)

    def _tensor(self, value: object) -> Tensor | None:
        if not isinstance(value, fx.Node):
            return None
        return cast("Tensor", self.attributes[str(value.target)])

    def _place(self, node: fx.Node, layer: nn.Module) -> str:
        """Return the name of a module for `layer`, shared where its weights are shared."""
        weights = [str(a.target) for a in node.args[1:] if isinstance(a, fx.Node)]
        stem = weights[0].rpartition(".")[0] if weights else ""
        wanted = stem or f"layer_{node.name}"
        name = wanted
        suffix = 1
        while name in self.root:
            known = self.root[name]
            if isinstance(known, nn.Module) and repr(known) == repr(layer) and weights:
                return name
            suffix += 1
            name = f"{wanted}_{suffix}"
        self.root[name] = layer
        return name


def _argument(node: fx.Node, index: int, name: str, default: object) -> object:
    if index < len(node.args):
        return node.args[index]
    return node.kwargs.get(name, default)


def _parameter(tensor: Tensor) -> nn.Parameter:
    return tensor if isinstance(tensor, nn.Parameter) else nn.Parameter(tensor)


def _set_weights(layer: nn.Module, weight: Tensor | None, bias: Tensor | None) -> nn.Module:
    if weight is not None:
        layer.weight = _parameter(weight)
    if bias is not None:
        layer.bias = _parameter(bias)
    return layer


def _make_conv(
    kind: type[nn.Module], node: fx.Node, tensor: Callable[[object], Tensor | None]
) -> nn.Module:
    weight, bias = tensor(node.args[1]), tensor(_argument(node, 2, "bias", None))
    assert weight is not None, "a convolution has a weight"
    groups = cast("int", _argument(node, 6, "groups", 1))
    layer = kind(
        weight.shape[1] * groups,
        weight.shape[0],
        tuple(weight.shape[2:]),
        stride=_sizes(node, 3, "stride", 1, weight),
        padding=_padding(node, weight),
        dilation=_sizes(node, 5, "dilation", 1, weight),
        groups=groups,
        bias=bias is not None,
    )
    return _set_weights(layer, weight, bias)


def _make_transposed_conv(
    kind: type[nn.Module], node: fx.Node, tensor: Callable[[object], Tensor | None]
) -> nn.Module:
    weight, bias = tensor(node.args[1]), tensor(_argument(node, 2, "bias", None))
    assert weight is not None, "a convolution has a weight"
    groups = cast("int", _argument(node, 6, "groups", 1))
    layer = kind(
        weight.shape[0],
        weight.shape[1] * groups,
        tuple(weight.shape[2:]),
        stride=_sizes(node, 3, "stride", 1, weight),
        padding=_sizes(node, 4, "padding", 0, weight),
        output_padding=_sizes(node, 5, "output_padding", 0, weight),
        groups=groups,
        bias=bias is not None,
        dilation=_sizes(node, 7, "dilation", 1, weight),
    )
    return _set_weights(layer, weight, bias)


def _sizes(node: fx.Node, index: int, name: str, default: int, weight: Tensor) -> tuple[int, ...]:
    """Return one size for each axis of the kernel; ATen lets one stand for all."""
    given = _argument(node, index, name, default)
    sizes = [given] if isinstance(given, int) else list(cast("Iterable[int]", given))
    axes = weight.dim() - 2
    return tuple(sizes * axes if len(sizes) == 1 else sizes)


def _padding(node: fx.Node, weight: Tensor) -> tuple[int, ...] | str:
    given = _argument(node, 4, "padding", 0)
    return given if isinstance(given, str) else _sizes(node, 4, "padding", 0, weight)


def _make_linear(node: fx.Node, tensor: Callable[[object], Tensor | None]) -> nn.Module:
    weight, bias = tensor(node.args[1]), tensor(_argument(node, 2, "bias", None))
    assert weight is not None, "a linear layer has a weight"
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    return _set_weights(layer, weight, bias)


def _make_batch_norm(node: fx.Node, tensor: Callable[[object], Tensor | None]) -> nn.Module:
    weight, bias, mean, variance = (tensor(node.args[i]) for i in (1, 2, 3, 4))
    assert mean is not None, "a batch norm in eval mode has running statistics"
    assert variance is not None, "a batch norm in eval mode has running statistics"
    rank = len(cast("fx.Node", node.args[0]).meta["val"].shape)
    kind = {4: nn.BatchNorm2d, 5: nn.BatchNorm3d}.get(rank, nn.BatchNorm1d)
    eps, momentum = cast("float", node.args[7]), cast("float", node.args[6])
    layer = kind(mean.shape[0], eps=eps, momentum=momentum, affine=weight is not None)
    layer.running_mean, layer.running_var = mean, variance
    return _set_weights(layer, weight, bias)


def _make_layer_norm(node: fx.Node, tensor: Callable[[object], Tensor | None]) -> nn.Module:
    shape = tuple(cast("list[int]", node.args[1]))
    weight = tensor(_argument(node, 2, "weight", None))
    bias = tensor(_argument(node, 3, "bias", None))
    eps = cast("float", _argument(node, 4, "eps", 1e-5))
    layer = nn.LayerNorm(shape, eps, elementwise_affine=weight is not None, bias=bias is not None)
    return _set_weights(layer, weight, bias)


def _make_dropout(node: fx.Node, _tensor: Callable[[object], Tensor | None]) -> nn.Module:
    return nn.Dropout(cast("float", node.args[1]))


MAKERS: dict[object, Maker] = {
    aten.conv1d.default: functools.partial(_make_conv, nn.Conv1d),
    aten.conv2d.default: functools.partial(_make_conv, nn.Conv2d),
    aten.conv2d.padding: functools.partial(_make_conv, nn.Conv2d),
    aten.conv1d.padding: functools.partial(_make_conv, nn.Conv1d),
    aten.conv3d.default: functools.partial(_make_conv, nn.Conv3d),
    aten.conv_transpose1d.default: functools.partial(_make_transposed_conv, nn.ConvTranspose1d),
    aten.conv_transpose2d.input: functools.partial(_make_transposed_conv, nn.ConvTranspose2d),
    aten.linear.default: _make_linear,
    aten.batch_norm.default: _make_batch_norm,
    aten.layer_norm.default: _make_layer_norm,
    aten.dropout.default: _make_dropout,
}


def _flatten_baked_views(graph: fx.Graph) -> None:
    """Turn `x.view(-1, 400)` into `x.flatten(1)` where both mean the same.

    A pruned network has fewer channels, and a size that the user's code computed from the
    old number of them would no longer fit.
    """
    for node in graph.nodes:
        if node.target not in {aten.view.default, aten.reshape.default}:
            continue
        source, result = cast("fx.Node", node.args[0]).meta["val"], node.meta["val"]
        rest = functools.reduce(operator.mul, source.shape[1:], 1)
        if result.dim() == 2 and result.shape[1] == rest:
            node.target = aten.flatten.using_ints
            node.args = (node.args[0], 1)


def operators(program: torch.export.ExportedProgram) -> tuple[OperatorUse, ...]:
    """List the ATen operators of a freshly exported program, in order."""
    return tuple(
        OperatorUse(operator=_operator_name(node), where=_user_line(node), dims=_rank(node))
        for node in program.graph.nodes
        if node.op == "call_function" and node.target is not operator.getitem
    )


def _operator_name(node: fx.Node) -> str:
    return str(node.target).removeprefix("torch.ops.")


def _rank(node: fx.Node) -> int:
    value = next((a.meta.get("val") for a in node.args if isinstance(a, fx.Node)), None)
    return value.dim() if isinstance(value, Tensor) else 0


def _user_line(node: fx.Node) -> str:
    frames = FRAME.findall(node.meta.get("stack_trace") or "")
    own = [(path, line) for path, line in frames if not is_library(path)]
    return f"{Path(own[-1][0]).name}:{own[-1][1]}" if own else ""


def is_library(path: str) -> bool:
    """Return whether a source file belongs to an installed package, not to the user."""
    return "site-packages" in path or "dist-packages" in path or path.startswith("<")


def cost(network: nn.Module, input_shape: tuple[int, ...]) -> Cost:
    """Count parameters and multiply-accumulates for one sample.

    MACs are those of convolutions and matrix products, half of what PyTorch's
    `FlopCounterMode` counts.
    """
    example = torch.zeros(1, *input_shape)
    counter = FlopCounterMode(display=False)
    network.eval()
    with counter, torch.no_grad():
        network(example)
    weights = [layer.weight for layer in weighted_layers(network)]
    zeros = sum(int((w == 0).sum()) for w in weights)
    return Cost(
        parameters=sum(p.numel() for p in network.parameters()),
        macs=counter.get_total_flops() // 2,
        sparsity_ratio=zeros / max(1, sum(w.numel() for w in weights)),
    )


Weighted = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.ConvTranspose1d | nn.ConvTranspose2d | nn.Linear


def weighted_layers(network: nn.Module) -> list[Weighted]:
    """Return the convolutions and linear layers, in the order of the network's modules."""
    return [layer for layer in network.modules() if isinstance(layer, Weighted)]


def require_finite(network: nn.Module) -> None:
    """Fail if a weight is NaN or infinite.

    Raises:
        ModelError: Names the first tensor that holds one.
    """
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            count = int((~torch.isfinite(tensor)).sum())
            problem = f"{count} of {tensor.numel()} values are NaN or infinite"
            raise ModelError(
                f"model.{name}", f"{problem}. Training diverged, or the file is damaged."
            )


def require_outputs(network: nn.Module, input_shape: tuple[int, ...], outputs: int) -> None:
    """Fail unless the network returns (batch, outputs).

    Raises:
        ModelError: The shape is another one than the contract's labels need.
    """
    network.eval()
    with torch.no_grad():
        shape = tuple(network(torch.zeros(EXAMPLE_BATCH, *input_shape)).shape)
    if shape != (EXAMPLE_BATCH, outputs):
        expected = f"({EXAMPLE_BATCH}, {outputs})"
        problem = f"returns {shape} for {EXAMPLE_BATCH} samples; contract.labels need {expected}."
        raise ModelError("model", problem)
