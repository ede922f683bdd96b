"""Refit the layers of a pruned network, so that it starts close to the original."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from packager import program

# What the largest value between two layers may hold for all samples: 0.5 GiB of float32.
VALUES = 2**27
SAMPLES = 1024
# Positions that a layer is fitted on, spread over all samples.
ROWS = 2**16
# Inputs of one output value, beyond which solving for the weights would take minutes.
INPUTS = 4096
CHUNK = 16
# Of the inputs' mean square: how strongly weights without evidence stay as they were.
RIDGE = 1e-4

Fitted = nn.Conv1d | nn.Conv2d | nn.Linear


@dataclass(frozen=True, kw_only=True)
class _Layer:
    """A layer that can be refitted.

    Attributes:
        name: The same in both networks.
        kept: int64 (outputs,): which outputs of the original's layer it still has.
        norm: The batch norm that takes its outputs, where it has no bias of its own.
    """

    name: str
    layer: Fitted
    kept: Tensor
    norm: nn.Module | None


@dataclass(frozen=True, kw_only=True)
class _Wanted:
    """What a layer's kept outputs are in the original.

    Attributes:
        rows: (rows, outputs), for the picked positions.
        places: How many samples the output has, and positions in each.
    """

    rows: Tensor
    places: tuple[int, int]


def repair(pruned: fx.GraphModule, original: fx.GraphModule, samples: Tensor) -> tuple[str, ...]:
    """Refit `pruned` in place, layer by layer, from its input to its output.

    Each convolution and linear layer gets the weights with which it comes closest, in the
    least squares, to what the outputs that it kept are in the original, from the inputs
    that the layers before it now give (He et al., 2017, arXiv:1707.06168). Batch norms keep
    their scale, and their mean takes up the offset. Layers that are grouped, transposed,
    called more than once or too large, and those that changed otherwise than by losing
    channels, stay as they are.

    Args:
        pruned: What structured pruning made of `original`; in eval mode afterwards.
        original: Is not changed.
        samples: (n, *input_shape), shuffled, like those that the networks have to answer; of
            many or large ones only the first are used.

    Returns:
        The names of the convolutions and linear layers that stay as they are.
    """
    pruned.eval()
    original.eval()
    layers = {layer.name: layer for layer in _layers(pruned, original)}
    with torch.no_grad():
        shown = samples[: _affordable(original, samples)]
        wanted = _wanted(original, tuple(layers.values()), shown)
        work = _Repair(pruned, layers, wanted)
        work.run(shown)
    weighted = set(program.weighted_layers(pruned))
    names = (name for name, layer in pruned.named_modules() if layer in weighted)
    return tuple(name for name in names if name not in work.refitted)


class _Repair(fx.Interpreter):
    """Runs a network, and refits each layer before what it gives is used."""

    def __init__(
        self, network: fx.GraphModule, layers: dict[str, _Layer], wanted: dict[str, _Wanted]
    ) -> None:
        super().__init__(network)
        self.layers = layers
        self.wanted = wanted
        self.refitted: set[str] = set()

    def call_module(
        self, target: fx.node.Target, args: tuple[fx.node.Argument, ...], kwargs: dict[str, object]
    ) -> object:
        """Call a module, refitted where it can be."""
        result: object = super().call_module(target, args, kwargs)
        layer = self.layers.get(str(target))
        if layer is None:
            return result
        inputs, wanted = args[0], self.wanted.pop(layer.name)
        assert isinstance(inputs, Tensor), "an interpreter hands over values, not nodes"
        assert isinstance(result, Tensor), "a layer returns one tensor"
        # Where channels are positions, as in a mixer, there is no row for each of the original.
        if _places(_by_position(layer.layer, result)) == wanted.places:
            _refit(layer, inputs, wanted.rows)
            self.refitted.add(layer.name)
        return layer.layer(inputs)


def _layers(pruned: fx.GraphModule, original: fx.GraphModule) -> Iterator[_Layer]:
    known = dict(original.named_modules())
    for node in pruned.graph.find_nodes(op="call_module"):
        name = str(node.target)
        layer, before = pruned.get_submodule(name), known.get(name)
        if not isinstance(layer, Fitted) or type(before) is not type(layer):
            continue
        once = all(_calls(network, name) == 1 for network in (pruned, original))
        kept = _kept(layer, before)
        if once and kept is not None and _inputs(layer) <= INPUTS:
            yield _Layer(name=name, layer=layer, kept=kept, norm=_norm_after(pruned, node))


def _calls(network: fx.GraphModule, name: str) -> int:
    return sum(node.target == name for node in network.graph.find_nodes(op="call_module"))


def _norm_after(network: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    users = list(node.users)
    if len(users) != 1 or users[0].op != "call_module":
        return None
    name = str(users[0].target)
    norm = network.get_submodule(name)
    is_norm = isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d)
    return norm if is_norm and _calls(network, name) == 1 else None


def _inputs(layer: Fitted) -> int:
    """Return how many values one output value is computed from."""
    return layer.weight[0].numel()


def _kept(layer: Fitted, before: nn.Module) -> Tensor | None:
    """Return the outputs of `before` that `layer` still has, in ascending order.

    They are found by their weights, of which pruning leaves a part as they were. None, if
    some are not found, or if not every output is computed from every input.
    """
    assert isinstance(before, Fitted), "both layers are of one type"
    if not isinstance(layer, nn.Linear) and layer.groups != 1:
        return None
    old, new = _rows(before), _rows(layer)
    kept: list[int] = []
    for row in range(len(old)):
        if len(kept) < len(new) and bool(torch.isin(new[len(kept)], old[row]).all()):
            kept.append(row)
    return torch.tensor(kept, device=new.device) if len(kept) == len(new) else None


def _rows(layer: Fitted) -> Tensor:
    """Return the weights and the bias of each output: (outputs, weights)."""
    weight = layer.weight.detach().flatten(1)
    return weight if layer.bias is None else torch.cat([weight, layer.bias.detach()[:, None]], 1)


def _affordable(network: fx.GraphModule, samples: Tensor) -> int:
    """Return for how many samples all values between two layers fit into memory."""
    largest = 1

    def note(_module: nn.Module, _inputs: object, output: object) -> None:
        nonlocal largest
        if isinstance(output, Tensor):
            largest = max(largest, output.numel())

    with ExitStack() as hooks:
        for module in network.modules():
            hooks.callback(module.register_forward_hook(note).remove)
        network(samples[:1])
    return min(SAMPLES, max(2, VALUES // largest))


def _wanted(
    original: fx.GraphModule, layers: tuple[_Layer, ...], samples: Tensor
) -> dict[str, _Wanted]:
    found: dict[str, _Wanted] = {}

    def note(layer: _Layer, output: Tensor) -> None:
        values = _by_position(layer.layer, output)
        rows = _picked(values, 0, len(values))[:, layer.kept]
        found[layer.name] = _Wanted(rows=rows, places=_places(values))

    with ExitStack() as hooks:
        for layer in layers:
            module = original.get_submodule(layer.name)
            hook = module.register_forward_hook(lambda _m, _i, out, layer=layer: note(layer, out))
            hooks.callback(hook.remove)
        original(samples)
    return found


def _refit(fitted: _Layer, inputs: Tensor, wanted: Tensor) -> None:
    """Give the layer the weights that make (rows, outputs) `wanted` of `inputs`."""
    layer = fitted.layer
    weights = _fit(fitted, inputs, wanted)
    layer.weight.copy_(weights[: _inputs(layer)].T.reshape(layer.weight.shape))
    if layer.bias is not None:
        layer.bias.copy_(weights[-1])
    elif fitted.norm is not None:
        fitted.norm.get_buffer("running_mean").sub_(weights[-1])


def _fit(fitted: _Layer, inputs: Tensor, wanted: Tensor) -> Tensor:
    """Return the weights (inputs, outputs), with the offset, if there can be one, behind."""
    layer = fitted.layer
    offset = int(layer.bias is not None or fitted.norm is not None)
    before = functional.pad(layer.weight.detach().flatten(1).T.double(), (0, 0, 0, offset))
    left, right = before.new_zeros(len(before), len(before)), torch.zeros_like(before)
    answers = iter(wanted.double().split(CHUNK * (len(wanted) // len(inputs))))
    for start in range(0, len(inputs), CHUNK):
        patches = _patches(layer, inputs[start : start + CHUNK])
        rows = _picked(patches, start, len(inputs)).double()
        rows = functional.pad(rows, (0, offset), value=1.0)
        left += rows.T @ rows
        right += rows.T @ next(answers)
    return _solve(left, right, before, count=_inputs(layer))


def _solve(left: Tensor, right: Tensor, before: Tensor, *, count: int) -> Tensor:
    """Return the weights near `before` that solve the normal equations.

    Only the first `count` rows are held back; the offset behind them is free.
    """
    ridge = torch.zeros_like(left.diagonal())
    # Not zero for inputs that are, or there would be no single solution.
    ridge[:count] = RIDGE * left.diagonal()[:count].mean().clamp(min=1e-12)
    weights: Tensor = torch.linalg.solve(left + ridge.diag(), right + ridge[:, None] * before)
    return weights


def _patches(layer: Fitted, inputs: Tensor) -> Tensor:
    """Return what each output value is computed from: (n, inputs, positions)."""
    if isinstance(layer, nn.Linear):
        return _by_position(layer, inputs)
    # It is what the layer itself pads by; it also knows the paddings that have names.
    padded = functional.pad(inputs, layer._reversed_padding_repeated_twice)
    sizes = [layer.kernel_size, layer.dilation, layer.stride]
    if isinstance(layer, nn.Conv1d):
        padded = padded[:, :, None]
        sizes = [(1, *size) for size in sizes]
    kernel, dilation, stride = sizes
    return functional.unfold(padded, kernel, dilation=dilation, stride=stride)


def _by_position(layer: Fitted, values: Tensor) -> Tensor:
    """Return what goes into or comes out of a layer as (n, channels, positions)."""
    if isinstance(layer, nn.Linear):
        return values.reshape(len(values), -1, values.shape[-1]).transpose(1, 2)
    return values.flatten(2)


def _places(values: Tensor) -> tuple[int, int]:
    """Return how many samples (n, channels, positions) has, and positions in each."""
    return values.shape[0], values.shape[2]


def _picked(values: Tensor, first: int, count: int) -> Tensor:
    """Return the rows (n * positions, channels) that the layer is fitted on.

    Args:
        values: (n, channels, positions).
        first: The number of the first sample; each sample shows other positions.
        count: How many samples there are in all, which share the rows.
    """
    samples, channels, positions = values.shape
    each = min(positions, max(1, ROWS // count))
    spread = torch.arange(each, device=values.device) * positions // each
    offsets = torch.arange(first, first + samples, device=values.device)
    index = (spread + offsets[:, None]) % positions
    picked = values.gather(2, index[:, None].expand(-1, channels, -1))
    return picked.transpose(1, 2).reshape(-1, channels)
