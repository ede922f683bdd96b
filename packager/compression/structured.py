"""Remove whole channels, by torch-pruning's dependency graph."""

import copy
from dataclasses import dataclass

import torch
import torch_pruning
from torch import fx

from packager import program
from packager.errors import PruneError

# The finest step in the share of channels that the search distinguishes.
STEPS = 64


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What the pruned network has to keep to.

    Attributes:
        macs_ratio: Largest share of the multiply-accumulates to keep, above 0 to 1.
        channel_multiple: Channel counts that are pruned become multiples of this.
    """

    macs_ratio: float
    channel_multiple: int


def prune(network: fx.GraphModule, input_shape: tuple[int, ...], shape: Shape) -> fx.GraphModule:
    """Return the largest pruned copy of `network` that keeps to `shape`.

    Channels go by the L2 norm of all weights that depend on them, the same share from
    every group of layers; the layers that make the output keep theirs.

    Raises:
        PruneError: The network's graph fixes its channel counts, or the ratio is out of
            reach with channels rounded as the targets need.
    """
    limit = shape.macs_ratio * program.cost(network, input_shape).macs
    best, low, high = None, 1, STEPS
    while low < high:
        middle = (low + high) // 2
        candidate = _without(network, input_shape, middle / STEPS, shape.channel_multiple)
        if program.cost(candidate, input_shape).macs <= limit:
            best, high = candidate, middle
        else:
            low = middle + 1
    if best is None:
        raise _out_of_reach(network, input_shape, shape)
    return best


def _without(
    network: fx.GraphModule, input_shape: tuple[int, ...], ratio: float, multiple: int
) -> fx.GraphModule:
    """Return a copy of `network` without `ratio` of the channels of each group."""
    pruned = copy.deepcopy(network)
    example = torch.zeros(program.EXAMPLE_BATCH, *input_shape)
    # The dependency graph is read off the autograd graph, so gradients must be on.
    pruned.requires_grad_(requires_grad=True)
    try:
        pruner = torch_pruning.pruner.BasePruner(
            pruned,
            example,
            importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
            pruning_ratio=ratio,
            ignored_layers=_output_layers(pruned),
            round_to=multiple,
        )
        pruner.step()
        with torch.no_grad():
            pruned(example)
    except (RuntimeError, ValueError, IndexError, AttributeError, KeyError) as error:
        first = str(error).partition("\n")[0]
        remedy = "Its code fixes a channel count; use method = 'unstructured' or 'none'."
        message = f"The network cannot lose channels: {first}. {remedy}"
        raise PruneError(message) from error
    return pruned


def _output_layers(network: fx.GraphModule) -> list[program.Weighted]:
    """Return the layers whose channels reach the output with no other layer in between."""
    (output,) = network.graph.find_nodes(op="output")
    pending, seen = list(output.all_input_nodes), set[fx.Node]()
    found: list[program.Weighted] = []
    while pending:
        node = pending.pop()
        if node in seen:
            continue
        seen.add(node)
        layer = network.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(layer, program.Weighted):
            found.append(layer)
        else:
            pending += node.all_input_nodes
    return found


def _out_of_reach(
    network: fx.GraphModule, input_shape: tuple[int, ...], shape: Shape
) -> PruneError:
    least = _without(network, input_shape, (STEPS - 1) / STEPS, shape.channel_multiple)
    ratio = program.cost(least, input_shape).macs / program.cost(network, input_shape).macs
    return PruneError(
        f"prune.macs_ratio {shape.macs_ratio} is out of reach: with channels in multiples of "
        f"{shape.channel_multiple}, as the targets need, {ratio:.3f} of the MACs remain at least. "
        "Raise the ratio, or leave out the target with the largest kernels.channel_multiple."
    )
