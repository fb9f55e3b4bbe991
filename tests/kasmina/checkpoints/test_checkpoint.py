"""A run that is saved, torn down, made anew and loaded ends bit-equal to one that never stopped."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import lr_scheduler

from esper.kasmina.attach import attach
from esper.kasmina.checkpoints import state as state
from esper.kasmina.checkpoints.checkpoint import load_checkpoint, restore_topology, save_checkpoint
from esper.kasmina.errors import (
    AnotherHost,
    CannotCheckpoint,
    CheckpointContents,
    OptimizerDiffers,
    SeedWithoutGraph,
)
from esper.kasmina.host.blending import AlphaSchedule
from esper.kasmina.lifecycle.bank import slots
from esper.kasmina.lifecycle.slot import SeedSlot
from esper.kasmina.training.growth import Growth
from esper.kasmina.training.optimizer import GrowthOptimizer
from esper.leyline.stages import SeedStage
from esper.tamiyo.baselines import RandomTamiyo
from esper.tamiyo.heuristic import HeuristicParameters, HeuristicTamiyo
from tests.kasmina.networks import (
    NarrowHost,
    Recorder,
    ages_alone,
    equal_states,
    fingerprint,
    motif_signals,
)

TRAIN, HELD_OUT = motif_signals(96, seed=1), motif_signals(64, seed=2)
LOOSE = ages_alone(6)
"""Every gate opens once its age is reached, so that a short run meets every stage."""
STEPS_PER_EPOCH = 4


class NoisyHost(NarrowHost):
    """A host that draws random numbers in training, and has a buffer that its state dict leaves out."""

    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.2)
        self.register_buffer("calls", torch.zeros(()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        self.calls += self.training
        x = F.gelu(self.norm(self.stem(self.dropout(x))))
        x = F.gelu(self.out(self.body(x)))
        logits: Tensor = self.head(self.dropout(x.mean(-1)))
        return logits


class CachingHost(NoisyHost):
    """One that makes a cache at its first pass, which grows, and holds a mask and an expanded buffer."""

    cache: Tensor | None
    mask: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("cache", None, persistent=False)
        self.register_buffer("mask", torch.tensor([0.0, -torch.inf]), persistent=False)
        self.register_buffer("scale", torch.ones(1).expand(4), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.cache is None or (self.training and int(self.calls) == 40):
            self.cache = torch.ones(4 if self.cache is None else 6, 1)
        share = torch.softmax(self.mask, 0)[0]
        return super().forward(x * share * self.scale[0] * self.cache[0])


def loss_of(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1])


@dataclass
class Run:
    """A whole small run with a schedule, accumulation, clipping and a sampler of its own."""

    incubation: str = "straight_through"
    recorder: Recorder = field(default_factory=Recorder)
    step: int = 0
    host: Callable[[], nn.Module] = NoisyHost

    def __post_init__(self) -> None:
        torch.manual_seed(0)
        self.model = attach(self.host(), ["norm", "out"], TRAIN.x[:8], incubation=self.incubation)
        self.optimizer = GrowthOptimizer(torch.optim.AdamW(self.model.parameters(), lr=0.01))
        self.schedule = lr_scheduler.CosineAnnealingLR(self.optimizer, 200)
        self.sampler = torch.Generator().manual_seed(3)
        rules = HeuristicParameters(warmup_epochs=1, plateau_epochs=1, wait_epochs=2)
        self.growth = Growth(
            self.model,
            self.optimizer,
            HeuristicTamiyo(["conv_enhance", "norm"], rules),
            loss=loss_of,
            evaluate=HELD_OUT.losses,
            gates=LOOSE,
            blend=AlphaSchedule(steps=5),
            output=self.recorder,
            clip_norm=1.0,
        )

    def parts(self) -> dict[str, Any]:
        return {"growth": self.growth, "schedule": self.schedule, "sampler": self.sampler}

    def go_to(self, last: int) -> None:
        self.model.train()
        while self.step < last:
            self.step += 1
            self.optimizer.zero_grad()
            for part in range(2):
                chosen = torch.randint(len(TRAIN.x), (8,), generator=self.sampler)
                batch = TRAIN.x[chosen], TRAIN.y[chosen]
                loss = loss_of(self.model, batch)
                (loss / 2).backward()
                if part == 1:
                    nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
                    self.optimizer.step()
                    self.schedule.step()
                self.growth.observe(loss, batch)
            if self.step % STEPS_PER_EPOCH == 0:
                self.growth.step()

    def slot(self, name: str = "norm") -> SeedSlot:
        return slots(self.model)[name]

    def stages(self) -> list[SeedStage]:
        return [slot.stage for slot in self.growth.slots.values()]

    def everything(self) -> dict[str, Tensor]:
        """All tensors of host, seeds and optimizers."""
        found = fingerprint(self.model)
        for name, slot in slots(self.model).items():
            if slot.seed is not None:
                found |= {f"{name}/{key}": value for key, value in fingerprint(slot.seed).items()}
        for index, held in enumerate(self.optimizer.state.values()):
            found |= {f"{index}.{key}": torch.as_tensor(value) for key, value in held.items()}
        return found


def resumed(run: Run, path: Path) -> Run:
    save_checkpoint(path, **run.parts())
    torch.manual_seed(99)
    other = Run(run.incubation, step=run.step, host=run.host)
    torch.rand(3), random.random(), np.random.rand()
    load_checkpoint(path, **other.parts())
    return other


END = 60


@pytest.mark.parametrize("incubation", ["straight_through", "counterfactual", "none"])
def test_a_run_resumed_at_every_stage_ends_as_one_that_never_stopped(incubation: str, tmp_path: Path) -> None:
    whole = Run(incubation)
    whole.go_to(END)
    met: set[SeedStage] = set()
    part, events = Run(incubation), []
    for step in range(3, END, 3):
        part.go_to(step)
        met.update(part.stages())
        events += part.recorder.events
        part = resumed(part, tmp_path / "c.safetensors")
    part.go_to(END)
    assert met >= {SeedStage(n) for n in range(SeedStage.TRAINING, SeedStage.FOSSILIZED + 1)}
    assert equal_states(whole.everything(), part.everything())
    assert whole.recorder.events == events + part.recorder.events
    assert [slot.history for slot in whole.growth.slots.values()] == [
        slot.history for slot in part.growth.slots.values()
    ]


@pytest.mark.parametrize("stage", [SeedStage.TRAINING, SeedStage.BLENDING, SeedStage.FOSSILIZED])
def test_a_run_that_has_gone_on_goes_back_to_its_checkpoint(stage: SeedStage, tmp_path: Path) -> None:
    whole, path = Run(), tmp_path / "c.safetensors"
    whole.go_to(END)
    run = Run()
    while stage not in run.stages():
        run.go_to(run.step + 1)
    saved_at = run.step
    save_checkpoint(path, **run.parts())
    run.go_to(END)
    load_checkpoint(path, **run.parts())
    run.step = saved_at
    run.go_to(END)
    assert equal_states(whole.everything(), run.everything())
    assert [slot.history for slot in whole.growth.slots.values()] == [
        slot.history for slot in run.growth.slots.values()
    ]


def test_a_run_goes_on_from_the_middle_of_an_accumulation(tmp_path: Path) -> None:
    ends = []
    for stops in (False, True):
        run = Run()
        run.go_to(20)
        batch = TRAIN.x[:8], TRAIN.y[:8]
        loss_of(run.model, batch).backward()
        run.growth.observe(loss_of(run.model, batch), batch)
        if stops:
            run = resumed(run, tmp_path / "c.safetensors")
        loss_of(run.model, batch).backward()
        run.optimizer.step()
        ends.append(run.everything())
    assert equal_states(*ends)


@pytest.mark.parametrize("host", [NoisyHost, CachingHost])
def test_a_rollback_after_a_resume_goes_back_to_where_it_would_have(
    host: Callable[[], nn.Module], tmp_path: Path
) -> None:
    ends = []
    for stops in (False, True):
        run = Run("counterfactual", host=host)
        while run.slot().stage is not SeedStage.SHADOWING:
            run.go_to(run.step + 1)
        run.go_to(run.step + 2)
        if stops:
            run = resumed(run, tmp_path / "c.safetensors")
        assert run.slot().snapshot is not None
        run.slot().cull("the test asks for it")
        culled = run.everything()
        run.go_to(END)
        ends.append((culled, run.everything()))
    assert equal_states(ends[0][0], ends[1][0])
    assert equal_states(ends[0][1], ends[1][1])


def test_buffers_that_grow_or_cannot_be_written_to_stop_neither_verdicts_nor_a_resume(tmp_path: Path) -> None:
    ends = []
    for stops in (False, True):
        run = Run(host=CachingHost)
        while run.slot().stage is not SeedStage.PROBATIONARY:
            run.go_to(run.step + 1)
        if stops:
            run = resumed(run, tmp_path / "c.safetensors")
        control = run.slot().control
        assert control is not None
        found = control.compare()
        assert math.isfinite(found.gain)
        run.go_to(END)
        ends.append((run.everything(), found))
    assert equal_states(ends[0][0], ends[1][0])
    assert ends[0][1] == ends[1][1]


MADE_ANEW = {
    "slot": {"name", "host", "hook", "probe", "incubation", "log", "_ground", "_role"}
    | {"control", "snapshot", "optimizer"},
    "hook": {
        "output",
        "stream",
        "draws",
        "attendance",
        "awake",
        "ticket",
        "number",
        "role",
        "_phase",
        "_last_task",
    }
    | {"_held"},
    "log": {"slot", "_ground"},
    "ground": {"model", "gates", "blend", "optimizer", "trial", "output", "tracker", "embargo", "mode"}
    | {"exploded_steps"},
    "growth": {"slots", "optimizer", "governor", "policy", "tracker"},
}
"""What a script makes anew, or a checkpoint holds in another form."""


def test_every_attribute_is_in_a_checkpoint_or_made_anew() -> None:
    growth = Run().growth
    slot = next(iter(growth.slots.values()))
    for kind, part, saved in (
        ("slot", slot, state.SLOT_VALUES),
        ("hook", slot.hook, state.HOOK_VALUES),
        ("log", slot.log, state.LOG_VALUES),
        ("ground", growth.slots.ground, state.GROUND_VALUES),
        ("growth", growth, state.GROWTH_VALUES),
    ):
        assert all(hasattr(part, name) for name in saved)
        assert set(vars(part)) - set(saved) - MADE_ANEW[kind] - set(vars(nn.Module())) == set()


def test_the_governor_goes_on_counting(tmp_path: Path) -> None:
    run = Run()
    run.go_to(12)
    run.growth.governor.regressions = 1
    run.growth.governor.watch.exploded = 2
    growth = resumed(run, tmp_path / "c").growth
    assert run.growth.governor.state_dict() == growth.governor.state_dict()
    assert growth.slots.ground.exploded_steps == 2


def test_the_topology_can_be_restored_before_the_weights(tmp_path: Path) -> None:
    run = Run()
    run.go_to(48)
    assert SeedStage.FOSSILIZED in run.stages()
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, **run.parts())
    plain = NoisyHost()
    restore_topology(plain, path)
    assert list(plain.state_dict()) == list(run.model.state_dict())
    assert [slot.stage for slot in slots(plain).values()] == run.stages()
    other = Run(step=run.step)
    restore_topology(other.model, path)
    load_checkpoint(path, **other.parts())
    assert equal_states(run.everything(), other.everything())


def test_what_python_numpy_and_torch_draw_next_is_what_they_would_have_drawn(tmp_path: Path) -> None:
    def draw() -> tuple[Any, ...]:
        return (
            random.random(),
            random.gauss(),
            np.random.rand(),
            np.random.standard_normal(),
            torch.rand(()).item(),
        )

    run, path = Run(), tmp_path / "c.safetensors"
    draw()
    save_checkpoint(path, **run.parts())
    drawn = draw()
    load_checkpoint(path, **Run().parts())
    assert draw() == drawn


def test_a_scaler_and_an_average_of_the_weights_go_along(tmp_path: Path) -> None:
    run, path = Run(), tmp_path / "c.safetensors"
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    scaler.scale(torch.ones(()))
    average = torch.optim.swa_utils.AveragedModel(nn.Linear(2, 2))
    save_checkpoint(path, **run.parts(), scaler=scaler, average=average, missing=None)
    other, fresh = torch.amp.GradScaler("cpu"), torch.optim.swa_utils.AveragedModel(nn.Linear(2, 2))
    load_checkpoint(path, **Run().parts(), scaler=other, average=fresh)
    assert other.get_scale() == 8.0
    assert equal_states(average.state_dict(), fresh.state_dict())


def test_another_host_is_refused_by_the_names_that_differ(tmp_path: Path) -> None:
    run, path = Run(), tmp_path / "c.safetensors"
    run.go_to(8)
    save_checkpoint(path, **run.parts())
    for change, said in (
        (lambda m: setattr(m, "head", nn.Linear(6, 5)), r"has `head.bias` \[5\], where it is \[4\]"),
        (lambda m: m.add_module("extra", nn.Linear(2, 2)), r"has `extra.bias` \[2\] besides"),
        (lambda m: m.double(), "has `.*` in float64, where it is in float32"),
    ):
        other = Run()
        change(other.model)
        before = fingerprint(other.model)
        with pytest.raises(AnotherHost, match=said):
            load_checkpoint(path, **other.parts())
        assert equal_states(before, fingerprint(other.model))
    fewer = one_slot()
    fewer.policy = run.growth.policy
    with pytest.raises(AnotherHost, match="has the slots norm, where they are norm, out"):
        load_checkpoint(path, growth=fewer, schedule=run.schedule, sampler=run.sampler)


def one_slot() -> Growth:
    model = attach(NoisyHost(), "norm", TRAIN.x[:8])
    return Growth(model, GrowthOptimizer(torch.optim.AdamW(model.parameters())), "never")


@dataclass
class OtherGroups(Run):
    """A run whose optimizer was made otherwise: of two groups, of another kind, or of fewer parameters."""

    made: str = "groups"

    def __post_init__(self) -> None:
        super().__post_init__()
        parameters, rate = list(self.model.parameters()), 0.01
        made: dict[str, Callable[[], torch.optim.Optimizer]] = {
            "groups": lambda: torch.optim.AdamW(
                [{"params": parameters[:2]}, {"params": parameters[2:]}], rate
            ),
            "kind": lambda: torch.optim.SGD(parameters, rate, momentum=0.9),
            "adam": lambda: torch.optim.Adam(parameters, rate),
            "fewer": lambda: torch.optim.AdamW(parameters[2:], rate),
        }
        self.optimizer = GrowthOptimizer(made[self.made]())
        self.growth = Growth(self.model, self.optimizer, self.growth.policy)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ("groups", "it has 2 groups of parameters, where the state has 1"),
        ("kind", "it is SGD, where the state is of AdamW"),
        ("adam", "it is Adam, where the state is of AdamW"),
        ("fewer", "it lacks `stem"),
    ],
)
def test_a_run_that_refuses_a_checkpoint_stays_as_it_was(made: str, said: str, tmp_path: Path) -> None:
    run, path = Run(), tmp_path / "c.safetensors"
    run.go_to(48)
    assert SeedStage.FOSSILIZED in run.stages()
    save_checkpoint(path, **run.parts())
    other = OtherGroups(made=made)
    other.slot().germinate("conv_enhance")
    before, drawn = other.everything(), torch.get_rng_state()
    with pytest.raises(OptimizerDiffers, match=said):
        load_checkpoint(path, **other.parts())
    assert equal_states(before, other.everything())
    assert torch.equal(drawn, torch.get_rng_state())
    assert other.stages() == [SeedStage.GERMINATED, SeedStage.DORMANT]
    assert (other.optimizer.steps, len(other.slot().history)) == (0, 1)


def test_a_checkpoint_of_another_incubation_or_output_is_refused(tmp_path: Path) -> None:
    run, path = Run("counterfactual"), tmp_path / "c.safetensors"
    run.go_to(8)
    save_checkpoint(path, **run.parts())
    other = Run()
    said = "has `norm` with incubation='straight_through', where it is 'counterfactual'"
    with pytest.raises(AnotherHost, match=said):
        load_checkpoint(path, **other.parts())
    assert set(other.stages()) == {SeedStage.DORMANT}
    same = Run("counterfactual")
    same.slot("out").hook.output = 1
    with pytest.raises(AnotherHost, match="has `out` with output=1, where it is None"):
        load_checkpoint(path, **same.parts())


def test_every_object_that_was_saved_is_asked_for(tmp_path: Path) -> None:
    run, path = Run(), tmp_path / "c.safetensors"
    save_checkpoint(path, **run.parts())
    with pytest.raises(
        CheckpointContents, match="holds the state of `schedule`, `sampler`, and `schedule` were given"
    ):
        load_checkpoint(path, growth=run.growth, schedule=run.schedule)
    with pytest.raises(CheckpointContents):
        load_checkpoint(path, **run.parts(), scaler=torch.amp.GradScaler("cpu"))
    load_checkpoint(path, growth=run.growth, schedule=None, sampler=None)


def test_what_cannot_be_saved_is_named(tmp_path: Path) -> None:
    class Odd:
        def state_dict(self) -> dict[str, Any]:
            return {"parts": [1, {"hook": print}]}

    run, path = Run(), tmp_path / "c.safetensors"
    with pytest.raises(CannotCheckpoint, match=r"`objects\.odd\.parts\[1\]\.hook` is a builtin_function"):
        save_checkpoint(path, **run.parts(), odd=Odd())
    with pytest.raises(CannotCheckpoint, match="`step` is a int without a state_dict"):
        save_checkpoint(path, **run.parts(), step=3)
    run.slot().plant(nn.Identity(), blueprint_id="own")
    with pytest.raises(SeedWithoutGraph, match="`norm`"):
        save_checkpoint(path, **run.parts())
    assert not path.exists()


def test_a_random_policy_goes_on_with_its_own_numbers(tmp_path: Path) -> None:
    growth, path = one_slot(), tmp_path / "c.safetensors"
    growth.policy = RandomTamiyo(["norm"], seed=5)
    growth.policy._random.random()
    save_checkpoint(path, growth=growth)
    other = one_slot()
    other.policy = RandomTamiyo(["norm"], seed=6)
    load_checkpoint(path, growth=other)
    assert growth.policy._random.random() == other.policy._random.random()
    with pytest.raises(CheckpointContents, match="a NeverTamiyo, which takes none, was given"):
        load_checkpoint(path, growth=one_slot())
    heuristic = one_slot()
    heuristic.policy = HeuristicTamiyo(["norm"])
    before = fingerprint(heuristic.slots.model)
    with pytest.raises(
        CheckpointContents, match="the state of a RandomTamiyo, and a HeuristicTamiyo was given"
    ):
        load_checkpoint(path, growth=heuristic)
    assert equal_states(before, fingerprint(heuristic.slots.model))
