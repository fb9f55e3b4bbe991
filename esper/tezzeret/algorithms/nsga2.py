"""NSGA-II, for several objectives (Deb et al. 2002, "A fast and elitist multiobjective genetic algorithm").

Each generation's children join their parents, and the best live on: by constrained domination, and within the
last front that fits in part, by crowding distance, so that the front stays spread out. Generations are small,
and which child is asked for, `Preselection` says, among them what lies beside the front: evaluations are few.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from itertools import chain

from esper.tezzeret.algorithms.preselection import FIRST, Preselection
from esper.tezzeret.algorithms.protocol import Outcome, surpasses
from esper.tezzeret.algorithms.unseen import Unseen
from esper.tezzeret.space import Point, Space

GENERATION = 8
"""Points told between selections."""
CHILDREN = 12
"""Born for each that is asked for, and beside each that joins the front."""
KEPT = 60
"""The latest of those that were not asked for: what lies beside several members of the front, too."""
ANYWHERE = 0.15
"""How often a child has no parents at all."""
CROSSING = 0.9
"""How often another has two."""
MUTATION = 1 - 1 / math.e
"""How often a child is mutated: as often as a change of each gene with probability 1/n changes any."""

Member = tuple[Outcome, Point]


class NSGA2:
    """Any number of objectives, in an outcome as many as in any other."""

    def __init__(self, space: Space, rng: random.Random, population: int = 40) -> None:
        self._space = space
        self._rng = rng
        self._unseen = Unseen(space, rng)
        self._size = population
        self._first = min(population, FIRST)
        self._preselection = Preselection(space, self._unseen, rng, KEPT)
        self._front: list[Outcome] = []
        """Of what was told what nothing surpasses."""
        self._children: list[Member] = []
        self._told = 0
        self._parents: list[Member] = []
        self._places: list[tuple[int, float]] = []
        """Of each parent: its front's number and its crowding distance, negated, so that less is better."""

    def ask(self) -> Point | None:
        """A point to evaluate next; None where the space has no other."""
        if self._first > 0 or not self._parents:
            self._first -= 1
            return self._unseen.take()
        return self._unseen.take(self._proposals())

    def tell(self, point: Point, outcome: Outcome) -> None:
        """How `point` turned out, whether it was asked for or not."""
        self._unseen.mark(point)
        self._preselection.tell(point, outcome)
        self._told += 1
        if not outcome.is_refused:
            self._children.append((outcome, point))
            self._settle_beside(point, outcome)
        if self._told >= min(GENERATION, self._size):
            self._select([*self._parents, *self._children])
            self._told, self._children = 0, []

    def _settle_beside(self, point: Point, outcome: Outcome) -> None:
        """Where `point` joins the front, children for later: what differs from it in one parameter."""
        if any(surpasses(other, outcome) for other in self._front):
            return
        self._front = [other for other in self._front if not surpasses(outcome, other)]
        self._front.append(outcome)
        beside = list(self._space.neighbours(point))
        self._preselection.keep(self._rng.sample(beside, min(CHILDREN, len(beside))))

    def _proposals(self) -> Iterator[Point]:
        """The most promising child; where all were seen, what lies ever farther from a parent."""
        if self._preselection.is_ready:
            child = self._preselection.choice(self._child() for _ in range(CHILDREN))
            if child is not None:
                yield child
        yield from self._unseen.walk(self._winner())

    def _child(self) -> Point:
        if self._rng.random() < ANYWHERE:
            return self._space.sample(self._rng)
        one, other = self._winner(), self._winner()
        child = self._space.crossed(one, other, self._rng) if self._rng.random() < CROSSING else one
        return self._space.mutated(child, self._rng) if self._rng.random() < MUTATION else child

    def _winner(self) -> Point:
        one, other = self._rng.randrange(len(self._parents)), self._rng.randrange(len(self._parents))
        return self._parents[min(one, other, key=lambda index: self._places[index])][1]

    def _select(self, members: list[Member]) -> None:
        self._parents, self._places = [], []
        for number, front in enumerate(fronts([outcome for outcome, _ in members])):
            distances = crowding([members[index][0].objectives for index in front])
            ranked = sorted(zip(front, distances, strict=True), key=lambda entry: -entry[1])
            for index, distance in ranked[: self._size - len(self._parents)]:
                self._parents.append(members[index])
                self._places.append((number, -distance))


def fronts(outcomes: Sequence[Outcome]) -> list[list[int]]:
    """Indices of `outcomes` in fronts: those that nothing surpasses, then those that only the first do, …"""
    beats = [[index for index, other in enumerate(outcomes) if surpasses(one, other)] for one in outcomes]
    beaten_by = [0] * len(outcomes)
    for loser in chain.from_iterable(beats):
        beaten_by[loser] += 1
    found: list[list[int]] = []
    current = [index for index, count in enumerate(beaten_by) if count == 0]
    while current:
        found.append(current)
        following = []
        for loser in chain.from_iterable(beats[winner] for winner in current):
            beaten_by[loser] -= 1
            if beaten_by[loser] == 0:
                following.append(loser)
        current = sorted(following)
    return found


def crowding(vectors: Sequence[Sequence[float]]) -> list[float]:
    """How far the neighbours of each vector of a front lie apart, over all objectives; infinite at ends."""
    distances = [0.0] * len(vectors)
    for objective in range(len(vectors[0]) if vectors else 0):
        ordered = sorted(range(len(vectors)), key=lambda index: vectors[index][objective])
        low, high = vectors[ordered[0]][objective], vectors[ordered[-1]][objective]
        distances[ordered[0]] = distances[ordered[-1]] = math.inf
        if high == low:
            continue
        for before, index, after in zip(ordered, ordered[1:], ordered[2:], strict=False):
            distances[index] += (vectors[after][objective] - vectors[before][objective]) / (high - low)
    return distances
