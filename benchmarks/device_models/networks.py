"""Three small networks for 28 x 28 gray frames, one for each family of architectures."""

from torch import Tensor, nn


class Residual(nn.Module):
    """Two 3 x 3 convolutions, and a shortcut that is projected where the shape changes."""

    def __init__(self, channels_in: int, channels_out: int, *, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False),
            nn.BatchNorm2d(channels_out),
            nn.ReLU(),
            nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False),
            nn.BatchNorm2d(channels_out),
        )
        self.shortcut = nn.Sequential(
            nn.Conv2d(channels_in, channels_out, 1, stride, bias=False),
            nn.BatchNorm2d(channels_out),
        )
        self.activation = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, channels_in, h, w) to (n, channels_out, h / stride, w / stride)."""
        return self.activation(self.body(x) + self.shortcut(x))


class Attention(nn.Module):
    """One transformer block over 7 x 7 patches; two heads of 16 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 32, 4, 4)
        self.norm1 = nn.LayerNorm(32)
        self.query, self.key, self.value = nn.Linear(32, 32), nn.Linear(32, 32), nn.Linear(32, 32)
        self.mix = nn.Linear(32, 32)
        self.norm2 = nn.LayerNorm(32)
        self.mlp = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 32))
        self.head = nn.Linear(32, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, 1, 28, 28) to (n, 2) logits."""
        x = self.patches(x).flatten(2).transpose(1, 2)
        normed = self.norm1(x)
        q, k, v = (self._heads(p(normed)) for p in (self.query, self.key, self.value))
        attended = nn.functional.scaled_dot_product_attention(q, k, v)
        x = x + self.mix(attended.transpose(1, 2).flatten(2))
        x = x + self.mlp(self.norm2(x))
        return self.head(x.mean(1))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (2, 16)).transpose(1, 2)


def resnet() -> nn.Module:
    """Return an untrained residual network: (n, 1, 28, 28) to (n, 2) logits."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, 2, 1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        Residual(16, 16, stride=1),
        Residual(16, 32, stride=2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 2),
    )


def separable() -> nn.Module:
    """Return an untrained depthwise-separable network, as `resnet`."""
    layers: list[nn.Module] = [
        nn.Conv2d(1, 16, 3, 2, 1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU6(),
    ]
    for channels_in, channels_out, stride in ((16, 32, 1), (32, 48, 2), (48, 48, 1)):
        layers += [
            nn.Conv2d(channels_in, channels_in, 3, stride, 1, groups=channels_in, bias=False),
            nn.BatchNorm2d(channels_in),
            nn.ReLU6(),
            nn.Conv2d(channels_in, channels_out, 1, bias=False),
            nn.BatchNorm2d(channels_out),
            nn.ReLU6(),
        ]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(48, 2))


def attention() -> nn.Module:
    """Return an untrained transformer block, as `resnet`."""
    return Attention()
