"""Every optimizer with every schedule: growing, culling and resuming leave the host's own training alone."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop, lr_scheduler

from esper import lang
from esper.ir.graph import BlueprintIR
from esper.kasmina.attach import attach
from esper.kasmina.checkpoints.topology import describe, load_seed_weights, rebuild, seed_weights
from esper.kasmina.checkpoints.values import Decoder, Encoder
from esper.kasmina.lifecycle.bank import slots
from esper.kasmina.lifecycle.control import Comparison
from esper.kasmina.lifecycle.slot import SeedSlot
from esper.kasmina.training.optimizer import GrowthOptimizer
from esper.leyline.stages import SeedStage
from tests.kasmina.networks import ConvHost, batches, conv_host, equal_states, fingerprint, loss_on

STEPS = 12
GROWN, CULLED, GROWN_AGAIN, RESUMED = 2, 4, 5, 8
"""The steps before which it happens."""

Make = Callable[[Any], Optimizer]

OPTIMIZERS: dict[str, Make] = {
    "sgd": lambda p: SGD(p, lr=0.05),
    "nesterov": lambda p: SGD(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adam": lambda p: Adam(p, lr=0.01),
    "adamw_amsgrad": lambda p: AdamW(p, lr=0.01, amsgrad=True),
    "adamw_foreach": lambda p: AdamW(p, lr=0.01, foreach=True),
    "adamw_fused": lambda p: AdamW(p, lr=0.01, fused=True),
    "adagrad": lambda p: Adagrad(p, lr=0.02, lr_decay=0.01),
    "rmsprop": lambda p: RMSprop(p, lr=0.002, momentum=0.5, centered=True),
}


def sequential(optimizer: Optimizer) -> Any:
    parts = [
        lr_scheduler.LinearLR(optimizer, 0.1, total_iters=4),
        lr_scheduler.CosineAnnealingLR(optimizer, STEPS - 4),
    ]
    return lr_scheduler.SequentialLR(optimizer, parts, [4])


SCHEDULES: dict[str, Callable[[Optimizer], Any]] = {
    "step": lambda o: lr_scheduler.StepLR(o, 3, gamma=0.5),
    "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, STEPS),
    "linear": lambda o: lr_scheduler.LinearLR(o, 0.1, total_iters=5),
    "lambda": lambda o: lr_scheduler.LambdaLR(o, lambda step: 0.95**step),
    "one_cycle": lambda o: lr_scheduler.OneCycleLR(
        o,
        max_lr=0.02,
        total_steps=STEPS + 1,
        cycle_momentum="momentum" in o.defaults or "betas" in o.defaults,
    ),
    "sequential": sequential,
    "warm_restarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 4),
    "plateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=1, factor=0.3),
}


@cache
def blueprint() -> BlueprintIR:
    return lang.lower("conv_enhance", channels=6)


@dataclass
class Loop:
    """A user's loop: groups with rates of their own, clipping, a schedule, two batches to a step."""

    model: ConvHost
    optimizer: Optimizer
    schedule: Any

    @classmethod
    def of(cls, make: Make, schedule: Callable[[Optimizer], Any], *, grows: bool) -> Loop:
        model = conv_host()
        if grows:
            attach(model, "norm1", batches(1)[0][0])
        inner = make([{"params": model.head.parameters()}, {"params": body(model), "weight_decay": 0.02}])
        optimizer = GrowthOptimizer(inner) if grows else inner
        return cls(model, optimizer, schedule(optimizer))

    @property
    def slot(self) -> SeedSlot:
        return slots(self.model)["norm1"]

    def step(self, index: int) -> None:
        torch.manual_seed(index)
        self.optimizer.zero_grad()
        loss = torch.zeros(())
        for batch in batches(2, size=4, seed=index):
            loss = loss_on(self.model, batch)
            (loss / 2).backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        if isinstance(self.schedule, lr_scheduler.ReduceLROnPlateau):
            self.schedule.step(loss.item())
        else:
            self.schedule.step()

    def grow(self) -> None:
        self.slot.germinate(blueprint())
        self.slot.advance()

    def cull(self) -> None:
        self.slot.cull("the test asks for it")
        while self.slot.stage.name != "DORMANT":
            self.slot.advance()


def body(model: ConvHost) -> list[nn.Parameter]:
    return [p for name, p in model.named_parameters() if not name.startswith("head")]


def state_of(optimizer: Optimizer) -> list[dict[str, Any]]:
    return [dict(optimizer.state[p]) for group in optimizer.param_groups for p in group["params"]]


def equal_values(first: Any, second: Any) -> bool:
    if isinstance(first, Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(equal_values(v, second[k]) for k, v in first.items())
    if isinstance(first, Sequence) and not isinstance(first, str):
        return len(first) == len(second) and all(map(equal_values, first, second))
    return bool(first == second)


def equal_loops(first: Loop, second: Loop) -> bool:
    """Whether host weights, buffers, optimizer state, rates and schedule agree bit for bit."""
    rates = [
        [{k: v for k, v in g.items() if k != "params"} for g in loop.optimizer.param_groups]
        for loop in (first, second)
    ]
    return (
        equal_states(fingerprint(first.model), fingerprint(second.model))
        and equal_values(state_of(first.optimizer), state_of(second.optimizer))
        and equal_values(*rates)
        and equal_values(
            *(
                {
                    k: v
                    for k, v in loop.schedule.state_dict().items()
                    if k not in ("lr_lambdas", "_schedulers")
                }
                for loop in (first, second)
            )
        )
    )


def through_json(value: Any) -> Any:
    """The value as a checkpoint's file carries it."""
    encoder = Encoder()
    text = json.dumps(encoder.encode(value, "state"), allow_nan=False)
    return Decoder(encoder.tensors).decode(json.loads(text))


def resumed(loop: Loop, make: Make, schedule: Callable[[Optimizer], Any]) -> Loop:
    """Another process's loop, given the state of `loop`."""
    record, weights = describe(slots(loop.model)), through_json(seed_weights(slots(loop.model)))
    host, optimizer, rates = (
        through_json(part.state_dict()) for part in (loop.model, loop.optimizer, loop.schedule)
    )
    other = Loop.of(make, schedule, grows=True)
    rebuild(other.model, record)
    other.model.load_state_dict(host)
    load_seed_weights(slots(other.model), weights)
    other.optimizer.load_state_dict(optimizer)
    other.schedule.load_state_dict(rates)
    return other


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_growing_culling_and_resuming_leave_the_hosts_training_as_it_was(kind: str, schedule: str) -> None:
    make, plan = OPTIMIZERS[kind], SCHEDULES[schedule]
    alone, grown = Loop.of(make, plan, grows=False), Loop.of(make, plan, grows=True)
    for index in range(STEPS):
        if index in (GROWN, GROWN_AGAIN):
            grown.grow()
        if index == CULLED:
            grown.cull()
        if index == RESUMED:
            grown = resumed(grown, make, plan)
        alone.step(index)
        grown.step(index)
    assert grown.slot.age_steps == STEPS - GROWN_AGAIN
    assert equal_loops(alone, grown)


@pytest.mark.parametrize("schedule", ["one_cycle", "plateau"])
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_seed_trains_on_after_a_resume_as_if_there_had_been_none(kind: str, schedule: str) -> None:
    make, plan = OPTIMIZERS[kind], SCHEDULES[schedule]
    ends = []
    for stops in (False, True):
        loop = Loop.of(make, plan, grows=True)
        loop.grow()
        for index in range(6):
            if stops and index == 3:
                loop = resumed(loop, make, plan)
            loop.step(index)
        assert loop.slot.seed is not None and loop.slot.optimizer is not None
        ends.append((fingerprint(loop.slot.seed), loop.slot.optimizer.state_dict()))
    assert equal_states(ends[0][0], ends[1][0])
    assert equal_values(ends[0][1], ends[1][1])


@pytest.mark.parametrize("schedule", ["one_cycle", "plateau"])
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_fossil_joins_with_its_own_state_and_leaves_the_others_theirs(kind: str, schedule: str) -> None:
    make, plan = OPTIMIZERS[kind], SCHEDULES[schedule]
    ends = []
    for stops in (False, True):
        loop = Loop.of(make, plan, grows=True)
        loop.grow()
        for index in range(4):
            loop.step(index)
        optimizer, slot = slots(loop.model).ground.optimizer, loop.slot
        assert slot.seed is not None and slot.optimizer is not None and optimizer is not None
        before, rates = (
            copy.deepcopy(state_of(loop.optimizer)),
            [group["lr"] for group in optimizer.param_groups],
        )
        own = copy.deepcopy([dict(slot.optimizer.optimizer.state[p]) for p in slot.seed.parameters()])
        put_in_place(slot)
        after = state_of(loop.optimizer)
        assert equal_values(before, after[: len(before)])
        assert equal_values(own, after[len(before) :])
        assert [group["lr"] for group in loop.optimizer.param_groups] == rates
        for index in range(4, 8):
            if stops and index == 6:
                loop = resumed(loop, make, plan)
            loop.step(index)
        assert not equal_values(own, state_of(loop.optimizer)[len(before) :]) or kind == "sgd"
        ends.append(loop)
    assert equal_loops(*ends)


def put_in_place(slot: SeedSlot) -> None:
    """From TRAINING to FOSSILIZED past the gates, with a comparison that says nothing."""
    for stage in (SeedStage.BLENDING, SeedStage.SHADOWING, SeedStage.PROBATIONARY):
        slot._enter(stage, "put there by the test", None)
    slot.hook.set_alpha(1.0)
    slot.comparison = Comparison(0.1, 0.01, 1.0, 0.9, 1.0, 100)
    slot._enter(SeedStage.FOSSILIZED, "put there by the test", None)
