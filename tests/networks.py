"""Small networks of the kinds that users bring, for the tests."""

import torch
from torch import Tensor, nn
from torch.nn import functional


def seeded(network: type[nn.Module]) -> nn.Module:
    """Return the network in eval mode, with fixed weights and lived-in batch statistics."""
    torch.manual_seed(0)
    module = network().eval()
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            layer.running_mean.normal_(0.0, 0.2)  # type: ignore[union-attr]
            layer.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr]
    return module


class Residual(nn.Module):
    """Two 3x3 convolutions and a shortcut; input (n, 1, 28, 28), two classes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 16, 3, padding=1, bias=False)
        self.norm0 = nn.BatchNorm2d(16)
        self.conv1 = nn.Conv2d(16, 16, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 16, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(16)
        self.head = nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.norm0(self.stem(x)))
        y = functional.relu(self.norm1(self.conv1(x)))
        x = functional.relu(x + self.norm2(self.conv2(y)))
        return self.head(functional.adaptive_avg_pool2d(x, 1).flatten(1))


class Depthwise(nn.Module):
    """Depthwise-separable blocks; input (n, 1, 49, 10), six classes."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.Conv2d(1, 32, (10, 4), 2, (5, 1), bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
        ]
        for _ in range(2):
            layers += [
                nn.Conv2d(32, 32, 3, 1, 1, groups=32, bias=False),
                nn.BatchNorm2d(32),
                nn.ReLU(),
            ]
            layers += [nn.Conv2d(32, 32, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(32, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(functional.adaptive_avg_pool2d(self.features(x), 1).flatten(1))


class Wide(nn.Module):
    """More than 256 KiB of int8 weights; input (n, 3, 16, 16), four classes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 96, 3, 2, 1)
        self.conv2 = nn.Conv2d(96, 192, 3, 2, 1)
        self.conv3 = nn.Conv2d(192, 192, 3, 1, 1)
        self.head = nn.Linear(192, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.conv1(x))
        x = functional.relu(self.conv3(functional.relu(self.conv2(x))))
        return self.head(x.mean((2, 3)))


class Flattened(nn.Module):
    """A view with a baked-in size before the head; input (n, 3, 32, 32), ten classes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 5)
        self.pool = nn.MaxPool2d(2, 2)
        self.conv2 = nn.Conv2d(8, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 32)
        self.fc2 = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(functional.relu(self.conv1(x)))
        x = self.pool(functional.relu(self.conv2(x)))
        return self.fc2(functional.relu(self.fc1(x.view(-1, 16 * 5 * 5))))


class Signal(nn.Module):
    """Convolutions over time with BatchNorm1d; input (n, 1, 140), five classes."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv1d(1, 16, 7, 2, 3, bias=False),
            nn.BatchNorm1d(16),
            nn.ReLU(),
            nn.Conv1d(16, 32, 5, 2, 2, bias=False),
            nn.BatchNorm1d(32),
            nn.ReLU(),
        )
        self.head = nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).mean(-1))


class Attention(nn.Module):
    """One transformer block with GELU; input (n, 3, 32, 32), six classes."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 32, 8, 8)
        self.norm1 = nn.LayerNorm(32)
        self.query, self.key, self.value = nn.Linear(32, 32), nn.Linear(32, 32), nn.Linear(32, 32)
        self.mix = nn.Linear(32, 32)
        self.norm2 = nn.LayerNorm(32)
        self.mlp = nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32))
        self.head = nn.Linear(32, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        y = self.norm1(x)
        q, k, v = (self._heads(p(y)) for p in (self.query, self.key, self.value))
        attended = functional.scaled_dot_product_attention(q, k, v)
        x = x + self.mix(attended.transpose(1, 2).flatten(2))
        x = x + self.mlp(self.norm2(x))
        return self.head(x.mean(1))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (2, 16)).transpose(1, 2)


class Recurrent(nn.Module):
    """An LSTM; input (n, 20, 8), three classes."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 16, batch_first=True)
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0][:, -1])


INPUT_SHAPES: dict[type[nn.Module], tuple[int, ...]] = {
    Residual: (1, 28, 28),
    Depthwise: (1, 49, 10),
    Wide: (3, 16, 16),
    Flattened: (3, 32, 32),
    Signal: (1, 140),
    Attention: (3, 32, 32),
    Recurrent: (20, 8),
}
