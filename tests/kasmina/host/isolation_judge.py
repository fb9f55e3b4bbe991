"""The judge of isolation: a training run on one of three hosts, and all that it leaves behind in the host.

A run with a seed in TRAINING is isolated if its trace equals, bit for bit, that of the run without one. The
loop clips, accumulates, scales gradients and follows a schedule; hosts have in-place activations and dropout.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esper.kasmina.attach import attach
from esper.kasmina.lifecycle.bank import slots
from esper.kasmina.training.growth import Growth
from esper.kasmina.training.optimizer import GrowthOptimizer
from esper.leyline.stages import SeedStage
from tests.kasmina.networks import (
    ConvHost,
    NoisyNaN,
    Waiting,
    equal_states,
    fingerprint,
    without_host_randomness,
)

STEPS = 50
ACCUMULATED = 2

Prepare = Callable[[nn.Module], nn.Module]


class MlpHost(nn.Module):
    """Linear layers with BatchNorm, in-place ReLU and dropout: [N, 12] to [N, 4]."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm1, self.act1 = nn.Linear(12, 8), nn.BatchNorm1d(8), nn.ReLU(inplace=True)
        self.second, self.act2 = nn.Linear(8, 8), nn.ReLU(inplace=True)
        self.dropout, self.head = nn.Dropout(0.2), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act1(self.norm1(self.first(x)))
        logits: Tensor = self.head(self.dropout(self.act2(self.second(x))))
        return logits


class TransformerHost(nn.Module):
    """A block of attention and feed-forward with in-place ReLU and dropout: [N, 5, 8] to [N, 4]."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(8), nn.LayerNorm(8)
        self.attention = nn.MultiheadAttention(8, 2, dropout=0.1, batch_first=True)
        self.inner, self.act1, self.outer = nn.Linear(8, 16), nn.ReLU(inplace=True), nn.Linear(16, 8)
        self.dropout, self.head = nn.Dropout(0.2), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm1(x)
        x = x + self.attention(h, h, h, need_weights=False)[0]
        x = x + self.dropout(self.outer(self.act1(self.inner(self.norm2(x)))))
        logits: Tensor = self.head(x.mean(1))
        return logits


class NoisyNaNFeatures(nn.Module):
    """A residual layer on the last axis with dropout, whose every third training output is NaN."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm, self.dropout = nn.Linear(8, 8), nn.LayerNorm(8), nn.Dropout(0.5)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.calls: Tensor

    def forward(self, x: Tensor) -> Tensor:
        grown: Tensor = x + self.dropout(self.norm(self.linear(x)))
        if self.training:
            self.calls += 1
        return grown * torch.nan if self.training and int(self.calls) % 3 == 0 else grown


@dataclass(frozen=True)
class Court:
    """A host with its data, a slot in it, and the precision it trains in."""

    make_host: Callable[[], nn.Module]
    shape: tuple[int, ...]
    slot: str
    make_seed: Callable[[], nn.Module]
    autocast: bool = False
    channels_last: bool = False

    def host(self) -> nn.Module:
        torch.manual_seed(0)
        host = self.make_host()
        return host.to(memory_format=torch.channels_last) if self.channels_last else host  # type: ignore[call-overload]

    def batches(self, count: int) -> list[tuple[Tensor, Tensor]]:
        """Random inputs with labels 0 to 3, from a generator of their own."""
        generator = torch.Generator().manual_seed(0)
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        return [
            (
                torch.randn(8, *self.shape, generator=generator).contiguous(memory_format=layout),
                torch.randint(4, (8,), generator=generator),
            )
            for _ in range(count)
        ]

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.autocast):
            logits = model(batch[0])
        return F.cross_entropy(logits.float(), batch[1])


CNN = Court(ConvHost, (3, 8, 8), "norm1", NoisyNaN)
MLP = Court(MlpHost, (12,), "norm1", NoisyNaNFeatures)
TRANSFORMER = Court(TransformerHost, (5, 8), "norm2", NoisyNaNFeatures)


@dataclass(frozen=True)
class Trace:
    """All that a training run leaves behind in the host."""

    state: dict[str, Tensor]
    momenta: list[Tensor]
    losses: list[float]
    random: Tensor

    def equals(self, other: Trace) -> bool:
        return (
            equal_states(self.state, other.state)
            and len(self.momenta) == len(other.momenta)
            and all(torch.equal(a, b) for a, b in zip(self.momenta, other.momenta, strict=True))
            and self.losses == other.losses
            and torch.equal(self.random, other.random)
        )


def train(prepare: Prepare, *, court: Court = CNN, observed: bool = False) -> Trace:
    """50 optimizer steps after `prepare`, which may plant a seed; `observed` gives second passes a batch."""
    model = prepare(court.host())
    inner = torch.optim.AdamW(model.parameters(), lr=1e-2)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=20)
    optimizer = GrowthOptimizer(inner, scaler=scaler)
    growth = None
    if observed:

        def held_out(model: nn.Module) -> Tensor:
            return court.loss(model, court.batches(1)[0]).expand(60)

        growth = Growth(model, optimizer, Waiting(), loss=court.loss, evaluate=held_out)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    losses = []
    for index, batch in enumerate(court.batches(STEPS * ACCUMULATED)):
        loss = court.loss(model, batch) / ACCUMULATED
        scaler.scale(loss).backward()
        losses.append(loss.item())
        if index % ACCUMULATED == ACCUMULATED - 1:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            scaler.step(optimizer)
            scaler.update()
            scheduler.step()
            optimizer.zero_grad()
        if growth is not None:
            growth.observe(loss, batch)
    momenta = [value for state in inner.state.values() for value in state.values()]
    return Trace(fingerprint(model), momenta, losses, torch.get_rng_state())


def planted(
    make: Callable[[], nn.Module],
    slot: str = "norm1",
    incubation: str = "straight_through",
    *,
    court: Court = CNN,
    **options: Any,
) -> Prepare:
    """Attaches, and puts a seed into TRAINING, which the optimizer made later finds."""

    def prepare(model: nn.Module) -> nn.Module:
        attach(model, slot, court.batches(1)[0][0], incubation=incubation)
        place = slots(model)[slot]
        place.plant(without_host_randomness(make), blueprint_id="planted", **options)
        place.advance()
        assert place.stage is SeedStage.TRAINING
        return model

    return prepare


def is_isolated(prepare: Prepare, *, court: Court, alone: Trace, observed: bool = False) -> bool:
    """The verdict: whether the host that `prepare` gave a seed ends as the host that trained alone."""
    return train(prepare, court=court, observed=observed).equals(alone)
