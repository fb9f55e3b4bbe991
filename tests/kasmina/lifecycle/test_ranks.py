"""Two processes grow one host: rank 0 decides, both follow, and they end with the same network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from esper.kasmina.attach import attach
from esper.kasmina.host.blending import AlphaSchedule
from esper.kasmina.lifecycle import ranks
from esper.kasmina.lifecycle.bank import slots
from esper.kasmina.lifecycle.gates import GateParameters
from esper.kasmina.training.growth import Growth
from esper.kasmina.training.optimizer import GrowthOptimizer
from esper.leyline.actions import Action, AdvanceStage, Cull, Germinate
from esper.leyline.events import Event
from esper.leyline.signals import TrainingSignals
from esper.leyline.stages import SeedStage, is_active_stage
from tests.process_group import PROCESSES, run_together

ROWS = 8
GATES = GateParameters(
    training_steps=2,
    gradient_ratio=0.0,
    descent_errors=-1e9,
    shadow_steps=1,
    loss_rise=1e9,
    probation_steps=1,
    heldout_examples=10,
)


class Body(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv1d(2, 4, 3, padding=1), nn.BatchNorm1d(4), nn.GELU())
        self.second = nn.Sequential(nn.Conv1d(4, 4, 3, padding=1), nn.GELU())
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.second(self.first(x)).mean(-1))
        return logits


class Recorder:
    """Keeps the events of a run."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def emit(self, event: Event) -> None:
        self.events.append(event.to_record())


class Contrary:
    """Wants something else on each rank: only one of them can have its way."""

    def __init__(self, rank: int) -> None:
        self.rank = rank

    def decide(self, signals: TrainingSignals) -> Sequence[Action]:
        first, second = signals.slots
        mine, other = (first, second) if self.rank == 0 else (second, first)
        actions: list[Action] = []
        if mine.is_available and signals.epoch < 20:
            actions.append(Germinate("conv_enhance", mine.name))
        elif is_active_stage(mine.stage):
            actions.append(AdvanceStage(mine.name))
        if is_active_stage(other.stage) and signals.epoch == 9:
            actions.append(Cull(other.name, "unloved"))
        return actions


def grow(rank: int, folder: Path, verdict: str, incubation: str) -> None:
    """One process. verdict: the rank whose held-out losses favour the seed."""
    torch.manual_seed(0)
    x = torch.randn(PROCESSES * ROWS, 2, 9)
    y = x[:, 0].abs().sum(-1).long() % 3
    torch.manual_seed(rank)  # generators differ, as they do where each process seeds its own
    with torch.random.fork_rng():
        torch.manual_seed(1)
        host = Body()
    model = attach(host, slots=r"first|second", example=x[:4], incubation=incubation)
    shared = DistributedDataParallel(model)
    optimizer = GrowthOptimizer(torch.optim.AdamW(model.parameters(), lr=1e-2))

    def evaluate(model: nn.Module) -> Tensor:
        """Losses that are lower with a seed in place on one rank, and higher on the other."""
        is_grown = (
            any(hook.level > 0 for hook in [slot.hook for slot in slots(host).values()]) and model is host
        )
        favoured = str(rank) == verdict
        losses = F.cross_entropy(model(x), y, reduction="none")
        return losses * (1.0 if not is_grown else 0.5 if favoured else 2.0)

    recorder = Recorder()
    growth = Growth(
        model,
        optimizer,
        policy=Contrary(rank),
        loss=lambda model, batch: F.cross_entropy(model(batch[0]), batch[1]),
        evaluate=evaluate,
        gates=GATES,
        blend=AlphaSchedule(steps=2),
        clip_norm=1.0,
        output=recorder,
    )
    mine = x[rank::PROCESSES], y[rank::PROCESSES]
    for epoch in range(14):
        for _ in range(2):
            optimizer.zero_grad()
            loss = F.cross_entropy(shared(mine[0]), mine[1])
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            growth.observe(loss, mine)
        growth.step(val_loss=float(rank) + 1.0 / (epoch + 1))
    seeds = {
        f"{name}/{key}": value
        for name, slot in slots(shared).items()
        if slot.seed is not None
        for key, value in slot.seed.state_dict().items()
    }
    host_state = {name: value for name, value in model.state_dict().items() if "running" not in name}
    state = {name: value.detach().clone() for name, value in {**host_state, **seeds}.items()}
    save_file(state, folder / f"{rank}.safetensors")
    kinds = {name: [str(line.target.name) for line in slot.history] for name, slot in slots(model).items()}
    (folder / f"{rank}.json").write_text(json.dumps([kinds, len(recorder.events)]))


@pytest.mark.parametrize(("verdict", "incubation"), [("0", "straight_through"), ("1", "counterfactual")])
def test_both_ranks_end_with_one_network_though_they_would_decide_otherwise(
    tmp_path: Path, verdict: str, incubation: str
) -> None:
    run_together(grow, tmp_path, verdict, incubation)
    histories, counts = zip(
        *(json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)), strict=True
    )
    assert histories[0] == histories[1]
    stages = histories[0]["first"]
    assert (SeedStage.FOSSILIZED.name in stages) == (verdict == "0") and SeedStage.PROBATIONARY.name in stages
    assert histories[0]["second"] == []  # rank 1's wish
    assert counts[0] > 0 and counts[1] == 0
    states = [load_file(tmp_path / f"{rank}.safetensors") for rank in (0, 1)]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


class Failing(torch.autograd.Function):
    """A layer whose backward pass runs out of memory, say."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        raise RuntimeError("out of memory")


class Skipping(nn.Module):
    """Leaves its second block out where `skips`."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)
        self.skips = False

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        logits: Tensor = self.head(x if self.skips else self.second(x).tanh())
        return logits


def train_fossils(rank: int, folder: Path) -> None:
    """One process, whose host has a fossilized seed: a pass that fails, then one without the slot's module
    on rank 1, then one without it on either."""
    torch.manual_seed(0)
    host = Skipping()
    torch.manual_seed(rank + 1)
    x, y = torch.randn(ROWS, 4), torch.randint(3, (ROWS,))
    model = attach(host, "second", x)
    shared = DistributedDataParallel(model, find_unused_parameters=True)
    optimizer = GrowthOptimizer(torch.optim.AdamW(model.parameters(), lr=1e-2))
    gates = GateParameters(permissive=True, training_steps=1, shadow_steps=1, probation_steps=1)
    Growth(model, optimizer, policy="never", gates=gates, blend=AlphaSchedule(steps=1))
    slot = slots(model)["second"]
    slot.germinate("mlp_block")

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(shared(x), y).backward()
        optimizer.step()

    while slot.stage is not SeedStage.FOSSILIZED:
        slot.advance()
        step()
        step()
    seed = slot.seed
    assert seed is not None

    with pytest.raises(RuntimeError, match="out of memory"):
        F.cross_entropy(host(Failing.apply(x.requires_grad_())), y).backward()  # type: ignore[no-untyped-call]
    x.requires_grad_(False)
    step()
    before = [parameter.detach().clone() for parameter in seed.parameters()]
    host.skips = rank == 1
    step()
    assert not any(torch.equal(a, b) for a, b in zip(before, seed.parameters(), strict=True))
    host.skips = True
    step()
    assert all(parameter.grad is None for parameter in seed.parameters())
    save_file(model.state_dict(), folder / f"{rank}.safetensors")


def test_fossils_are_one_on_all_ranks_after_a_failed_pass_and_one_that_skips_their_slot(
    tmp_path: Path,
) -> None:
    run_together(train_fossils, tmp_path)
    states = [load_file(tmp_path / f"{rank}.safetensors") for rank in (0, 1)]
    assert any(name.startswith("_esper") for name in states[0])
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_a_process_alone_communicates_with_nobody() -> None:
    value, tensor = {"a": [1, 2.5, None, "x"]}, torch.ones(3)
    assert ranks.of_first(value) is value and ranks.is_first() and ranks.mean(2.0) == 2.0
    ranks.average([tensor])
    ranks.copy_first([tensor])
    assert torch.equal(tensor, torch.ones(3))
