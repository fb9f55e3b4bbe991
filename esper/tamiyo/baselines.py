"""Policies to compare against: one that never grows, one that acts at random, one that keeps a timetable."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from esper.leyline.actions import Action, AdvanceStage, Cull, Germinate
from esper.leyline.signals import TrainingSignals
from esper.leyline.stages import is_active_stage
from esper.tamiyo.heuristic import cull_or_advance


class NeverTamiyo:
    """Leaves the host as it is."""

    def decide(self, signals: TrainingSignals) -> Sequence[Action]:
        return ()


@dataclass(frozen=True)
class RandomParameters:
    """Chances at each decision, each for one slot."""

    germinate: float = 0.1
    advance: float = 0.5
    cull: float = 0.02


class RandomTamiyo:
    """Draws for each slot whether to germinate, put forward or cull, from a generator of its own."""

    def __init__(
        self, blueprints: Sequence[str], seed: int, parameters: RandomParameters = RandomParameters()
    ) -> None:
        self.blueprints = tuple(blueprints)
        self.parameters = parameters
        self._random = random.Random(seed)

    def decide(self, signals: TrainingSignals) -> Sequence[Action]:
        actions: list[Action] = []
        for slot in signals.slots:
            chance = self._random.random()
            if slot.is_available and chance < self.parameters.germinate:
                actions.append(Germinate(self._random.choice(self.blueprints), slot.name))
            elif is_active_stage(slot.stage):
                if chance < self.parameters.cull:
                    actions.append(Cull(slot.name, "drawn at random"))
                elif chance < self.parameters.cull + self.parameters.advance:
                    actions.append(AdvanceStage(slot.name))
        return actions

    def state_dict(self) -> dict[str, Any]:
        """Where the generator stands."""
        return {"random": self._random.getstate()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes what `state_dict` gave."""
        self._random.setstate(state["random"])


@dataclass(frozen=True)
class ScheduleParameters:
    """The timetable, in epochs."""

    first_epoch: int = 5
    every: int = 10
    patience: int = 4
    """So many refusals by one gate, and the seed is given up; in PROBATIONARY one is a verdict."""


class ScheduleTamiyo:
    """Plants the blueprints in turn into the slots in turn at fixed epochs, whatever the signals say.

    Slots and blueprints advance together: the first blueprint goes to the first slot, the second to
    the second. A slot that is taken when its turn comes is passed over. Live seeds are put forward at
    every decision, and given up as the heuristic does it: a timetable says when, not what is good enough.
    """

    def __init__(
        self, blueprints: Sequence[str], parameters: ScheduleParameters = ScheduleParameters()
    ) -> None:
        self.blueprints = tuple(blueprints)
        self.parameters = parameters

    def decide(self, signals: TrainingSignals) -> Sequence[Action]:
        live = [slot for slot in signals.slots if is_active_stage(slot.stage)]
        actions: list[Action] = [cull_or_advance(slot, self.parameters.patience) for slot in live]
        turn, remainder = divmod(signals.epoch - self.parameters.first_epoch, self.parameters.every)
        if turn >= 0 and remainder == 0 and signals.slots:
            slot = signals.slots[turn % len(signals.slots)]
            if slot.is_available:
                actions.append(Germinate(self.blueprints[turn % len(self.blueprints)], slot.name))
        return actions
