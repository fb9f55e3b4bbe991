"""Adapters for a frozen host, the alternatives to growing it: LoRA by PEFT, and bottleneck adapters.

PEFT has no bottleneck adapter: theirs follow Houlsby et al. 2019 (arXiv:1902.00751), a pair of projections
around a nonlinearity, added to what the block returns; on maps they are convolutions of width 1 (Rebuffi et
al. 2018, arXiv:1803.10082). Both start as the identity.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from esper.errors import MissingPackage
from esper.simic.study.sizes import freeze, nearest, parameters, probes_of, put_behind
from esper.simic.tasks import Task

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d)


def lora(model: nn.Module, wanted: int, leaving: Sequence[str] = ()) -> nn.Module:
    """LoRA (Hu et al. 2021, arXiv:2106.09685) in the linear and convolutional layers of a frozen `model`.

    In all of them but those named in `leaving`. One rank for all, at which the added parameters come nearest
    to `wanted`; scaled by 1. Raises `MissingPackage`.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise MissingPackage(package="peft", purpose="the study's arm LoRA", extra="study") from error
    layers = {
        name: layer
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d) and name not in leaving
    }
    rank = nearest(lambda rank: sum(rank * _ends(layer) for layer in layers.values()), wanted)
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=list(layers))
    adapted: nn.Module = inject_adapter_in_model(config, model)
    return adapted


def _ends(layer: nn.Module) -> int:
    """Parameters of a LoRA of rank 1 for `layer`: what one column reads, and one row writes."""
    if isinstance(layer, nn.Linear):
        return layer.in_features + layer.out_features
    assert isinstance(layer, CONVOLUTIONS)
    window = int(torch.tensor(layer.kernel_size).prod())
    return layer.in_channels // layer.groups * window + layer.out_channels


class BottleneckAdapter(nn.Module):
    """x + up(GELU(down(x))), `up` zero at first, over the channels of a map or over the last axis."""

    def __init__(self, features: int, hidden: int, spatial: int) -> None:
        """spatial: axes of the map behind its channels; 0 where features are the last axis."""
        super().__init__()
        self.is_disabled = False
        self.down, self.up = _projection(spatial, features, hidden), _projection(spatial, hidden, features)
        for parameter in self.up.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        if self.is_disabled:
            return x
        adapted: Tensor = x + self.up(nn.functional.gelu(self.down(x)))
        return adapted


def bottleneck(model: nn.Module, task: Task, names: Sequence[str], wanted: int) -> nn.Module:
    """A `BottleneckAdapter` behind each module named, the host's own parameters frozen.

    One hidden size for all, at which the added parameters come nearest to `wanted`.
    """
    freeze(model)
    shapes = {name: probe.shape for name, probe in probes_of(model, task, names).items()}
    spatial = 0 if task.has_tokens else len(next(iter(shapes.values()))) - 2
    features = {name: shape[1] if spatial else shape[-1] for name, shape in shapes.items()}

    def count(hidden: int) -> int:
        return sum(parameters(BottleneckAdapter(f, hidden, spatial)) for f in features.values())

    hidden = nearest(count, wanted)
    for name in names:
        put_behind(model, name, BottleneckAdapter(features[name], hidden, spatial))
    return model


def _projection(spatial: int, inputs: int, outputs: int) -> nn.Module:
    if spatial == 0:
        return nn.Linear(inputs, outputs)
    return CONVOLUTIONS[spatial - 1](inputs, outputs, 1)


@contextmanager
def without_adapters(model: nn.Module) -> Iterator[None]:
    """Inside, `model` computes what it would without its adapters of either kind."""
    bottlenecks = [module for module in model.modules() if isinstance(module, BottleneckAdapter)]
    layers: list[Any] = [module for module in model.modules() if hasattr(module, "enable_adapters")]
    for adapter in bottlenecks:
        adapter.is_disabled = True
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for adapter in bottlenecks:
            adapter.is_disabled = False
        for layer in layers:
            layer.enable_adapters(True)
