"""The convolutional blueprints against modules of torch.nn that say the same in other words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from esper.lang import lower
from esper.urza.run.seed import CompiledSeed
from tests.blueprints.agreement import (
    give_same_weights,
    random_inputs,
    require_agreement,
    require_joint_agreement,
)

SPACE = (7, 6, 5)
"""Sizes of the maps' axes, odd and even."""


@dataclass(frozen=True)
class Layers:
    """torch's layers for maps with `axes` spatial axes; windows are padded to keep the sizes at stride 1."""

    axes: int

    def conv(self, inputs: int, outputs: int, kernel: int, dilation: int = 1, **options: Any) -> nn.Module:
        layer = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[self.axes - 1]
        padding = dilation * (kernel - 1) // 2
        return layer(inputs, outputs, kernel, dilation=dilation, padding=padding, **options)

    def norm(self, channels: int) -> nn.Module:
        return (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[self.axes - 1](channels)

    def mean(self) -> nn.Module:
        return (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)[self.axes - 1](1)

    def halved(self) -> nn.Module:
        return (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)[self.axes - 1](2)

    def unit(self, inputs: int, outputs: int, kernel: int, act: nn.Module, **options: Any) -> nn.Sequential:
        """A convolution without bias, its normalisation, an activation."""
        return nn.Sequential(
            self.conv(inputs, outputs, kernel, bias=False, **options), self.norm(outputs), act
        )


class Sum(nn.Module):
    """`after` of the sum of what the branches make of one input."""

    def __init__(self, *branches: nn.Module, after: nn.Module | None = None) -> None:
        super().__init__()
        self.branches, self.after = nn.ModuleList(branches), after or nn.Identity()

    def forward(self, x: Tensor) -> Any:
        return self.after(sum(branch(x) for branch in self.branches))


class Joined(Sum):
    """The channels of what the branches make of one input, one after the other."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


class Gated(nn.Module):
    """The input times `scale` times the sigmoid of what the layers make of it."""

    def __init__(self, *layers: nn.Module, scale: float) -> None:
        super().__init__()
        self.layers, self.scale = nn.Sequential(*layers), scale

    def forward(self, x: Tensor) -> Tensor:
        gate: Tensor = self.scale / (1 + torch.exp(-self.layers(x)))
        return x * gate


class Function(nn.Module):
    """A function without weights as a layer."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def channels_last(*layers: nn.Module) -> nn.Module:
    """Layers for each position, whose features are the channels."""
    there, back = Function(lambda x: x.movedim(1, -1)), Function(lambda x: x.movedim(-1, 1))
    return nn.Sequential(there, *layers, back)


def residual(*layers: nn.Module, after: nn.Module | None = None) -> nn.Module:
    return Sum(nn.Identity(), nn.Sequential(*layers), after=after)


def conv_enhance(t: Layers, channels: int, expand: int) -> nn.Module:
    first = t.conv(channels, channels * expand, 3, bias=False)
    last = t.conv(channels * expand, channels, 3)
    return residual(t.norm(channels), nn.ReLU(), first, t.norm(channels * expand), nn.ReLU(), last)


def depthwise(t: Layers, channels: int, expand: int) -> nn.Module:
    hidden = channels * expand
    window = t.conv(channels, channels, 7, groups=channels, bias=False)
    first, last = t.conv(channels, hidden, 1), t.conv(hidden, channels, 1)
    return residual(window, t.norm(channels), first, nn.GELU(), last)


def conv_block(t: Layers, channels: int, out: int, kernel: int, stride: int) -> nn.Module:
    return t.unit(channels, out, kernel, nn.ReLU(), stride=stride)


def resnet_block(t: Layers, channels: int) -> nn.Module:
    first = t.unit(channels, channels, 3, nn.ReLU())
    return residual(first, t.unit(channels, channels, 3, nn.Identity()), after=nn.ReLU())


def resnet_downsample(t: Layers, channels: int, out: int) -> nn.Module:
    shortcut = t.unit(channels, out, 1, nn.Identity(), stride=2)
    first = t.unit(channels, out, 3, nn.ReLU(), stride=2)
    branch = nn.Sequential(first, t.unit(out, out, 3, nn.Identity()))
    return Sum(shortcut, branch, after=nn.ReLU())


def resnet_bottleneck(t: Layers, channels: int, reduce: int, groups: int) -> nn.Module:
    hidden = channels // reduce
    return residual(
        t.unit(channels, hidden, 1, nn.ReLU()),
        t.unit(hidden, hidden, 3, nn.ReLU(), groups=groups),
        t.unit(hidden, channels, 1, nn.Identity()),
        after=nn.ReLU(),
    )


def resnet_preactivation(t: Layers, channels: int, reduce: int) -> nn.Module:
    hidden = channels // reduce
    return residual(
        *(t.norm(channels), nn.ReLU(), t.conv(channels, hidden, 1, bias=False)),
        *(t.norm(hidden), nn.ReLU(), t.conv(hidden, hidden, 3, bias=False)),
        *(t.norm(hidden), nn.ReLU(), t.conv(hidden, channels, 1)),
    )


def mobilenet_block(t: Layers, channels: int, expand: int) -> nn.Module:
    hidden = channels * expand
    return residual(
        t.unit(channels, hidden, 1, nn.ReLU6()),
        t.unit(hidden, hidden, 3, nn.ReLU6(), groups=hidden),
        t.unit(hidden, channels, 1, nn.Identity()),
    )


def mbconv_block(t: Layers, channels: int, expand: int, reduce: int) -> nn.Module:
    hidden, squeezed = channels * expand, channels // reduce
    return residual(
        t.unit(channels, hidden, 1, nn.SiLU()),
        t.unit(hidden, hidden, 3, nn.SiLU(), groups=hidden),
        Gated(t.mean(), t.conv(hidden, squeezed, 1), nn.SiLU(), t.conv(squeezed, hidden, 1), scale=1),
        t.unit(hidden, channels, 1, nn.Identity()),
    )


def convnext_block(t: Layers, channels: int, expand: int) -> nn.Module:
    hidden = channels * expand
    first, last = nn.Linear(channels, hidden), nn.Linear(hidden, channels)
    return residual(
        t.conv(channels, channels, 7, groups=channels),
        channels_last(nn.LayerNorm(channels), first, nn.GELU(), last),
    )


def squeeze_excite(t: Layers, channels: int, reduce: int) -> nn.Module:
    hidden = channels // reduce
    return Gated(t.mean(), t.conv(channels, hidden, 1), nn.ReLU(), t.conv(hidden, channels, 1), scale=2)


def eca_block(t: Layers, channels: int, kernel: int) -> nn.Module:
    """The filter slides over the channels' means, so the channels are its axis."""
    along = nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False)
    means = Function(lambda x: x.flatten(2).mean(2, keepdim=True).movedim(1, 2))
    back = Function(lambda x: x.reshape(-1, channels, *[1] * t.axes))
    return Gated(means, along, back, scale=2)


def spatial_attention(t: Layers, channels: int, kernel: int) -> nn.Module:
    pooled = Function(lambda x: torch.stack([x.max(1).values, x.sum(1) / channels], 1))
    return Gated(pooled, t.conv(2, 1, kernel, bias=False), scale=2)


class GlobalContext(nn.Module):
    def __init__(self, _: Layers, channels: int, reduce: int) -> None:
        super().__init__()
        hidden = channels // reduce
        self.score = nn.Conv1d(channels, 1, 1, bias=False)
        first, last = nn.Linear(channels, hidden), nn.Linear(hidden, channels)
        self.transform = nn.Sequential(first, nn.LayerNorm(hidden), nn.ReLU(), last)

    def forward(self, x: Tensor) -> Tensor:
        share = torch.softmax(self.score(x.flatten(2)).flatten(1), 1)
        context: Tensor = self.transform(torch.einsum("ncp,np->nc", x.flatten(2), share))
        return x + context[(..., *[None] * (x.dim() - 2))].expand_as(x)


def dilated_conv(t: Layers, channels: int, depth: int) -> nn.Module:
    windows = [t.conv(channels, channels, 3, dilation=2**i) for i in range(depth)]
    layers = [layer for window in windows for layer in (window, nn.ReLU())]
    return residual(*layers, t.conv(channels, channels, 1))


def separable_conv(t: Layers, channels: int, depth: int) -> nn.Module:
    def layers() -> Iterator[nn.Module]:
        for _ in range(depth):
            yield nn.ReLU()
            yield t.conv(channels, channels, 3, groups=channels, bias=False)
            yield t.unit(channels, channels, 1, nn.Identity())

    return residual(*layers())


def dense_block(t: Layers, channels: int, growth: int, depth: int) -> nn.Module:
    def layer(inputs: int) -> nn.Module:
        return nn.Sequential(
            *(t.norm(inputs), nn.ReLU(), t.conv(inputs, 4 * growth, 1, bias=False)),
            *(t.norm(4 * growth), nn.ReLU(), t.conv(4 * growth, growth, 3, bias=False)),
        )

    return nn.Sequential(*(Joined(nn.Identity(), layer(channels + i * growth)) for i in range(depth)))


def residual_dense(t: Layers, channels: int, growth: int, depth: int) -> nn.Module:
    def layer(inputs: int) -> nn.Module:
        return Joined(nn.Identity(), nn.Sequential(t.conv(inputs, growth, 3), nn.ReLU()))

    widest = channels + depth * growth
    return residual(*(layer(channels + i * growth) for i in range(depth)), t.conv(widest, channels, 1))


class UNetDown(nn.Module):
    def __init__(self, t: Layers, channels: int, out: int) -> None:
        super().__init__()
        self.body = nn.Sequential(t.unit(channels, out, 3, nn.ReLU()), t.unit(out, out, 3, nn.ReLU()))
        self.pool = t.halved()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        skip = self.body(x)
        return self.pool(skip), skip


class UNetUp(nn.Module):
    def __init__(self, t: Layers, channels: int, skip_channels: int, out: int) -> None:
        super().__init__()
        self.above = t.conv(channels, skip_channels, 3)
        first = t.unit(2 * skip_channels, out, 3, nn.ReLU())
        self.body = nn.Sequential(first, t.unit(out, out, 3, nn.ReLU()))

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        for axis in range(2, x.dim()):
            nearest = torch.arange(skip.shape[axis]) * x.shape[axis] // skip.shape[axis]
            x = x.index_select(axis, nearest)
        joined: Tensor = self.body(torch.cat([skip, self.above(x)], 1))
        return joined


def inception_block(t: Layers, channels: int, width: int) -> nn.Module:
    def branch(windows: int) -> nn.Module:
        entry = t.unit(channels, width, 1, nn.ReLU())
        return nn.Sequential(entry, *(t.unit(width, width, 3, nn.ReLU()) for _ in range(windows)))

    joined = Joined(branch(0), branch(1), branch(2))
    return residual(joined, t.conv(3 * width, channels, 1), after=nn.ReLU())


def shuffle_block(t: Layers, channels: int, groups: int, reduce: int) -> nn.Module:
    hidden = channels // reduce
    order = torch.arange(hidden).reshape(groups, -1).T.flatten()
    return residual(
        t.unit(channels, hidden, 1, nn.ReLU(), groups=groups),
        Function(lambda x: x[:, order]),
        t.unit(hidden, hidden, 3, nn.Identity(), groups=hidden),
        t.unit(hidden, channels, 1, nn.Identity(), groups=groups),
        after=nn.ReLU(),
    )


class WaveNet(nn.Module):
    def __init__(self, _: Layers, channels: int, kernel: int, dilation: int) -> None:
        super().__init__()
        reach = dilation * (kernel - 1)
        self.gates = nn.Conv1d(channels, 2 * channels, kernel, dilation=dilation, padding=reach)
        self.last = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """The padding after the sequence yields as many positions too many as there are in the reach."""
        value, gate = self.gates(x)[..., : x.shape[2]].tensor_split(2, 1)
        branch: Tensor = self.last(value.tanh() * gate.sigmoid())
        return x + branch


def group_norm_block(t: Layers, channels: int, groups: int) -> nn.Module:
    def half() -> tuple[nn.Module, ...]:
        return nn.GroupNorm(groups, channels), nn.SiLU(), t.conv(channels, channels, 3)

    return residual(*half(), *half())


CASES: list[tuple[str, Callable[..., nn.Module], dict[str, int]]] = [
    ("conv_enhance", conv_enhance, {"channels": 3, "expand": 2}),
    ("depthwise", depthwise, {"channels": 3, "expand": 2}),
    ("conv_block", conv_block, {"channels": 3, "out": 4, "kernel": 3, "stride": 1}),
    ("conv_block", conv_block, {"channels": 3, "out": 2, "kernel": 5, "stride": 2}),
    ("resnet_block", resnet_block, {"channels": 4}),
    ("resnet_downsample", resnet_downsample, {"channels": 3, "out": 5}),
    ("resnet_bottleneck", resnet_bottleneck, {"channels": 4, "reduce": 2, "groups": 1}),
    ("resnet_bottleneck", resnet_bottleneck, {"channels": 8, "reduce": 2, "groups": 2}),
    ("resnet_preactivation", resnet_preactivation, {"channels": 4, "reduce": 2}),
    ("mobilenet_block", mobilenet_block, {"channels": 3, "expand": 2}),
    ("mbconv_block", mbconv_block, {"channels": 4, "expand": 2, "reduce": 2}),
    ("convnext_block", convnext_block, {"channels": 3, "expand": 2}),
    ("squeeze_excite", squeeze_excite, {"channels": 4, "reduce": 2}),
    ("eca_block", eca_block, {"channels": 5, "kernel": 3}),
    ("spatial_attention", spatial_attention, {"channels": 3, "kernel": 5}),
    ("global_context", GlobalContext, {"channels": 8, "reduce": 2}),
    ("dilated_conv", dilated_conv, {"channels": 3, "depth": 3}),
    ("separable_conv", separable_conv, {"channels": 3, "depth": 1}),
    ("separable_conv", separable_conv, {"channels": 3, "depth": 3}),
    ("dense_block", dense_block, {"channels": 3, "growth": 2, "depth": 3}),
    ("residual_dense", residual_dense, {"channels": 3, "growth": 2, "depth": 3}),
    ("unet_down", UNetDown, {"channels": 3, "out": 4}),
    ("unet_up", UNetUp, {"channels": 4, "skip_channels": 3, "out": 2}),
    ("inception_block", inception_block, {"channels": 3, "width": 2}),
    ("shuffle_block", shuffle_block, {"channels": 8, "groups": 2, "reduce": 2}),
    ("wavenet_block", WaveNet, {"channels": 3, "kernel": 2, "dilation": 1}),
    ("wavenet_block", WaveNet, {"channels": 3, "kernel": 3, "dilation": 2}),
    ("group_norm_block", group_norm_block, {"channels": 4, "groups": 2}),
]
"""A blueprint, its oracle, and the parameters of both; the others have their defaults."""

ON_SEQUENCES = {"wavenet_block"}
WIDTHS = {"mobilenet_block": 16.0}
"""Parameters lie in an interval of this width, or of width 1; wide ones reach the bend of `relu6` at 6."""


def seed_of(name: str, axes: int, params: Mapping[str, Any]) -> CompiledSeed:
    """The blueprint for maps with `axes` spatial axes, in float64."""
    sizes = {"unet_up": ("R", "S"), "wavenet_block": ()}.get(name, ("S",))
    ir = lower(name, sizes=dict.fromkeys(sizes, SPACE[:axes]), **params)
    return CompiledSeed(ir, generator=torch.Generator().manual_seed(0)).double()


def inputs_of(seed: CompiledSeed) -> list[Tensor]:
    """Three examples for each input; the maps from below have half the sizes."""
    sizes = {"N": 3, "T": 9}
    for axis, size in enumerate(SPACE):
        sizes |= {f"S.{axis}": size, f"R.{axis}": size // 2}
    return random_inputs([node.type.concrete_shape(sizes) for node in seed.ir.inputs])


EACH = [
    pytest.param(name, oracle, params, axes, id=f"{name}-{index}-{axes}d")
    for index, (name, oracle, params) in enumerate(CASES)
    for axes in ((1,) if name in ON_SEQUENCES else (1, 2, 3))
]


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize(("name", "oracle", "params", "axes"), EACH)
def test_values_gradients_and_running_statistics_are_those_of_torchs_layers(
    name: str, oracle: Callable[..., nn.Module], params: Mapping[str, int], axes: int, training: bool
) -> None:
    seed = seed_of(name, axes, params).train(training)
    module = oracle(Layers(axes), **params).double().train(training)
    give_same_weights(seed, module, WIDTHS.get(name, 1.0))
    require_agreement(seed, module, inputs_of(seed))


@pytest.mark.parametrize(("name", "oracle", "params", "axes"), EACH)
def test_the_joint_graphs_gradients_are_those_of_torchs_layers(
    name: str, oracle: Callable[..., nn.Module], params: Mapping[str, int], axes: int
) -> None:
    seed = seed_of(name, axes, params)
    module = oracle(Layers(axes), **params).double()
    give_same_weights(seed, module, WIDTHS.get(name, 1.0))
    require_joint_agreement(seed, module, inputs_of(seed))
