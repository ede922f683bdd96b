"""Changes to a network that make it fit a target; each only where the recipe asks for it."""

import copy
from collections.abc import Callable
from typing import assert_never, cast

import torch
from torch import Tensor, fx, nn
from torch.fx.proxy import GraphAppendingTracer
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from packager.errors import ConfigError, ConversionError
from packager.recipe import Rewrite

aten = torch.ops.aten

ATTENTION = aten.scaled_dot_product_attention.default
ATTENTION_CALLS = {ATTENTION, functional.scaled_dot_product_attention}
QKV = ("query", "key", "value")
GELU_CALLS = {aten.gelu.default, functional.gelu}
# exp(-10000) is 0 in float32, so that a masked score counts for nothing. Infinity would do
# as well, but no int8 range can be calibrated around it.
MASKED = 1e4


def apply(network: nn.Module, rewrites: tuple[Rewrite, ...]) -> nn.Module:
    """Return a copy of the network with the rewrites applied, in their order.

    Args:
        network: In eval mode: what `program.load` returns, or a module that `torch.fx`
            can trace.
        rewrites: What the recipe asks for.

    Raises:
        ConfigError: A rewrite finds nothing to change.
        ConversionError: An attention does what its rewrite cannot express.
    """
    if not rewrites:
        return network
    graph_module = copy.deepcopy(network)
    if not isinstance(graph_module, fx.GraphModule):
        graph_module = fx.symbolic_trace(graph_module)
    for rewrite in rewrites:
        if not _change_for(rewrite)(graph_module):
            problem = f"{rewrite.value!r} changes nothing in this model; remove it."
            raise ConfigError("convert.rewrites", problem)
    graph_module.delete_all_unused_submodules()
    graph_module.recompile()
    return graph_module


def _change_for(rewrite: Rewrite) -> Callable[[fx.GraphModule], int]:
    """Return what applies the rewrite in place and tells how many places it changed."""
    match rewrite:
        case Rewrite.FOLD_BATCHNORM1D:
            return _fold_batchnorm1d
        case Rewrite.EXPLICIT_ATTENTION:
            return _write_out_attention
        case Rewrite.GELU_TO_SIGMOID:
            return _replace_gelu
        case _:
            assert_never(rewrite)


def _fold_batchnorm1d(module: fx.GraphModule) -> int:
    """Fold each BatchNorm1d into the convolution or linear layer right before it; exact."""
    calls = list(module.graph.find_nodes(op="call_module"))
    targets = [str(node.target) for node in calls]
    changed = 0
    for node in calls:
        layer = node.args[0] if node.args else None
        if not isinstance(layer, fx.Node) or targets.count(str(layer.target)) != 1:
            continue  # a layer that is called twice has only one set of weights to fold into
        folded = _folded(module, layer, node)
        if folded is not None and len(layer.users) == 1:
            module.set_submodule(str(layer.target), folded)
            node.replace_all_uses_with(layer)
            module.graph.erase_node(node)
            changed += 1
    return changed


def _folded(module: fx.GraphModule, layer: fx.Node, norm: fx.Node) -> nn.Module | None:
    """Return one module for layer and norm, or None where they are not of the kinds."""
    before = module.get_submodule(str(layer.target))
    after = module.get_submodule(str(norm.target))
    if not isinstance(after, nn.BatchNorm1d):
        return None
    if isinstance(before, nn.Conv1d):
        return fuse_conv_bn_eval(before, after)
    if isinstance(before, nn.ConvTranspose1d):
        return fuse_conv_bn_eval(before, after, transpose=True)
    # On (batch, length, features) a linear layer and a norm work along different axes.
    if isinstance(before, nn.Linear) and _rank(layer) == 2:
        return fuse_linear_bn_eval(before, after)
    return None


def _rank(node: fx.Node) -> int | None:
    value = node.meta.get("val")
    return value.dim() if isinstance(value, Tensor) else None


def _write_out_attention(module: fx.GraphModule) -> int:
    """Replace fused attention by two matrix products and a softmax; exact.

    PyTorch's own decomposition guards against rows that mask everything, with operators
    that no accelerator takes. Such a row gives 0 there, and here the mean of the values.
    """
    calls = [node for node in module.graph.nodes if node.target in ATTENTION_CALLS]
    for node in calls:
        given = _arguments(node)
        _require_plain(given)
        with module.graph.inserting_before(node):
            _replace(module, node, _attend(given, _penalty(module, node, given)))
    return len(calls)


def _arguments(node: fx.Node) -> dict[str, object]:
    """Return an attention's arguments by name, tensors as proxies that extend its graph.

    `torch.nn.functional` and ATen agree on names and order.
    """
    schema = ATTENTION._schema.arguments
    defaults = {argument.name: argument.default_value for argument in schema}
    given = {**defaults, **dict(zip(defaults, node.args, strict=False)), **node.kwargs}
    tracer = GraphAppendingTracer(node.graph)
    return {k: fx.Proxy(v, tracer) if isinstance(v, fx.Node) else v for k, v in given.items()}


def _require_plain(given: dict[str, object]) -> None:
    heads = {tuple(str(size) for size in _value(given[n]).shape[:-2]) for n in QKV}
    odd = {
        "dropout": given["dropout_p"] != 0.0,
        "grouped queries": bool(given["enable_gqa"]),
        "different heads for query, key and value": len(heads) > 1,
    }
    found = [name for name, is_so in odd.items() if is_so]
    if found:
        message = (
            f"convert.rewrites: {Rewrite.EXPLICIT_ATTENTION.value!r} cannot write out attention "
            f"with {' and '.join(found)}. Remove the rewrite, or change the model."
        )
        raise ConversionError(message)


def _value(tensor: object) -> Tensor:
    """Return an example of what a proxy stands for: its shape and type, not its content."""
    return cast("Tensor", cast("fx.Proxy", tensor).node.meta["val"])


def _penalty(module: fx.GraphModule, node: fx.Node, given: dict[str, object]) -> Tensor | None:
    """Return what to take off the scores of masked keys, or None where nothing is masked.

    It is a difference, as XNNPACK's quantizer would give a sum an int8 range that leaves
    the scores next to nothing beside the mask.
    """
    if isinstance(given["attn_mask"], fx.Proxy):
        mask = cast("Tensor", given["attn_mask"])
        if _value(mask).dtype is torch.bool:
            return torch.logical_not(mask).to(torch.float32) * MASKED
        return torch.clamp(-mask, max=MASKED)
    if not given["is_causal"]:
        return None
    queries, keys = (int(_value(given[name]).shape[-2]) for name in ("query", "key"))
    name = f"{node.name}_penalty"
    module.register_buffer(name, torch.full((queries, keys), MASKED).triu(1))
    tracer = cast("fx.Proxy", given["query"]).tracer
    return cast("Tensor", fx.Proxy(module.graph.get_attr(name), tracer))


def _attend(given: dict[str, object], penalty: Tensor | None) -> Tensor:
    """Build softmax(query key^T * scale - penalty) value, on three axes.

    A product of four-dimensional tensors would expand both, even where they fit, and the
    copies run outside the accelerator.
    """
    query, key, value = (cast("Tensor", given[name]) for name in QKV)
    scale = query.shape[-1] ** -0.5 if given["scale"] is None else cast("float", given["scale"])
    heads = query.shape[:-2]
    scores = torch.bmm((query * scale).flatten(0, -3), key.flatten(0, -3).transpose(1, 2))
    if penalty is not None:
        scores = (scores.unflatten(0, heads) - penalty).flatten(0, -3)
    mixed: Tensor = torch.bmm(scores.softmax(-1), value.flatten(0, -3)).unflatten(0, heads)
    return mixed


def _replace_gelu(module: fx.GraphModule) -> int:
    """Replace GELU by x * sigmoid(1.702 x), which differs from it by 0.0204 at most."""
    calls = [node for node in module.graph.nodes if _is_gelu(module, node)]
    for node in calls:
        with module.graph.inserting_before(node):
            x = cast("Tensor", fx.Proxy(cast("fx.Node", node.args[0])))
            _replace(module, node, x * torch.sigmoid(1.702 * x))
    return len(calls)


def _is_gelu(module: fx.GraphModule, node: fx.Node) -> bool:
    if node.op == "call_module":
        return isinstance(module.get_submodule(str(node.target)), nn.GELU)
    return node.target in GELU_CALLS


def _replace(module: fx.GraphModule, node: fx.Node, result: Tensor) -> None:
    """Put the node of `result`, a proxy under the type that it stands for, in place of `node`."""
    successor = cast("fx.Proxy", result).node
    successor.meta = dict(node.meta)
    node.replace_all_uses_with(successor)
    module.graph.erase_node(node)
