"""The engine of a search: asks an algorithm for points, has them evaluated, tells it, and keeps what is best.

Evaluations run on any `concurrent.futures.Executor`, `width` of them at a time. They are told in the order in
which they were asked for, whichever ends first: so equal plans ask equal points and give equal results on one
worker as on many, as long as the width is the same and neither time nor a cancellation ends them.
"""

from __future__ import annotations

import hashlib
import math
import time
import uuid
from collections import deque
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from dataclasses import asdict, dataclass, field
from typing import Any

import esper
from esper.tezzeret.algorithms import ONE_OBJECTIVE, Algorithm, make_algorithm
from esper.tezzeret.errors import NothingEvaluated, NothingValid, WorkerLost
from esper.tezzeret.evaluation import Evaluating, Evaluation, Refusal, outcome_of
from esper.tezzeret.evaluator import BoundFigure, Candidate, Evaluator
from esper.tezzeret.feasibility import nothing_feasible
from esper.tezzeret.objectives import OBJECTIVES, Objective
from esper.tezzeret.pareto import Vector
from esper.tezzeret.results import SearchResult, Stop, best_of, front_of
from esper.tezzeret.space import Point
from esper.tezzeret.store import Question, Store

POLL = 0.2
"""Seconds between looks at a cancellation or the clock while evaluations run elsewhere."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How to search. objective: one of `OBJECTIVES`. algorithm: one of `ALGORITHMS`.

    trials: so many graphs and refused points at most; a graph that was met before costs nothing. patience:
    ends after so many in a row without improvement, where the space has more points than `trials`; None:
    never. seconds: ends after so long; None: never. width: evaluations under way at a time.
    """

    objective: str = "latency"
    algorithm: str = "evolutionary"
    trials: int = 100
    seed: int = 0
    patience: int | None = None
    seconds: float | None = None
    width: int = 1


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a search is: `evaluated` of `trials`, and the best so far, which may not be feasible yet."""

    evaluated: int
    trials: int
    best: Candidate | None


def question(evaluator: Evaluator, plan: Plan) -> Question:
    """What a store belongs to. How long to search is no part of it: a search can be resumed for longer."""
    texts = sorted(source.text for source in evaluator.loaded.unit.sources.values())
    return {
        "version": esper.__version__,
        "blueprint": evaluator.loaded.blueprint.name.text,
        "source": hashlib.sha256("\0".join(texts).encode()).hexdigest(),
        "fixed": dict(evaluator.fixed),
        "sizes": dict(evaluator.sizes),
        "precision": evaluator.precision,
        "max_nodes": evaluator.max_nodes,
        "constraints": [asdict(constraint) for constraint in evaluator.constraints],
        "objective": plan.objective,
        "algorithm": plan.algorithm,
        "seed": plan.seed,
        "width": plan.width,
    }


def run_search(
    evaluator: Evaluator,
    plan: Plan,
    *,
    executor: Executor | None = None,
    store: Store | None = None,
    watch: Callable[[Progress], None] = lambda progress: None,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> SearchResult:
    """Searches what `evaluator` leaves open. Equal plans give equal results; see above for several workers.

    executor: evaluates; None: this thread. It is left running. store: evaluations in it are not done again,
    and others are added, so a search goes on where it was killed. watch: told after each evaluation.
    is_cancelled: asked between evaluations; the result is then of what was found so far.
    Raises `NothingToChoose`, `UnknownTarget`, `NothingValid`, `NothingFeasible`, `ConstraintsContradict`,
    `NothingEvaluated`, `WorkerLost`, `MissingPackage`, `FileUnwritable`, and the language's errors.
    """
    run = _Run(evaluator, plan, executor or _ThisThread(), store, watch, is_cancelled)
    stopped = run.to_its_end()
    return run.result(stopped)


class _ThisThread(Executor):
    """Does at once what is submitted, so that one loop serves this thread and a pool."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


@dataclass
class _Run:
    """The state of one search."""

    evaluator: Evaluator
    plan: Plan
    executor: Executor
    store: Store | None
    watch: Callable[[Progress], None]
    is_cancelled: Callable[[], bool]
    found: dict[tuple[str, tuple[BoundFigure, ...]], Candidate] = field(default_factory=dict)
    refusals: list[Refusal] = field(default_factory=list)
    duplicates: int = 0
    duplicates_in_a_row: int = 0
    since_improved: int = 0

    def __post_init__(self) -> None:
        self.evaluate = Evaluating(uuid.uuid4().hex, self.evaluator)
        self.objective: Objective = OBJECTIVES[self.plan.objective]
        self.space = self.evaluator.space
        self.is_scalar = self.plan.algorithm in ONE_OBJECTIVE or not self.objective.is_several
        figures = 1 if self.is_scalar else len(self.objective.figures)
        self.algorithm: Algorithm = make_algorithm(self.plan.algorithm, self.space, self.plan.seed, figures)
        self.best = _Best(self.objective)
        fits = self.space.size is not None and self.space.size <= self.plan.trials
        self.patience = math.inf if fits or self.plan.patience is None else self.plan.patience
        self.deadline = time.monotonic() + (math.inf if self.plan.seconds is None else self.plan.seconds)

    @property
    def spent(self) -> int:
        return len(self.found) + len(self.refusals)

    def to_its_end(self) -> Stop:
        waiting: deque[tuple[Point, Future[Evaluation]]] = deque()
        try:
            while (over := self._over()) is None:
                while len(waiting) < self.plan.width and self.spent + len(waiting) < self.plan.trials:
                    point = self.algorithm.ask()
                    if point is None:
                        break
                    waiting.append((point, self._begun(point)))
                if not waiting:
                    return Stop.TRIALS if self.spent >= self.plan.trials else Stop.EXHAUSTED
                if self._is_first_done(waiting):
                    point, future = waiting.popleft()
                    self._take(point, future.result())
            return over
        except BrokenExecutor as error:
            raise WorkerLost(reason=str(error) or type(error).__name__) from error
        finally:
            for _, future in waiting:
                future.cancel()

    def _over(self) -> Stop | None:
        if self.is_cancelled():
            return Stop.CANCELLED
        if time.monotonic() >= self.deadline:
            return Stop.TIME
        if self.since_improved >= self.patience:
            return Stop.PATIENCE
        return Stop.EXHAUSTED if self.duplicates_in_a_row > self.plan.trials else None

    def _begun(self, point: Point) -> Future[Evaluation]:
        known = None if self.store is None else self.store.get(point)
        if known is None:
            return self.executor.submit(self.evaluate, point)
        future: Future[Evaluation] = Future()
        future.set_result(known)
        return future

    def _is_first_done(self, waiting: deque[tuple[Point, Future[Evaluation]]]) -> bool:
        """Waits a moment for any evaluation, and keeps those that ended before their turn to be told."""
        if not waiting[0][1].done():
            done, _ = wait((future for _, future in waiting), timeout=POLL, return_when=FIRST_COMPLETED)
            if self.store is not None:
                for future in done:
                    self.store.add(future.result())
        return waiting[0][1].done()

    def _take(self, point: Point, evaluation: Evaluation) -> None:
        if self.store is not None:
            self.store.add(evaluation)
        if isinstance(evaluation, Refusal):
            self.refusals.append(evaluation)
            self.since_improved += 1
        else:
            # Constraints may depend on parameters that the graph does not.
            key = (evaluation.ir_hash, evaluation.bounds)
            if key in self.found:
                self.duplicates += 1
                self.duplicates_in_a_row += 1
            else:
                self.found[key] = evaluation
                self.duplicates_in_a_row = 0
                self.since_improved = 0 if self.best.improved_by(evaluation) else self.since_improved + 1
        self.algorithm.tell(point, outcome_of(evaluation, self.objective, self.is_scalar))
        self.watch(Progress(self.spent, self.plan.trials, self.best.candidate))

    def result(self, stopped: Stop) -> SearchResult:
        """What was found. Raises what `run_search` raises where that is nothing."""
        title = self.evaluator.loaded.blueprint.name.text
        found = tuple(self.found.values())
        feasible = [candidate for candidate in found if candidate.is_feasible]
        if not self.spent:
            raise NothingEvaluated(blueprint=title, reason=stopped.value)
        if not found:
            raise NothingValid(blueprint=title, trials=self.spent, reason=self.refusals[0].reason)
        is_all = self.spent + self.duplicates == self.space.size
        if not feasible:
            raise nothing_feasible(title, found, is_all)
        top = best_of(feasible, self.objective)
        return SearchResult(
            best=top[0],
            top=top,
            front=front_of(feasible),
            trials=found,
            infeasible=len(found) - len(feasible),
            invalid=len(self.refusals),
            duplicates=self.duplicates,
            space_size=self.space.size,
            stopped=stopped,
        )


class _Best:
    """The best so far by the figure that stands for the objective, and the front of all its figures."""

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self.candidate: Candidate | None = None
        self._rank: tuple[float, ...] | None = None
        self._front: list[Vector] = []

    def improved_by(self, candidate: Candidate) -> bool:
        """Whether the search is better off: a lesser figure or violation, or a place on the front."""
        rank = (candidate.violation, *self.objective.rank(candidate.figures))
        is_best = self._rank is None or rank < self._rank
        if is_best:
            self.candidate, self._rank = candidate, rank
        if not candidate.is_feasible or not self.objective.is_several:
            return is_best
        vector = self.objective.vector(candidate.figures)
        if any(all(a <= b for a, b in zip(other, vector, strict=True)) for other in self._front):
            return is_best
        self._front = [
            other for other in self._front if any(a < b for a, b in zip(other, vector, strict=True))
        ] + [vector]
        return True
