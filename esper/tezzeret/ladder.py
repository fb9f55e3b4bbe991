"""A ladder of fidelities: successive halving, so that long training is spent on the few that are worth it.

Points are taken in cohorts. What a cohort's points cost is counted first, and what breaks a constraint is
cut there. The others climb: each rung trains for longer than the one below, and the best share of what was
trained at a rung goes on to the next (Jamieson and Talwalkar 2016, arXiv:1502.07943; Li et al. 2018,
"Hyperband", arXiv:1603.06560). The lowest may be a proxy that takes no step. All candidates are trained with
the same seeds at a rung, so that chance treats them alike. A rung trains from the beginning: its learning
rate decays to zero within its own steps.

Figures of different rungs are compared by how far a candidate came: what was cut stands behind all that went
on from where it was cut, and among those of one rung the one with less error is ahead. So an algorithm is
told each point once, when it is cut or at the top.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

from esper.errors import EsperError
from esper.tezzeret.algorithms import Algorithm, Outcome
from esper.tezzeret.algorithms.nsga2 import crowding, fronts
from esper.tezzeret.errors import Untrainable
from esper.tezzeret.evaluation import Evaluation, Refusal
from esper.tezzeret.evaluator import BoundFigure, Candidate, Evaluator
from esper.tezzeret.fidelity import Judge, Judged, Learned, Rung, learned
from esper.tezzeret.objectives import Objective
from esper.tezzeret.proxies import zico
from esper.tezzeret.space import Point

ETA = 3
"""One in so many goes on to the next rung, which trains so many times as long."""
PROXY_BATCHES = 8
"""From which a zero-cost proxy sees how gradients vary."""
TOP_SEEDS = 3
"""Trainings of a candidate at the top rung: the fewest that show how much chance is in a figure."""


@dataclass(frozen=True)
class Ladder:
    """rungs: the lowest first. cohort: candidates that start together. about: what the judge's figures
    depend on, as JSON can hold it, so that a store of another task is not taken for one of this.
    """

    judge: Judge
    rungs: tuple[Rung, ...]
    about: Mapping[str, Any] = field(default_factory=dict)
    cohort: int = ETA**3

    @property
    def question(self) -> dict[str, Any]:
        """What a store of a search on this ladder belongs to."""
        return {**self.about, "rungs": [asdict(rung) for rung in self.rungs], "cohort": self.cohort}

    def screened(self) -> Ladder:
        """The same with a zero-cost proxy as the lowest rung, and cohorts that are larger by what it cuts."""
        screen = Rung(0, self.rungs[0].seeds)
        return replace(self, rungs=(screen, *self.rungs), cohort=ETA * self.cohort)

    @property
    def top(self) -> int:
        """The number of the highest rung; the lowest is 1, and at 0 there is nothing but what is counted."""
        return len(self.rungs)

    def kept(self, count: int) -> int:
        """How many of `count` candidates at a rung go on to the next."""
        return math.ceil(count / ETA)

    def climbers(self, count: int) -> tuple[int, ...]:
        """How many of a cohort of `count` are trained at each rung."""
        found = [count]
        while len(found) < self.top:
            found.append(self.kept(found[-1]))
        return tuple(found[: self.top])

    def alone(self) -> Learned:
        """What the judge's place learns at the top rung with nothing there: what candidates have to beat."""
        return learned(self.judge, None, self.top, self.rungs[-1])

    def judged(self, candidate: Candidate) -> Judged:
        """What an objective looks at: the error is that of the rung, and 1 more for each rung not reached.

        Errors lie between 0 and 1, so whatever came farther has less. What has a proxy alone is given an
        error between 0 and 1 that falls with it, for the order's sake.
        """
        reached, error = 0, 1.0
        if candidate.learned is not None:
            reached, error = candidate.learned.rung, candidate.learned.error
        elif candidate.proxy is not None:
            reached, error = 1, 0.5 - math.atan(candidate.proxy) / math.pi
        return Judged(**asdict(candidate.figures), error=self.top - reached + error)


def ladder_of(judge: Judge, steps: int, seed: int, about: Mapping[str, Any] | None = None) -> Ladder:
    """The usual ladder: a ninth of `steps`, a third, and all of them with `TOP_SEEDS` seeds.

    seed: draws the seeds of training. about: see `Ladder`.
    """
    drawn = random.Random(seed)
    seeds = tuple(drawn.getrandbits(31) for _ in range(TOP_SEEDS))
    lengths = dict.fromkeys(max(steps // ETA**power, 1) for power in (2, 1))
    lower = tuple(Rung(length, seeds[:1]) for length in lengths if length < steps)
    return Ladder(judge, (*lower, Rung(steps, seeds)), dict(about or {}))


@dataclass(frozen=True, slots=True)
class Climbing:
    """What evaluates points on a ladder, in this process or another."""

    evaluator: Evaluator
    ladder: Ladder

    def __call__(self, point: Point, rung: int = 0) -> Candidate:
        """What `point` costs, and at a rung what it learns.

        Raises as the evaluator does, and `Untrainable` for a graph that the judge has no use for.
        """
        candidate = self.evaluator(point)
        if rung == 0:
            return candidate
        graph, judge, asked = self.evaluator.lower(point), self.ladder.judge, self.ladder.rungs[rung - 1]
        try:
            if asked.steps == 0:
                return replace(candidate, proxy=zico(judge.gradients(graph, asked.seeds[0], PROXY_BATCHES)))
            return replace(candidate, learned=learned(judge, graph, rung, asked))
        except EsperError as error:
            raise Untrainable(reason=error) from error


@dataclass(frozen=True, slots=True)
class Step:
    """One evaluation to be made: of `point`, at `rung`. known: what is known of the point from below."""

    point: Point
    rung: int = 0
    known: Candidate | None = None


class Proposing(Protocol):
    """Which evaluation comes next, between an algorithm and the engine."""

    def ask(self, is_open: bool) -> Step | None:
        """The next step; None where none can be named before more is told.

        is_open: whether it may be a point that was not met yet.
        """

    def tell(self, step: Step, evaluation: Evaluation, twin: Candidate | None) -> Sequence[Evaluation]:
        """How a step came out; returns what is decided by that: it will not be evaluated again.

        twin: what is known of another point that has the same graph, where there is one.
        """


Outcomes = Callable[[Evaluation], Outcome]


class Straight:
    """Every point is evaluated once, by what is counted, and told at once."""

    def __init__(self, algorithm: Algorithm, outcome: Outcomes) -> None:
        self._algorithm = algorithm
        self._outcome = outcome

    def ask(self, is_open: bool) -> Step | None:
        point = self._algorithm.ask() if is_open else None
        return None if point is None else Step(point)

    def tell(self, step: Step, evaluation: Evaluation, twin: Candidate | None) -> Sequence[Evaluation]:
        self._algorithm.tell(step.point, self._outcome(evaluation))
        return [evaluation]


Key = tuple[str, tuple[BoundFigure, ...]]


class Halving:
    """One cohort after another climbs `ladder`. A point with the graph of another shares its fate."""

    def __init__(self, algorithm: Algorithm, outcome: Outcomes, ladder: Ladder, objective: Objective) -> None:
        self._algorithm = algorithm
        self._outcome = outcome
        self._ladder = ladder
        self._objective = objective
        self._rung = 0
        self._under_way = 0
        self._waiting: deque[Candidate] = deque()
        """Of the cohort, what is still to be trained at this rung."""
        self._here: list[Candidate] = []
        """What this rung has told of, in the order in which it was asked."""
        self._twins: dict[Key, list[Point]] = {}
        """Of each graph in the cohort, the other points that have it."""

    def ask(self, is_open: bool) -> Step | None:
        if self._rung == 0:
            if is_open and len(self._here) + self._under_way < self._ladder.cohort:
                point = self._algorithm.ask()
                if point is not None:
                    self._under_way += 1
                    return Step(point)
            if self._under_way or not self._here:
                return None
            self._climb(self._here)
        if not self._waiting:
            return None
        candidate = self._waiting.popleft()
        self._under_way += 1
        return Step(candidate.values, self._rung, candidate)

    def tell(self, step: Step, evaluation: Evaluation, twin: Candidate | None) -> Sequence[Evaluation]:
        self._under_way -= 1
        if step.rung == 0:
            return self._begun(step.point, evaluation, twin)
        decided: list[Evaluation] = []
        if isinstance(evaluation, Refusal):
            assert step.known is not None
            decided += self._decide(step.known, evaluation)
        else:
            self._here.append(evaluation)
        if not self._waiting and not self._under_way:
            decided += self._halved()
        return decided

    def _begun(self, point: Point, evaluation: Evaluation, twin: Candidate | None) -> Sequence[Evaluation]:
        if twin is not None and key_of(twin) in self._twins:
            self._twins[key_of(twin)].append(point)
        elif twin is not None:
            self._algorithm.tell(point, self._outcome(twin))
        elif isinstance(evaluation, Candidate) and evaluation.is_feasible:
            self._here.append(evaluation)
            self._twins[key_of(evaluation)] = []
        else:
            self._algorithm.tell(point, self._outcome(evaluation))
            return [evaluation]
        return []

    def _halved(self) -> list[Evaluation]:
        """The rung is done: the best share goes on, and the others' fate is told."""
        is_top = self._rung == self._ladder.top
        ahead = set() if is_top else set(self._best(self._ladder.kept(len(self._here))))
        decided: list[Evaluation] = []
        for place, candidate in enumerate(self._here):
            if place not in ahead:
                decided += self._decide(candidate, candidate)
        going = [candidate for place, candidate in enumerate(self._here) if place in ahead]
        if going:
            self._climb(going)
        else:
            self._rung, self._here = 0, []
        return decided

    def _climb(self, candidates: Sequence[Candidate]) -> None:
        self._rung += 1
        self._waiting = deque(candidates)
        self._here = []

    def _best(self, count: int) -> list[int]:
        """Places of the `count` best at this rung; of several objectives, by fronts and then by how far their
        members lie apart (Deb et al. 2002; Schmucker et al. 2021, arXiv:2106.12639, in halving)."""
        found = [self._ladder.judged(candidate) for candidate in self._here]
        if not self._objective.is_several:
            return self._objective.ranked(found)[:count]
        vectors = [self._objective.vector(one) for one in found]
        ranked: list[int] = []
        for front in fronts([Outcome(vector) for vector in vectors]):
            apart = crowding([vectors[place] for place in front])
            ordered = sorted(zip(front, apart, strict=True), key=lambda entry: -entry[1])
            ranked += [place for place, _ in ordered]
        return ranked[:count]

    def _decide(self, candidate: Candidate, evaluation: Evaluation) -> list[Evaluation]:
        outcome = self._outcome(evaluation)
        for point in (candidate.values, *self._twins.pop(key_of(candidate))):
            self._algorithm.tell(point, outcome)
        return [evaluation]


def key_of(candidate: Candidate) -> Key:
    """What makes two points the same candidate: constraints may depend on what the graph does not."""
    return candidate.ir_hash, candidate.bounds
