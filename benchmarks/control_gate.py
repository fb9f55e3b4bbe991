"""Whether the last gate tells useful seeds from useless ones, under the default gates, on MNIST-1D.

A useful seed is a residual pair of convolutions; the useless one is a 1x1 convolution in front of the
host's next convolution, which adds nothing that the host could not learn alone. Each is planted early,
while the host learns fast, and later.

    python benchmarks/control_gate.py --seeds 20
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esper.kasmina.attach import attach
from esper.kasmina.bank import slots
from esper.kasmina.growth import Growth
from esper.kasmina.optimizer import GrowthOptimizer
from esper.leyline.actions import Action, AdvanceStage, Cull
from esper.leyline.gates import GateLevel
from esper.leyline.reports import FieldReport
from esper.leyline.signals import TrainingSignals
from esper.leyline.stages import SeedStage, is_active_stage
from esper.simic.hosts import host_named
from esper.simic.tasks import task_named

SLOT, BATCH = "blocks.0", 100


class Residual(nn.Module):
    """x + convolution(GELU(BatchNorm(convolution(x)))), zero at first: [N, C, L] to the same."""

    def __init__(self, channels: int, hidden: int = 32) -> None:
        super().__init__()
        self.inner = nn.Conv1d(channels, hidden, 5, padding=2)
        self.norm = nn.BatchNorm1d(hidden)
        self.outer = nn.Conv1d(hidden, channels, 1)
        nn.init.zeros_(self.outer.weight)

    def forward(self, x: Tensor) -> Tensor:
        grown: Tensor = x + self.outer(F.gelu(self.norm(self.inner(x))))
        return grown


def useless(channels: int) -> nn.Module:
    """The identity as a 1x1 convolution, free to learn."""
    convolution = nn.Conv1d(channels, channels, 1)
    nn.init.dirac_(convolution.weight)
    return convolution


SEEDS: dict[str, Callable[[int], nn.Module]] = {"useful": Residual, "useless": useless}


@dataclass
class PlantAt:
    """Plants one module at an epoch, puts it forward, and gives it up when its gate has refused it."""

    model: nn.Module
    make: Callable[[int], nn.Module]
    epoch: int

    def decide(self, signals: TrainingSignals) -> Sequence[Action]:
        slot, state = slots(self.model)[SLOT], signals.slot(SLOT)
        if signals.epoch == self.epoch:
            slot.plant(self.make(slot.probe.shape[1]), blueprint_id="planted")
            slot.advance()
        elif is_active_stage(state.stage):
            if state.refusals >= (1 if state.stage is SeedStage.PROBATIONARY else 4):
                return [Cull(SLOT, "refused")]
            return [AdvanceStage(SLOT)]
        return []


def fate(make: Callable[[int], nn.Module], epoch: int, seed: int) -> FieldReport:
    """The report on one seed planted at `epoch`."""
    task = task_named("mnist1d", seed)
    torch.manual_seed(seed)
    model = attach(host_named("cnn").build(task), SLOT, task.train.x[:8])
    optimizer = GrowthOptimizer(torch.optim.AdamW(model.parameters(), lr=3e-3))

    def held_out(model: nn.Module) -> Tensor:
        return task.losses(model.eval()(task.held_out.x), task.held_out.y)

    growth = Growth(
        model,
        optimizer,
        PlantAt(model, make, epoch),
        loss=lambda model, batch: task.losses(model(batch[0]), batch[1]).mean(),
        evaluate=held_out,
    )
    while not growth.reports:
        model.train()
        for rows in torch.randperm(len(task.train)).split(BATCH):
            batch = task.train.x[rows], task.train.y[rows]
            optimizer.zero_grad()
            loss = task.losses(model(batch[0]), batch[1]).mean()
            torch.autograd.backward(loss)
            optimizer.step()
            growth.observe(loss, batch)
        growth.step()
    return growth.reports[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    count: int = parser.parse_args().seeds
    torch.set_num_threads(1)
    print("Gains: least / middle / greatest of those that came before the last gate.\n")
    print("| seed | planted at epoch | fossilized | by gain alone | gain | gain over progress |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, make in SEEDS.items():
        for epoch in (3, 12):
            reports = [fate(make, epoch, seed) for seed in range(count)]
            kept = sum(report.outcome is SeedStage.FOSSILIZED for report in reports)
            verdicts = [report.gates[-1] for report in reports if report.gates[-1].level is GateLevel.G5]
            by_gain = sum({f.name for f in gate.failures} <= {"gain_over_progress"} for gate in verdicts)
            gains = spread([gate.figures["gain"] for gate in verdicts])
            progress = spread([gate.figures["gain_over_progress"] for gate in verdicts])
            print(f"| {name} | {epoch} | {kept} of {count} | {by_gain} | {gains} | {progress} |", flush=True)


def spread(figures: Sequence[float | None]) -> str:
    """Least, middle and greatest."""
    known = sorted(figure for figure in figures if figure is not None)
    if not known:
        return "not judged"
    return " / ".join(f"{figure:.2f}" for figure in (known[0], known[len(known) // 2], known[-1]))


if __name__ == "__main__":
    main()
