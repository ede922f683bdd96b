"""Networks lose channels or weights, keep to what was asked, and still run."""

from pathlib import Path

import pytest
import torch
from torch import fx, nn

from packager import program
from packager.artifacts import Model
from packager.cache import Cache
from packager.compression import structured, unstructured
from packager.errors import PruneError
from packager.recipe import NoPruning, StructuredPruning, UnstructuredPruning
from packager.stages.prune import prune
from tests.networks import INPUT_SHAPES, Attention, Flattened, Recurrent, Residual, Wide, seeded

pytestmark = pytest.mark.filterwarnings("ignore:The tensor attributes:UserWarning")


def captured(kind: type[nn.Module]) -> fx.GraphModule:
    return program.to_module(program.export(seeded(kind), INPUT_SHAPES[kind]))


def model_of(kind: type[nn.Module], folder: Path) -> Model:
    network, shape = captured(kind), INPUT_SHAPES[kind]
    return Model(
        program=program.save(network, folder / "model.pt2", shape),
        input_shape=shape,
        cost=program.cost(network, shape),
    )


@pytest.mark.parametrize("multiple", [1, 4, 8])
def test_pruned_network_keeps_to_the_macs_and_the_multiple(multiple: int) -> None:
    shape = structured.Shape(macs_ratio=0.5, channel_multiple=multiple)
    network = captured(Wide)
    pruned = structured.prune(network, (3, 16, 16), shape)
    macs = program.cost(pruned, (3, 16, 16)).macs
    assert 0.3 < macs / program.cost(network, (3, 16, 16)).macs <= 0.5
    kept = [layer.weight.shape[0] for layer in program.weighted_layers(pruned)]
    assert kept[-1] == 4, "the labels stay"
    assert [channels % multiple for channels in kept[:-1]] == [0, 0, 0]


def test_asking_for_less_never_leaves_more() -> None:
    network = captured(Wide)
    ratios = [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    macs = [
        program.cost(structured.prune(network, (3, 16, 16), shape), (3, 16, 16)).macs
        for shape in (structured.Shape(macs_ratio=r, channel_multiple=8) for r in ratios)
    ]
    assert macs == sorted(macs)


def test_coarse_channel_counts_still_come_close_to_the_ratio() -> None:
    """With 16 channels in multiples of 8, halving every layer would leave a quarter."""
    network = captured(Residual)
    shape = structured.Shape(macs_ratio=0.7, channel_multiple=8)
    pruned = structured.prune(network, (1, 28, 28), shape)
    macs = program.cost(pruned, (1, 28, 28)).macs / program.cost(network, (1, 28, 28)).macs
    assert 0.49 < macs <= 0.7


def test_weakest_channels_go_first() -> None:
    network = captured(Wide)
    strong = torch.arange(96) % 2 == 0
    with torch.no_grad():
        network.get_parameter("conv1.weight")[~strong] *= 1e-3
        network.get_parameter("conv2.weight")[:, ~strong] *= 1e-3
        wanted = network.get_parameter("conv1.weight").clone()
    shape = structured.Shape(macs_ratio=0.25, channel_multiple=8)
    kept = structured.prune(network, (3, 16, 16), shape).get_parameter("conv1.weight")
    assert len(kept) == 48
    assert torch.equal(kept, wanted[strong])


def test_flattened_features_follow_their_channels() -> None:
    shape = structured.Shape(macs_ratio=0.8, channel_multiple=4)
    pruned = structured.prune(captured(Flattened), (3, 32, 32), shape)
    channels = len(pruned.get_parameter("conv2.weight"))
    assert pruned.get_parameter("fc1.weight").shape[1] == channels * 25


def test_attention_keeps_its_heads_and_says_so() -> None:
    network = captured(Attention)
    assert set(structured.fixed_layers(network)) == {"query", "key", "value"}
    shape = structured.Shape(macs_ratio=0.5, channel_multiple=8)
    pruned = structured.prune(network, (3, 32, 32), shape)
    assert len(pruned.get_parameter("query.weight")) == 32
    assert len(pruned.get_parameter("patches.weight")) < 32


def test_recurrent_network_is_told_that_nothing_can_go() -> None:
    shape = structured.Shape(macs_ratio=0.5, channel_multiple=1)
    with pytest.raises(PruneError, match=r"1\.000 of the MACs remain at least"):
        structured.prune(captured(Recurrent), (20, 8), shape)


def test_ratio_out_of_reach_names_what_is_reachable(tmp_path: Path) -> None:
    model = model_of(Residual, tmp_path)
    settings = StructuredPruning(method="structured", macs_ratio=0.1)
    with pytest.raises(PruneError) as caught:
        Cache(tmp_path / "cache").run(prune, model, settings, 8)
    assert str(caught.value) == (
        "prune.macs_ratio 0.1 is out of reach: with channels in multiples of 8, as the targets "
        "need, 0.258 of the MACs remain at least. Raise the ratio, or leave out the target with "
        "the largest kernels.channel_multiple."
    )


def test_structured_pruning_reports_before_and_after(tmp_path: Path) -> None:
    model = model_of(Residual, tmp_path)
    settings = StructuredPruning(method="structured", macs_ratio=0.5)
    pruned = Cache(tmp_path / "cache").run(prune, model, settings, 8)
    assert pruned.before == model.cost
    assert pruned.after.macs <= 0.5 * pruned.before.macs
    assert pruned.after.parameters < pruned.before.parameters


def test_unstructured_pruning_empties_each_layer_alike(tmp_path: Path) -> None:
    model = model_of(Residual, tmp_path)
    settings = UnstructuredPruning(method="unstructured", sparsity_ratio=0.75)
    pruned = Cache(tmp_path / "cache").run(prune, model, settings, 8)
    layers = program.weighted_layers(program.load(pruned.program))
    # Every layer has a multiple of four weights, so three quarters are exact.
    assert [float((w.weight == 0).float().mean()) for w in layers] == [0.75] * 4
    assert pruned.after.sparsity_ratio == 0.75
    assert pruned.after.macs == pruned.before.macs


def test_zeros_stay_zero_while_the_others_learn() -> None:
    network = captured(Residual)
    unstructured.prune(network, 0.5)
    zeros = [layer.weight == 0 for layer in program.weighted_layers(network)]
    unstructured.freeze_zeros(network)
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    network(torch.randn(4, 1, 28, 28)).square().sum().backward()
    optimizer.step()
    unstructured.release_zeros(network)
    after = program.weighted_layers(network)
    assert all(bool((layer.weight[z] == 0).all()) for layer, z in zip(after, zeros, strict=True))
    assert all(bool((layer.weight[~z] != 0).any()) for layer, z in zip(after, zeros, strict=True))


def test_no_pruning_changes_nothing(tmp_path: Path) -> None:
    model = model_of(Residual, tmp_path)
    pruned = Cache(tmp_path / "cache").run(prune, model, NoPruning(method="none"), 8)
    assert pruned.after == pruned.before == model.cost
