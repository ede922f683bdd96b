"""Remove what the network can do without."""

from pathlib import Path
from typing import assert_never

from packager.artifacts import Model, Pruned
from packager.cache import step
from packager.recipe import NoPruning, PruneTable, StructuredPruning, UnstructuredPruning


@step(version=1, tools=("torch", "torch-pruning"))
def prune(out: Path, model: Model, settings: PruneTable, channel_multiple: int) -> Pruned:
    """Prune the network as the recipe says.

    Args:
        out: Receives the pruned program.
        model: The original.
        settings: Which method, and how far.
        channel_multiple: What all targets' kernels like channel counts to be a multiple of.

    Raises:
        PruneError: The network cannot lose channels, or not as many.
    """
    from packager import program
    from packager.compression import structured, unstructured

    network = program.load(model.program)
    fixed: tuple[str, ...] = ()
    match settings:
        case NoPruning():
            pass
        case StructuredPruning(macs_ratio=ratio):
            shape = structured.Shape(macs_ratio=ratio, channel_multiple=channel_multiple)
            fixed = structured.fixed_layers(network)
            network = structured.prune(network, model.input_shape, shape)
        case UnstructuredPruning(sparsity_ratio=ratio):
            unstructured.prune(network, ratio)
        case _:
            assert_never(settings)
    return Pruned(
        program=program.save(network, out / "pruned.pt2", model.input_shape),
        before=model.cost,
        after=program.cost(network, model.input_shape),
        fixed_layers=fixed,
    )
