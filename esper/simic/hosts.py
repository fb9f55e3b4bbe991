"""The small networks that `esper train` grows, each with the slots it names for seeds.

Every host follows current practice (BatchNorm or LayerNorm, GELU): a weak host would fake a gain for
whatever is planted in it. They are too small for their tasks on purpose, in width and depth and in
nothing else, so that a slot has something to win.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from esper.simic.errors import UnknownHost
from esper.simic.tasks import Task


@dataclass(frozen=True)
class Host:
    """`build(task)` makes the module; `slots` name where a seed may go; `blueprints` suit those places."""

    name: str
    doc: str
    slots: tuple[str, ...]
    blueprints: tuple[str, ...]
    build: Callable[[Task], nn.Module]


class ConvBlock(nn.Module):
    """Convolution of width 3 with stride 2, BatchNorm, GELU: [N, C, *S] to [N, C', *ceil(S / 2)]."""

    def __init__(self, rank: int, channels_in: int, channels_out: int) -> None:
        super().__init__()
        convolution, norm = (nn.Conv1d, nn.BatchNorm1d) if rank == 1 else (nn.Conv2d, nn.BatchNorm2d)
        self.conv = convolution(channels_in, channels_out, 3, stride=2, padding=1, bias=False)
        self.norm = norm(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.gelu(self.norm(self.conv(x)))


class SmallCNN(nn.Module):
    """`ConvBlock`s in a row, then the mean over all positions and a linear classifier."""

    def __init__(self, rank: int, channels_in: int, widths: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            ConvBlock(rank, a, b) for a, b in itertools.pairwise((channels_in, *widths))
        )
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(x.flatten(2).mean(-1))
        return logits


class ResidualBlock(nn.Module):
    """LayerNorm, linear, GELU, added to its input: [N, features] to [N, features]."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(features)
        self.linear = nn.Linear(features, features)

    def forward(self, x: Tensor) -> Tensor:
        return x + nn.functional.gelu(self.linear(self.norm(x)))


class SmallMLP(nn.Module):
    """A linear embedding of the flattened example, `depth` `ResidualBlock`s, a linear classifier."""

    def __init__(self, features_in: int, width: int, depth: int, classes: int) -> None:
        super().__init__()
        self.embed = nn.Linear(features_in, width)
        self.blocks = nn.ModuleList(ResidualBlock(width) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x.flatten(1))
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.norm(x))
        return logits


def _cnn(task: Task) -> nn.Module:
    """Eight channels, two blocks: about 340 parameters for signals, 770 for images."""
    channels, *space = task.example_shape
    return SmallCNN(len(space), channels, (8, 8), task.classes)


def _mlp(task: Task) -> nn.Module:
    """Sixteen features, two blocks: about 1,400 parameters for MNIST-1D."""
    return SmallMLP(math.prod(task.example_shape), 16, 2, task.classes)


HOSTS: dict[str, Host] = {
    host.name: host
    for host in (
        Host(
            "cnn",
            "two convolutional blocks of eight channels, BatchNorm, GELU",
            ("blocks.0", "blocks.1"),
            ("conv_enhance", "depthwise"),
            _cnn,
        ),
        Host(
            "mlp",
            "two residual blocks of sixteen features, LayerNorm, GELU",
            ("blocks.0", "blocks.1"),
            ("mlp_block", "norm"),
            _mlp,
        ),
    )
}


def host_named(name: str) -> Host:
    """The host's entry. Raises `UnknownHost`."""
    if name not in HOSTS:
        raise UnknownHost(name=name, choices=", ".join(HOSTS))
    return HOSTS[name]
