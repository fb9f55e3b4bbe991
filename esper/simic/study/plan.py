"""The questions as tables: which arms there are, what each builds on, and which settings are tried for it.

Every arm has the same number of trials. An arm that builds on others runs after them, with the same seed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

from esper.simic.study import arms
from esper.simic.study.arms import GROWN, Made, Place
from esper.simic.study.records import Settings


@dataclass(frozen=True)
class Arm:
    """One way to spend the training.

    run: what it does with a job. trials: the settings to choose from, once for each task's host.
    builds_on: the arms whose outcomes with the same seed it needs.
    """

    name: str
    title: str
    run: Callable[[Place], Made]
    trials: Mapping[str, tuple[Settings, ...]]
    builds_on: tuple[str, ...] = ()
    is_sunk: bool = False
    """Whether it is what the others begin with, and not compared."""


@dataclass(frozen=True)
class Claim:
    """Growth against one arm: the difference's 95 % interval, in points, lies above a bound."""

    rival: str
    above: float


@dataclass(frozen=True)
class Question:
    """A question, its arms in the order of the report, and what growth has to show."""

    name: str
    title: str
    tasks: tuple[str, ...]
    arms: tuple[Arm, ...]
    claims: tuple[Claim, ...]
    most_forgotten: float | None = None
    """Points that growth may lose on a first task."""

    def arm(self, name: str) -> Arm:
        return next(arm for arm in self.arms if arm.name == name)


RATES = {"cnn": (0.01, 0.015, 0.02, 0.03, 0.04), "gpt": (1e-3, 2e-3, 3e-3, 5e-3, 8e-3)}
"""Peak learning rates tried for each host."""


def _rates() -> dict[str, tuple[Settings, ...]]:
    return {host: tuple(Settings(lr=lr) for lr in rates) for host, rates in RATES.items()}


def _shapes() -> dict[str, tuple[Settings, ...]]:
    """Widened hosts of two and of three blocks, so that depth, which a seed adds, is not held back."""
    return {
        host: (
            *(Settings(lr=lr, depth=2) for lr in (rates[2], rates[4])),
            *(Settings(lr=lr, depth=3) for lr in (rates[1], rates[2], rates[3])),
        )
        for host, rates in RATES.items()
    }


EARLY = {
    "training_steps": 40.0,
    "shadow_steps": 20.0,
    "probation_steps": 80.0,
    "gain": 0.01,
    "gain_over_progress": 0.0,
}
"""Shorter terms than the gates' usual ones, since whatever grows needs the rest of a short run to settle; and
a host that learns fast from the start leaves no seed a fifth of its progress."""
AT_ONCE = {**EARLY, "training_steps": 1.0, "shadow_steps": 1.0, "probation_steps": 120.0}
"""A seed that starts as the identity disturbs nothing at full alpha, and learns fastest there."""


def _heuristics() -> dict[str, tuple[Settings, ...]]:
    """Late growth as the defaults of policy and gates have it; early growth, blended slowly or at once."""
    usual = {"warmup_epochs": 3, "wait_epochs": 6, "last_epoch": 20}
    early = {"warmup_epochs": 1, "wait_epochs": 1, "last_epoch": 26, "takes_turns": True}
    return {
        host: (
            Settings(lr=rates[2], policy=usual),
            Settings(lr=rates[2], policy=early, gates=EARLY, blend_steps=40),
            *(_at_once(lr, early) for lr in rates[1:4]),
        )
        for host, rates in RATES.items()
    }


def _schedules() -> dict[str, tuple[Settings, ...]]:
    """Five timetables."""
    times = ((1, 8, 1), (1, 8, 2), (1, 8, 3), (1, 5, 2), (3, 10, 2))
    return {
        host: tuple(
            _at_once(rates[rate], {"first_epoch": first, "every": every}) for first, every, rate in times
        )
        for host, rates in RATES.items()
    }


def _dice() -> dict[str, tuple[Settings, ...]]:
    """Five policies that act at random, more and less often."""
    chances = ((0.2, 0.9, 1), (0.2, 0.9, 2), (0.2, 0.9, 3), (0.4, 0.9, 2), (0.2, 0.5, 2))
    return {
        host: tuple(
            _at_once(rates[rate], {"germinate": germinate, "advance": advance, "cull": 0.02})
            for germinate, advance, rate in chances
        )
        for host, rates in RATES.items()
    }


def _at_once(lr: float, policy: dict[str, Any]) -> Settings:
    return Settings(lr=lr, policy=policy, gates=AT_ONCE, blend_steps=1)


def _once() -> dict[str, tuple[Settings, ...]]:
    """For what is not compared, and so not tuned."""
    return {host: (Settings(lr=rates[2]),) for host, rates in RATES.items()}


SCRATCH = Question(
    "scratch",
    "Does a host that grows from scratch do as well as one that had its final size from the start?",
    ("mnist1d", "digits", "text"),
    (
        Arm("small", "(a) the small host", arms.small, _rates()),
        Arm(
            "final-size",
            "(b) the final size, equal steps",
            partial(arms.final_size, equal_flops=False),
            _shapes(),
            (GROWN,),
        ),
        Arm(
            "equal-flops",
            "(c) the final size, equal training FLOPs",
            partial(arms.final_size, equal_flops=True),
            _shapes(),
            (GROWN,),
        ),
        Arm("topology", "(d) the grown topology, retrained", arms.topology, _rates(), (GROWN,)),
        Arm(
            "random",
            "(e) random growth",
            partial(arms.grow, policy="random", incubation="none"),
            _dice(),
        ),
        Arm(
            "schedule",
            "(e) the best of five timetables",
            partial(arms.grow, policy="schedule", incubation="none"),
            _schedules(),
        ),
        Arm(
            "heuristic",
            "(f) heuristic growth",
            partial(arms.grow, policy="heuristic", incubation="none"),
            _heuristics(),
        ),
        Arm(
            "incubated",
            "(f) heuristic growth with incubation",
            partial(arms.grow, policy="heuristic", incubation="counterfactual"),
            _heuristics(),
        ),
    ),
    (Claim("small", 0.0), Claim("equal-flops", -2.0), Claim("equal-flops", 0.0)),
)

TRAINED = Question(
    "trained",
    "A trained host has become too small: does growing it beat the other ways to spend as many operations?",
    ("mnist1d", "digits", "text"),
    (
        Arm("host", "the trained host, before", arms.small, _once(), is_sunk=True),
        Arm("go-on", "go on training it", arms.go_on, _rates(), ("host", GROWN)),
        Arm("lora", "LoRA on a frozen host", partial(arms.adapt, kind="lora"), _rates(), ("host", GROWN)),
        Arm(
            "bottleneck",
            "bottleneck adapters on a frozen host",
            partial(arms.adapt, kind="bottleneck"),
            _rates(),
            ("host", GROWN),
        ),
        Arm(
            "open-bottleneck",
            "bottleneck adapters in a host that learns",
            partial(arms.adapt, kind="bottleneck", is_frozen=False),
            _rates(),
            ("host", GROWN),
        ),
        Arm("at-once", "growth's seeds, built in at once", arms.at_once, _rates(), ("host", GROWN)),
        Arm(
            "scratch",
            "the final size from scratch",
            partial(arms.final_size, equal_flops=True),
            _shapes(),
            (GROWN,),
        ),
        Arm(
            "heuristic",
            "heuristic growth",
            arms.grow_trained,
            _heuristics(),
            ("host",),
        ),
    ),
    tuple(Claim(rival, 0.0) for rival in ("go-on", "lora", "bottleneck", "scratch")),
)

SECOND_TASK = Question(
    "second-task",
    "A trained host learns a second task: does growing it keep the first, and learn as much as adapters do?",
    ("mnist1d", "digits"),
    (
        Arm("host", "the trained host, before", arms.first_task, _once(), is_sunk=True),
        Arm(
            "fine-tune",
            "fine-tune all",
            partial(arms.fine_tune, with_replay=False),
            _rates(),
            ("host", GROWN),
        ),
        Arm(
            "replay",
            "fine-tune with replay",
            partial(arms.fine_tune, with_replay=True),
            _rates(),
            ("host", GROWN),
        ),
        Arm("lora", "LoRA on a frozen host", partial(arms.adapt, kind="lora"), _rates(), ("host", GROWN)),
        Arm(
            "bottleneck",
            "bottleneck adapters on a frozen host",
            partial(arms.adapt, kind="bottleneck"),
            _rates(),
            ("host", GROWN),
        ),
        Arm(
            "heuristic",
            "growth on a frozen host",
            arms.grow_frozen,
            _heuristics(),
            ("host",),
        ),
    ),
    (Claim("lora", 0.0), Claim("bottleneck", 0.0)),
    most_forgotten=0.5,
)

QUESTIONS: Mapping[str, Question] = MappingProxyType(
    {question.name: question for question in (SCRATCH, TRAINED, SECOND_TASK)}
)
