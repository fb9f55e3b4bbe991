"""Small hosts, seeds, and a task on which a convolutional seed helps: shared by the tests of Kasmina."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esper.kasmina.lifecycle.bank import slots
from esper.kasmina.lifecycle.gates import GateParameters
from esper.leyline.actions import Action, AdvanceStage, Cull, Wait
from esper.leyline.events import Event
from esper.leyline.signals import TrainingSignals
from esper.leyline.stages import SeedStage, is_active_stage


class ConvHost(nn.Module):
    """Convolutions with BatchNorm, in-place ReLU and dropout: [N, 3, 8, 8] to [N, 4]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(6)
        self.act1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(6, 6, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(6)
        self.act2 = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act1(self.norm1(self.conv1(x)))
        x = self.act2(self.norm2(self.conv2(x)))
        logits: Tensor = self.head(self.dropout(x.mean((2, 3))))
        return logits


class Residual(nn.Module):
    """x + a convolution's output, zero at first; for maps of `channels` channels, rank 1 or 2."""

    def __init__(self, channels: int, hidden: int = 16, rank: int = 2) -> None:
        super().__init__()
        conv = nn.Conv1d if rank == 1 else nn.Conv2d
        self.inner = conv(channels, hidden, 3, padding=1)
        self.outer = conv(hidden, channels, 1)
        nn.init.zeros_(self.outer.weight)
        assert self.outer.bias is not None
        nn.init.zeros_(self.outer.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.outer(F.gelu(self.inner(x)))  # type: ignore[no-any-return]


class NoisyNaN(nn.Module):
    """A residual convolution with dropout and a BatchNorm whose every third training output is NaN."""

    def __init__(self, channels: int = 6) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(channels)
        self.dropout = nn.Dropout(0.5)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        grown: Tensor = x + self.dropout(self.norm(self.conv(x)))
        self.calls += self.training
        return grown * torch.nan if self.training and self.calls % 3 == 0 else grown


def without_host_randomness(make: Callable[[], nn.Module], seed: int = 7) -> nn.Module:
    """A module initialised from a generator state of its own; the default one stays where it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def residual(channels: int = 6, rank: int = 2) -> nn.Module:
    return without_host_randomness(lambda: Residual(channels, rank=rank))


def batches(count: int, size: int = 8, seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    """Random images with labels 0 to 3, from a generator of their own."""
    generator = torch.Generator().manual_seed(seed)
    return [
        (torch.randn(size, 3, 8, 8, generator=generator), torch.randint(4, (size,), generator=generator))
        for _ in range(count)
    ]


def conv_host() -> ConvHost:
    torch.manual_seed(0)
    return ConvHost()


def loss_on(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1])


@dataclass(frozen=True)
class Signals:
    """Which of four short motifs stands somewhere in a noisy signal: x [N, 1, 24], y [N]."""

    x: Tensor
    y: Tensor

    def losses(self, model: nn.Module) -> Tensor:
        model.eval()
        return F.cross_entropy(model(self.x), self.y, reduction="none")


def motif_signals(count: int, seed: int) -> Signals:
    """Two motifs, apart: the class is the pair of their signs, so a class is a combination of features."""
    generator = torch.Generator().manual_seed(seed)
    x = 0.3 * torch.randn(count, 1, 24, generator=generator)
    y = torch.randint(4, (count,), generator=generator)
    places = torch.randint(10, (count, 2), generator=generator)
    motif = torch.tensor([1.0, -1.0, 1.0])
    for row in range(count):
        first, second = int(places[row, 0]), 12 + int(places[row, 1])
        x[row, 0, first : first + 3] += motif * (1.0 if y[row] & 1 else -1.0)
        x[row, 0, second : second + 3] += motif.abs() * (1.0 if y[row] & 2 else -1.0)
    return Signals(x, y)


class NarrowHost(nn.Module):
    """Two convolutions of width 1: sees single points of a signal, so a seed of width 3 has much to add.

    It has BatchNorm, without which a linear seed would gain by training alone.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv1d(1, 6, 1)
        self.norm = nn.BatchNorm1d(6)
        self.body = nn.Conv1d(6, 6, 1)
        self.out = nn.BatchNorm1d(6)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.norm(self.stem(x)))
        x = F.gelu(self.out(self.body(x)))
        logits: Tensor = self.head(x.mean(-1))
        return logits


class Recorder:
    """An OutputBackend that keeps events in memory."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)

    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]


class Waiting:
    """A policy that does nothing."""

    def decide(self, signals: TrainingSignals) -> Sequence[Action]:
        return (Wait(),)


class PlantOnce:
    """A policy that plants one module at an epoch, then puts it forward until a gate has the last word."""

    def __init__(self, model: nn.Module, slot: str, seed: nn.Module, epoch: int = 1) -> None:
        self.model, self.slot, self.seed, self.epoch = model, slot, seed, epoch

    def decide(self, signals: TrainingSignals) -> Sequence[Action]:
        state = signals.slot(self.slot)
        if signals.epoch == self.epoch:
            slot = slots(self.model)[self.slot]
            slot.plant(self.seed, blueprint_id="planted")
            slot.advance()
        elif is_active_stage(state.stage):
            if state.refusals >= (1 if state.stage is SeedStage.PROBATIONARY else 4):
                return [Cull(self.slot, "refused")]
            return [AdvanceStage(self.slot)]
        return []


def fingerprint(model: nn.Module) -> dict[str, Tensor]:
    """Copies of all parameters and buffers."""
    return {key: value.clone() for key, value in model.state_dict().items()}


def equal_states(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Whether two state dicts agree in keys and, bit for bit, in values; a NaN equals itself."""
    return list(first) == list(second) and all(
        a.dtype == second[key].dtype and torch.equal(a.nan_to_num(1.5), second[key].nan_to_num(1.5))
        for key, a in first.items()
    )


def ages_alone(steps: int, **others: Any) -> GateParameters:
    """Gates that ask for `steps` in each stage, and of what is measured only that it was."""
    return GateParameters(
        training_steps=steps,
        gradient_ratio=0.0,
        descent_errors=-1e9,
        shadow_steps=steps,
        loss_rise=1e9,
        probation_steps=steps,
        gain=-1e9,
        gain_errors=-1e9,
        gain_over_progress=-1e9,
        **others,
    )
