"""The small networks that `esper train` grows, each with the slots it names for seeds.

Every host follows current practice (BatchNorm or LayerNorm before each part, GELU): a weak host would fake
a gain for whatever is planted in it. They are too small for their tasks on purpose, in width and depth and
in nothing else, so that a slot has something to win.
"""

from __future__ import annotations

import importlib
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from esper.errors import EsperError
from esper.simic.errors import HostDoesNotFit, HostFails, HostNotImported, UnknownHost
from esper.simic.tasks import Task


@dataclass(frozen=True)
class Host:
    """A family of networks for tasks of one kind.

    `sized(task, width, depth)` makes one of it; `slots` name where a seed may go in the usual one, which has
    `width` and `depth`; `blueprints` suit those places. `reads_tokens`: whether examples are tokens, not
    signals.
    """

    name: str
    doc: str
    slots: tuple[str, ...]
    blueprints: tuple[str, ...]
    width: int
    depth: int
    sized: Callable[[Task, int, int], nn.Module]
    reads_tokens: bool = False

    def build(self, task: Task, width: int | None = None, depth: int | None = None) -> nn.Module:
        """The host for `task`, in its usual size where none is given. Raises `HostDoesNotFit`."""
        if task.has_tokens != self.reads_tokens:
            fitting = (host.name for host in HOSTS.values() if host.reads_tokens == task.has_tokens)
            raise HostDoesNotFit(host=self.name, task=task.name, choices=", ".join(fitting))
        return self.sized(task, width or self.width, depth or self.depth)


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


class CausalSelfAttention(nn.Module):
    """Attention of each position to itself and those before it: [N, T, features] to the same."""

    def __init__(self, features: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.project = nn.Linear(features, 3 * features, bias=False)
        self.out = nn.Linear(features, features, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.project(x).chunk(3, dim=-1)
        )
        mixed = scaled_dot_product_attention(query, key, value, is_causal=True)
        attended: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return attended


class TransformerBlock(nn.Module):
    """Pre-norm attention and a feed-forward part of four times the width: [N, T, features] to the same."""

    def __init__(self, features: int, heads: int) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(features)
        self.attention = CausalSelfAttention(features, heads)
        self.norm_mlp = nn.LayerNorm(features)
        self.expand = nn.Linear(features, 4 * features)
        self.contract = nn.Linear(4 * features, features)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm_attention(x))
        processed: Tensor = x + self.contract(nn.functional.gelu(self.expand(self.norm_mlp(x))))
        return processed


class SmallGPT(nn.Module):
    """Learned embeddings of tokens and positions, `TransformerBlock`s, logits for each next token.

    Tokens int64 [N, T], T at most `length`, to logits [N, T, vocabulary]. The embedding is the classifier
    too (Press and Wolf 2017, arXiv:1608.05859); projections into the residual stream start smaller, by
    their number (Radford et al. 2019).
    """

    def __init__(self, vocabulary: int, length: int, width: int, depth: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(length, width)
        self.blocks = nn.ModuleList(TransformerBlock(width, max(width // HEAD, 1)) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        for embedding in (self.tokens, self.positions):
            nn.init.normal_(embedding.weight, std=EMBEDDING_STD)
        for block in self.blocks:
            for last in (block.get_submodule("attention.out"), block.get_submodule("contract")):
                assert isinstance(last, nn.Linear)
                nn.init.normal_(last.weight, std=EMBEDDING_STD / math.sqrt(2 * depth))

    def forward(self, tokens: Tensor) -> Tensor:
        places = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.tokens(tokens) + self.positions(places)
        for block in self.blocks:
            x = block(x)
        logits: Tensor = nn.functional.linear(self.norm(x), self.tokens.weight)
        return logits


HEAD = 16
"""Features of one attention head."""
EMBEDDING_STD = 0.02


def _cnn(task: Task, width: int, depth: int) -> nn.Module:
    channels, *space = task.example_shape
    return SmallCNN(len(space), channels, (width,) * depth, task.classes)


def _mlp(task: Task, width: int, depth: int) -> nn.Module:
    return SmallMLP(math.prod(task.example_shape), width, depth, task.classes)


def _gpt(task: Task, width: int, depth: int) -> nn.Module:
    return SmallGPT(task.classes, task.example_shape[0], width - width % HEAD or width, depth)


HOSTS: dict[str, Host] = {
    host.name: host
    for host in (
        Host(
            "cnn",
            "two convolutional blocks of eight channels, BatchNorm, GELU",
            ("blocks.0", "blocks.1"),
            ("conv_enhance", "depthwise"),
            width=8,
            depth=2,
            sized=_cnn,
        ),
        Host(
            "mlp",
            "two residual blocks of sixteen features, LayerNorm, GELU",
            ("blocks.0", "blocks.1"),
            ("mlp_block", "norm"),
            width=16,
            depth=2,
            sized=_mlp,
        ),
        Host(
            "gpt",
            "two transformer blocks of 32 features, LayerNorm first, GELU",
            ("blocks.0", "blocks.1"),
            ("mlp_block", "norm"),
            width=32,
            depth=2,
            sized=_gpt,
            reads_tokens=True,
        ),
    )
}


def is_import_path(name: str) -> bool:
    """Whether `name` is `package.module:function`, and not the name of a host of ours."""
    return ":" in name


def host_named(name: str) -> Host:
    """The host's entry. Raises `UnknownHost`."""
    if name not in HOSTS:
        raise UnknownHost(name=name, choices=", ".join(HOSTS))
    return HOSTS[name]


def build_host(name: str, task: Task) -> nn.Module:
    """The network of a host of ours, or what `package.module:function` makes of the task.

    The module is imported, so a name that comes out of a file must not get here. Raises `UnknownHost`,
    `HostDoesNotFit`, `HostNotImported`, `HostFails`.
    """
    if not is_import_path(name):
        return host_named(name).build(task)
    module, _, function = name.partition(":")
    try:
        build = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise HostNotImported(name=name, reason=error) from error
    try:
        host = build(task)
    except EsperError:
        raise
    except Exception as error:
        raise HostFails(name=name, reason=f"{type(error).__name__}: {error}") from error
    if not isinstance(host, nn.Module):
        raise HostFails(name=name, reason=f"it returns {type(host).__name__}, no torch.nn.Module")
    return host
