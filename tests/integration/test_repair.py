"""A network that lost channels comes back close to the one that it was pruned from."""

import copy

import pytest
import torch
from torch import Tensor, fx, nn

from packager import program
from packager.compression import repair, structured
from packager.compression.structured import Shape
from tests.networks import (
    INPUT_SHAPES,
    Attention,
    Depthwise,
    Flattened,
    Residual,
    Signal,
    Wide,
    seeded,
)


class Doubled(nn.Module):
    """Each hidden channel twice, with padding that has a name; input (n, 1, 12, 12)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, padding="same", bias=False)
        self.norm1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 8, 3, 2, 1)
        self.head = nn.Linear(8, 3)
        with torch.no_grad():
            # The second of a pair is weaker, so that it is the one to go.
            for layer in (self.conv1, self.conv2):
                layer.weight[4:] = 0.5 * layer.weight[:4]
            self.conv2.bias[4:] = 0.5 * self.conv2.bias[:4]  # type: ignore[index]

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.conv2(torch.relu(self.norm1(self.conv1(x)))))
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


class Twice(nn.Module):
    """A convolution that is called twice; input (n, 1, 8, 8)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 16, 3, padding=1)
        self.head = nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv2(torch.relu(self.conv2(torch.relu(self.conv1(x)))))
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


class Mixer(nn.Module):
    """A linear layer along the positions, once for each channel; input (n, 1, 8, 8)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 16, 3, 2, 1)
        self.mix = nn.Linear(16, 16)
        self.conv2 = nn.Conv1d(16, 16, 3)
        self.head = nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.conv2(torch.relu(self.mix(self.conv(x).flatten(2)))))
        logits: Tensor = self.head(x.mean(2))
        return logits


def to_module(network: nn.Module, input_shape: tuple[int, ...]) -> fx.GraphModule:
    return program.to_module(program.export(network, input_shape))


def pruned_pair(kind: type[nn.Module], macs_ratio: float) -> tuple[fx.GraphModule, fx.GraphModule]:
    """Return the original and a pruned network."""
    original = to_module(seeded(kind), INPUT_SHAPES[kind])
    shape = Shape(macs_ratio=macs_ratio, channel_multiple=4)
    return original, structured.prune(original, INPUT_SHAPES[kind], shape)


def drawn(input_shape: tuple[int, ...], samples: int, seed: int) -> Tensor:
    return torch.randn(samples, *input_shape, generator=torch.Generator().manual_seed(seed))


def error(network: nn.Module, original: nn.Module, inputs: Tensor) -> float:
    """Return the mean squared difference of the outputs."""
    with torch.no_grad():
        return float(nn.functional.mse_loss(network(inputs), original(inputs)))


def test_channels_that_others_stand_in_for_are_not_missed() -> None:
    torch.manual_seed(0)
    original = to_module(Doubled().eval(), (1, 12, 12))
    shape = Shape(macs_ratio=0.5, channel_multiple=4)
    pruned = structured.prune(original, (1, 12, 12), shape)
    unseen = drawn((1, 12, 12), 64, seed=1)
    before = error(pruned, original, unseen)
    repair.repair(pruned, original, drawn((1, 12, 12), 256, seed=0))
    # What is left is the pull of the ridge towards the pruned weights.
    assert error(pruned, original, unseen) < 1e-5 * before


@pytest.mark.parametrize("kind", [Residual, Wide, Flattened, Signal, Attention, Depthwise])
def test_repaired_network_is_closer_to_the_original(kind: type[nn.Module]) -> None:
    original, pruned = pruned_pair(kind, 0.6)
    unseen = drawn(INPUT_SHAPES[kind], 128, seed=1)
    before = error(pruned, original, unseen)
    repair.repair(pruned, original, drawn(INPUT_SHAPES[kind], 512, seed=0))
    assert error(pruned, original, unseen) < 0.5 * before


def test_layers_that_cannot_be_fitted_stay_as_they_are() -> None:
    original, pruned = pruned_pair(Depthwise, 0.6)
    grouped = {
        name: layer.weight.detach().clone()
        for name, layer in pruned.named_modules()
        if isinstance(layer, nn.Conv2d) and layer.groups > 1
    }
    left = repair.repair(pruned, original, drawn(INPUT_SHAPES[Depthwise], 64, seed=0))
    assert len(grouped) == 2
    assert set(left) == grouped.keys(), "what stays as it is is named"
    for name, weight in grouped.items():
        assert torch.equal(pruned.get_parameter(f"{name}.weight"), weight)


def test_layer_called_twice_stays_as_it_is() -> None:
    torch.manual_seed(0)
    original = to_module(Twice(), (1, 8, 8))
    pruned = structured.prune(original, (1, 8, 8), Shape(macs_ratio=0.6, channel_multiple=4))
    weight = pruned.get_parameter("conv2.weight").detach().clone()
    head = pruned.get_parameter("head.weight").detach().clone()
    left = repair.repair(pruned, original, drawn((1, 8, 8), 64, seed=0))
    assert left == ("conv2",)
    assert torch.equal(pruned.get_parameter("conv2.weight"), weight)
    assert not torch.equal(pruned.get_parameter("head.weight"), head)


def test_layer_whose_positions_are_channels_stays_as_it_is() -> None:
    torch.manual_seed(0)
    original = to_module(Mixer(), (1, 8, 8))
    pruned = copy.deepcopy(original)
    _remove_channels(pruned)
    weight = pruned.get_parameter("mix.weight").detach().clone()
    head = pruned.get_parameter("head.weight").detach().clone()
    left = repair.repair(pruned, original, drawn((1, 8, 8), 64, seed=0))
    assert left == ("mix",)
    assert torch.equal(pruned.get_parameter("mix.weight"), weight)
    assert not torch.equal(pruned.get_parameter("head.weight"), head)


def _remove_channels(network: fx.GraphModule) -> None:
    """Leave the first twelve channels between the two convolutions."""
    for name in ("conv.weight", "conv.bias"):
        network.get_parameter(name).data = network.get_parameter(name).data[:12]
    weight = network.get_parameter("conv2.weight")
    weight.data = weight.data[:, :12]


def test_original_stays_as_it_is_and_the_same_samples_give_the_same_weights() -> None:
    original, _ = pruned_pair(Residual, 0.6)
    before = {name: tensor.clone() for name, tensor in original.state_dict().items()}
    repaired = []
    for _ in range(2):
        _, pruned = pruned_pair(Residual, 0.6)
        repair.repair(pruned, original, drawn((1, 28, 28), 64, seed=0))
        repaired.append(pruned.state_dict())
    assert all(torch.equal(before[name], t) for name, t in original.state_dict().items())
    assert all(torch.equal(repaired[0][name], t) for name, t in repaired[1].items())


def test_network_that_lost_nothing_keeps_its_function() -> None:
    original, _ = pruned_pair(Residual, 0.6)
    same = to_module(seeded(Residual), (1, 28, 28))
    repair.repair(same, original, drawn((1, 28, 28), 64, seed=0))
    # Solving in float64, storing in float32.
    assert error(same, original, drawn((1, 28, 28), 64, seed=1)) < 1e-10
