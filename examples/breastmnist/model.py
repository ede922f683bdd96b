"""A small residual network for 28 x 28 gray frames: 156,000 parameters, 10.5 million MACs."""

from torch import Tensor, nn


class Block(nn.Module):
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


def create() -> nn.Module:
    """Return an untrained network: (n, 1, h, w) to (n, 2) logits."""
    return nn.Sequential(
        # Half the resolution at once: what it saves goes into channels, which can be pruned.
        nn.Conv2d(1, 32, 3, 2, 1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        Block(32, 32, stride=1),
        Block(32, 64, stride=2),
        Block(64, 64, stride=1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 2),
    )
