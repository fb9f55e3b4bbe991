"""The arms of each question: what an arm trains, and for how long.

Sizes are matched to what growth came to with the same seed, budgets to the operations that it spent; which
growing arm that is was chosen on validation data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pydantic import TypeAdapter
from safetensors.torch import load_file
from torch import Tensor, nn

from esper.kasmina.attach import attach
from esper.kasmina.host.blending import AlphaSchedule
from esper.kasmina.lifecycle.gates import GateParameters
from esper.simic.flops import counting
from esper.simic.hosts import Host, host_named
from esper.simic.study import second_task
from esper.simic.study.adapters import bottleneck, lora
from esper.simic.study.records import Outcome, SeedOutcome, Settings, StudyConfig
from esper.simic.study.sizes import matched_width, with_seeds
from esper.simic.study.training import Growing, Objective, Recipe, fit, in_place, meter_for
from esper.simic.tasks import Task, batch_size_of, mnist1d_task, task_named

GROWN = "heuristic"
"""The growing arm that sizes, budgets and claims refer to."""
HOST_OF = {"mnist1d": "cnn", "digits": "cnn", "text": "gpt"}
"""The host with which each task is studied."""


@dataclass
class Place:
    """One job as its arm sees it: data, host, settings, and what arms before it made with the same seed."""

    config: StudyConfig
    seed: int
    settings: Settings
    prior: dict[str, Outcome]
    """Outcomes of the arms that this one builds on, by their names."""
    weights: Path
    """Of the trained host, where the question has one."""

    @cached_property
    def task(self) -> Task:
        """The task's data for this seed; of a second task, that."""
        whole = self._whole
        return second_task.halves(whole)[1] if self.config.question == "second-task" else whole

    @cached_property
    def first(self) -> Task:
        """The first of two tasks."""
        return second_task.halves(self._whole)[0]

    @cached_property
    def _whole(self) -> Task:
        if self.config.task == "mnist1d":
            several = 2 if self.config.question == "second-task" else 1
            return mnist1d_task(self.seed, several * self.config.test_examples)
        return task_named(self.config.task, self.seed)

    @property
    def host(self) -> Host:
        return host_named(HOST_OF[self.config.task])

    @cached_property
    def objective(self) -> Objective:
        return Objective(self.task, meter_for(self.task))

    @property
    def batch_size(self) -> int:
        return min(batch_size_of(self.config.task), len(self.task.train))

    @property
    def steps(self) -> int:
        """Of a run over the study's epochs."""
        return self.config.epochs * (len(self.task.train) // self.batch_size)

    @property
    def grown(self) -> Outcome:
        """What growing came to with this seed."""
        return self.prior[GROWN]

    def affordable(self, model: nn.Module, extra: int = 0) -> int:
        """The steps of `model` that cost what growth did, rounded; `extra` operations come with each step."""
        step = self.objective.meter.cost(model, self.batch_size, backward=True) + extra
        return max(round(self.grown.total_flops / step), 1)

    def fit(
        self,
        model: nn.Module,
        steps: int,
        growing: Growing | None = None,
        replay: Callable[[nn.Module], Tensor] | None = None,
    ) -> tuple[SeedOutcome, ...]:
        recipe = Recipe(steps, self.settings.lr, self.batch_size)
        return fit(model, self.objective, recipe, self.seed, growing=growing, replay=replay)

    def trained_host(self) -> nn.Module:
        """The host as the question finds it, its weights those of the job that trained it."""
        model = self.host.build(self.first if self.config.question == "second-task" else self.task)
        model.load_state_dict(load_file(self.weights))
        return model


@dataclass(frozen=True)
class Made:
    """What an arm leaves: a network, and how it came about."""

    model: nn.Module
    steps: int
    seeds: tuple[SeedOutcome, ...] = ()
    width: int | None = None
    depth: int | None = None


def small(place: Place) -> Made:
    """The small host, for the study's epochs."""
    model = place.host.build(place.task)
    place.fit(model, place.steps)
    return Made(model, place.steps)


def first_task(place: Place) -> Made:
    """The small host on the first of two tasks, for the study's epochs."""
    place.task = place.first
    return small(place)


def grow(place: Place, policy: str, incubation: str) -> Made:
    """The small host, grown while it trains for the study's epochs."""
    return _grow(place, place.host.build(place.task), policy, incubation)


def final_size(place: Place, *, equal_flops: bool) -> Made:
    """A host widened, at the depth that tuning chose, until it has the grown network's parameters.

    For the study's epochs, or for the operations that growing took, fully decayed within them.
    """
    depth = place.settings.depth or place.host.depth
    width = matched_width(place.host, place.task, depth, place.grown.parameters)
    model = place.host.build(place.task, width, depth)
    steps = place.affordable(model) if equal_flops else place.steps
    place.fit(model, steps)
    return Made(model, steps, width=width, depth=depth)


def topology(place: Place) -> Made:
    """The small host with the grown network's seeds built in from the first step, for the study's epochs."""
    model = place.host.build(place.task)
    model = with_seeds(model, place.task, in_place(place.grown.seeds), place.seed)
    place.fit(model, place.steps)
    return Made(model, place.steps)


def go_on(place: Place) -> Made:
    """The trained host, trained further: warm-up and decay anew."""
    model = place.trained_host()
    steps = place.affordable(model)
    place.fit(model, steps)
    return Made(model, steps)


def at_once(place: Place) -> Made:
    """The trained host with the seeds that growth kept, built in before the first step."""
    model = with_seeds(place.trained_host(), place.task, in_place(place.grown.seeds), place.seed)
    steps = place.affordable(model)
    place.fit(model, steps)
    return Made(model, steps)


def adapt(place: Place, kind: str, *, is_frozen: bool = True) -> Made:
    """The trained host with adapters that have as many parameters as growth added."""
    model = place.trained_host()
    has_two_tasks = place.config.question == "second-task"
    wanted = place.grown.added
    if has_two_tasks:
        second_task.rest(model)
        second_task.add_head(model, place.task)
        wanted -= second_task.head_parameters(model)
    if kind == "lora":
        model = lora(model, wanted, leaving=second_task.HEADS if has_two_tasks else ())
    else:
        model = bottleneck(model, place.task, place.host.slots, wanted)
    if not is_frozen:
        model.requires_grad_(True)
    if has_two_tasks:
        model.get_submodule("head").requires_grad_(True)
    steps = place.affordable(model)
    place.fit(model, steps)
    return Made(model, steps)


def grow_trained(place: Place) -> Made:
    """The trained host, grown while it trains further, for the study's epochs."""
    return _grow(place, place.trained_host(), "heuristic")


def fine_tune(place: Place, *, with_replay: bool) -> Made:
    """All of the trained host learns the second task, with a classifier for it.

    With replay, each step also sees as many of the first task's examples, out of a few that were kept.
    """
    model = place.trained_host()
    second_task.add_head(model, place.task)
    if not with_replay:
        steps = place.affordable(model)
        place.fit(model, steps)
        return Made(model, steps)
    again = second_task.Replay(place.first, place.objective.meter, place.batch_size, place.seed)
    steps = place.affordable(model, extra=place.objective.meter.cost(model, place.batch_size, backward=True))
    place.fit(model, steps, replay=again)
    return Made(model, steps)


def grow_frozen(place: Place) -> Made:
    """The trained host, frozen, learns the second task by the seeds that grow in it, and a classifier."""
    model = place.trained_host()
    second_task.rest(model)
    second_task.add_head(model, place.task)
    return _grow(place, model, "heuristic")


def _grow(place: Place, model: nn.Module, policy: str, incubation: str = "none") -> Made:
    settings = place.settings
    x = place.task.train.x[: place.batch_size]
    with counting() as counter:
        grown = attach(model, list(place.host.slots), x, incubation=incubation)
    place.objective.meter.counts["attachment"] = counter.get_total_flops()
    growing = Growing(
        policy=policy,
        blueprints=settings.blueprints or place.host.blueprints,
        options=settings.policy,
        gates=TypeAdapter(GateParameters).validate_python(settings.gates),
        blend=AlphaSchedule(steps=settings.blend_steps),
    )
    seeds = place.fit(grown, place.steps, growing=growing)
    return Made(grown, place.steps, seeds)
