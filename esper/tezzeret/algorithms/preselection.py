"""Of many children the one to ask for: what a model of all outcomes so far promises most of.

An evaluation costs far more than a child, so many are born for each that is asked for (Jin 2011,
"Surrogate-assisted evolutionary computation"). Each objective has a model of its own. Where there are
several, what counts is how much a child's promises add to the volume that all outcomes so far dominate
(SMS-EGO: Ponweiser et al. 2008), in ranks as the models have them.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable

import numpy as np

from esper.tezzeret.algorithms.gain import Vectors, most_gained
from esper.tezzeret.algorithms.protocol import Outcome
from esper.tezzeret.algorithms.surrogate import Surrogate, normal_scores
from esper.tezzeret.algorithms.unseen import Unseen
from esper.tezzeret.space import Point, Space

FIRST = 8
"""Outcomes that have to be known before a model says anything: points that are random, unless told."""
KEPT = 24
"""Unless said otherwise: the latest of the children that were not asked for, and may be later."""
REMEMBERED = 256
"""The latest outcomes, from which the models learn."""
PACE = 8
"""The models learn anew when one in so many of their outcomes is new to them."""


class Preselection:
    """Told all outcomes, it chooses among children; those left over stay for later."""

    def __init__(self, space: Space, unseen: Unseen, rng: random.Random, kept: int = KEPT) -> None:
        self._space = space
        self._unseen = unseen
        self._rng = rng
        self._kept = kept
        self._told: deque[tuple[Point, Outcome]] = deque(maxlen=REMEMBERED)
        self._models: list[Surrogate] = []
        self._unlearned = 0
        """Outcomes to be told until the models learn; 0 or less: they are to learn before they are asked."""
        self._left: list[Point] = []

    @property
    def is_ready(self) -> bool:
        """Whether enough is known, and of what the blueprint takes."""
        return len(self._told) >= FIRST and any(not outcome.is_refused for _, outcome in self._told)

    def tell(self, point: Point, outcome: Outcome) -> None:
        self._told.append((self._space.settled(point), outcome))
        self._unlearned -= 1

    def keep(self, born: Iterable[Point]) -> None:
        """More children, to be chosen among from here on."""
        self._left.extend(born)

    def choice(self, born: Iterable[Point]) -> Point | None:
        """The most promising that is unseen, of `born` and of those left over; None if all were seen."""
        children = [child for child in (*self._left, *born) if child in self._unseen]
        if not children:
            return None
        if self._unlearned <= 0:
            self._learn()
        rows = self._models[0].rows(children)
        promised = np.array([model.promise_of_rows(rows) for model in self._models]).T
        chosen = children.pop(self._best(promised))
        self._left = children[-self._kept :]
        return chosen

    def _learn(self) -> None:
        objectives = next(len(outcome.objectives) for _, outcome in self._told if not outcome.is_refused)
        while len(self._models) < objectives:
            self._models.append(Surrogate(self._space))
        points = [point for point, _ in self._told]
        for index, model in enumerate(self._models):
            model.learn(points, self._ranks(index))
        self._unlearned = 1 + len(self._told) // PACE

    def _best(self, promised: Vectors) -> int:
        """The index of the child to ask for, by what is promised of each in each objective."""
        if promised.shape[1] == 1:
            return int(promised[:, 0].argmin())
        # Of all outcomes, also of those that the models are yet to learn: none is to be looked for twice.
        told = np.array([normal_scores(self._ranks(index)) for index in range(promised.shape[1])]).T
        return most_gained(promised, told, self._rng)

    def _ranks(self, objective: int) -> list[tuple[float, ...]]:
        return [_rank(outcome, objective) for _, outcome in self._told]


def _rank(outcome: Outcome, objective: int) -> tuple[float, ...]:
    """By Deb's rules, of one objective."""
    return outcome.rank if outcome.is_refused else (outcome.violation, outcome.objectives[objective])
