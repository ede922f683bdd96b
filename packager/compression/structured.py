"""Remove whole channels, by torch-pruning's dependency graph."""

import copy
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch_pruning
from torch import fx, nn

from packager import program
from packager.errors import PruneError

# The finest step in the share of channels that the search distinguishes.
STEPS = 64

aten = torch.ops.aten
# They hold sizes that the user's code computed from the unpruned channel counts.
FIXING_OPERATORS = {
    aten.view.default,
    aten.reshape.default,
    aten.unflatten.int,
    aten.expand.default,
    aten.split.Tensor,
    aten.split_with_sizes.default,
    aten.pixel_shuffle.default,
    aten.slice.Tensor,
}
RECURRENT_OPERATORS = {aten.lstm.input, aten.gru.input, aten.rnn_tanh.input, aten.rnn_relu.input}


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What the pruned network has to keep to.

    Attributes:
        macs_ratio: Largest share of the multiply-accumulates to keep, above 0 to 1.
        channel_multiple: Channel counts that are pruned become multiples of this.
    """

    macs_ratio: float
    channel_multiple: int


@dataclass(frozen=True, kw_only=True)
class Fixed:
    """What may not lose channels.

    Attributes:
        layers: They make the output, or code with baked-in sizes reads them.
        parameters: Weights of operators that are no layer, such as an LSTM's.
    """

    layers: tuple[program.Weighted, ...]
    parameters: tuple[nn.Parameter, ...]


def prune(network: fx.GraphModule, input_shape: tuple[int, ...], shape: Shape) -> fx.GraphModule:
    """Return a pruned copy of `network` that comes up to `shape` as closely as it can.

    Every layer loses the same share of its channels, by the L2 norm of all weights that
    depend on them. Because counts are rounded, one more step of that share can remove far
    more than was asked for; then only the deepest layers take it, as few as will do.

    Raises:
        PruneError: The network's graph fixes its channel counts, or the ratio is out of
            reach with channels rounded as the targets need.
    """
    search = _Search(network, input_shape, shape)
    layers = len(program.weighted_layers(network))
    step = _first(STEPS + 1, lambda step: search.reaches(_Plan(step, layers)))
    if step is None:
        raise _out_of_reach(search)
    deepest = _first(layers + 1, lambda count: search.reaches(_Plan(step, count)))
    assert deepest is not None, "with all layers at this step, the ratio was reached"
    return search.without(_Plan(step, deepest))


def _first(count: int, holds: Callable[[int], bool]) -> int | None:
    """Return the lowest number for which `holds`, given that it holds from there on."""
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low if low < count else None


@dataclass(frozen=True)
class _Plan:
    """Remove `step` of STEPS from the `deepest` layers, and one step less from the others."""

    step: int
    deepest: int


def fixed_layers(network: fx.GraphModule) -> tuple[str, ...]:
    """Return the names of the hidden layers that pruning leaves alone."""
    layers = _reaching(network, lambda node: node.target in FIXING_OPERATORS)
    names = {layer: name for name, layer in network.named_modules()}
    return tuple(names[layer] for layer in layers)


class _Search:
    """Tries how much of a network can go."""

    def __init__(self, network: fx.GraphModule, input_shape: tuple[int, ...], shape: Shape) -> None:
        self.network = network
        self.input_shape = input_shape
        self.shape = shape
        self.limit = shape.macs_ratio * program.cost(network, input_shape).macs

    def reaches(self, plan: _Plan) -> bool:
        return program.cost(self.without(plan), self.input_shape).macs <= self.limit

    def without(self, plan: _Plan) -> fx.GraphModule:
        """Return a copy of the network without the channels that the plan removes."""
        pruned = copy.deepcopy(self.network)
        example = torch.zeros(program.EXAMPLE_BATCH, *self.input_shape)
        # The dependency graph is read off the autograd graph, so gradients must be on.
        pruned.requires_grad_(requires_grad=True)
        try:
            with warnings.catch_warnings():
                # Says how it prunes bare parameters; a wrong guess is caught by the run below.
                warnings.filterwarnings("ignore", module="torch_pruning")
                _pruner(pruned, example, self._ratios(pruned, plan)).step()
            with torch.no_grad():
                pruned(example)
        except (RuntimeError, ValueError, IndexError, AttributeError, KeyError) as error:
            first = str(error).partition("\n")[0]
            remedy = "Its code fixes a channel count; use method = 'unstructured' or 'none'."
            message = f"The network cannot lose channels: {first}. {remedy}"
            raise PruneError(message) from error
        return pruned

    def _ratios(self, pruned: fx.GraphModule, plan: _Plan) -> dict[program.Weighted, float]:
        layers = program.weighted_layers(pruned)
        others = len(layers) - plan.deepest
        ratios = [max(0, plan.step - (i < others)) / STEPS for i in range(len(layers))]
        multiple = self.shape.channel_multiple
        return {
            layer: _layer_ratio(layer, ratio, multiple)
            for layer, ratio in zip(layers, ratios, strict=True)
        }


def _pruner(
    network: fx.GraphModule, example: torch.Tensor, ratios: dict[program.Weighted, float]
) -> torch_pruning.pruner.BasePruner:
    fixed = _fixed(network)
    return torch_pruning.pruner.BasePruner(
        network,
        example,
        importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=0.0,
        pruning_ratio_dict=ratios,
        ignored_layers=[*fixed.layers, *fixed.parameters],
    )


def _layer_ratio(layer: program.Weighted, ratio: float, multiple: int) -> float:
    """Return the share of a layer's channels to remove, so that a multiple remains.

    torch-pruning's own `round_to` leaves a layer whole where less than one multiple would
    remain, so that asking for more could remove less.
    """
    channels = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
    kept = max(multiple, math.ceil((1.0 - ratio) * channels / multiple) * multiple)
    # Half a channel keeps the library's truncation from taking one more.
    return max(0.0, 1.0 - (kept + 0.5) / channels)


def _fixed(network: fx.GraphModule) -> Fixed:
    bare = network.graph.find_nodes(op="get_attr")
    recurrent = [n for n in bare if any(u.target in RECURRENT_OPERATORS for u in n.users)]
    parameters = dict(network.named_parameters())
    return Fixed(
        layers=_reaching(
            network, lambda node: node.op == "output" or node.target in FIXING_OPERATORS
        ),
        parameters=tuple(parameters[str(node.target)] for node in recurrent),
    )


def _reaching(
    network: fx.GraphModule, fixes: Callable[[fx.Node], bool]
) -> tuple[program.Weighted, ...]:
    """Return the layers whose channels reach a node that `fixes` them, with no layer between."""
    pending = [n for node in network.graph.nodes if fixes(node) for n in node.all_input_nodes]
    seen: set[fx.Node] = set()
    found: dict[program.Weighted, None] = {}
    while pending:
        node = pending.pop()
        layer = network.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(layer, program.Weighted):
            found[layer] = None
        elif node not in seen:
            seen.add(node)
            pending += node.all_input_nodes
    return tuple(found)


def _out_of_reach(search: _Search) -> PruneError:
    network, shape = search.network, search.shape
    least = search.without(_Plan(STEPS, len(program.weighted_layers(network))))
    macs = [program.cost(n, search.input_shape).macs for n in (least, network)]
    return PruneError(
        f"prune.macs_ratio {shape.macs_ratio} is out of reach: with channels in multiples of "
        f"{shape.channel_multiple}, as the targets need, {macs[0] / macs[1]:.3f} of the MACs "
        "remain at least. Raise the ratio, or leave out the target with the largest "
        "kernels.channel_multiple."
    )
