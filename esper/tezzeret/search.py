"""The engine of a search: asks an algorithm for points, has them evaluated, tells it, and keeps what is best.

Evaluations run on any `concurrent.futures.Executor`, `width` of them at a time. They are told in the order in
which they were asked for, whichever ends first: so equal plans ask equal points and give equal results on one
worker as on many, as long as the width is the same and neither time nor a cancellation ends them.

What an evaluation is depends on what is asked: a point's costs alone, or a rung of a `Ladder`, whose
candidates are trained and halved. One loop serves both.
"""

from __future__ import annotations

import hashlib
import math
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from dataclasses import asdict, dataclass, field
from typing import Any

import esper
from esper.tezzeret.algorithms import ONE_OBJECTIVE, Outcome, Started, make_algorithm
from esper.tezzeret.costs import Quantities
from esper.tezzeret.errors import AccuracyUnjudged, NothingEvaluated, NothingValid, WorkerLost
from esper.tezzeret.evaluation import Evaluating, Evaluation, Refusal, Seen, outcome_of
from esper.tezzeret.evaluator import Candidate, Evaluator
from esper.tezzeret.feasibility import nothing_feasible
from esper.tezzeret.ladder import Climbing, Halving, Key, Ladder, Proposing, Step, Straight, key_of
from esper.tezzeret.objectives import FIGURES, JUDGED_FIGURES, JUDGED_OBJECTIVES, OBJECTIVES, Objective
from esper.tezzeret.pareto import Vector
from esper.tezzeret.results import SearchResult, Stop, best_of, front_of
from esper.tezzeret.space import Point
from esper.tezzeret.store import Question, Store

POLL = 0.2
"""Seconds between looks at a cancellation or the clock while evaluations run elsewhere."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How to search. objective: one of `OBJECTIVES`, and with a ladder one of `JUDGED_OBJECTIVES`.
    algorithm: one of `ALGORITHMS`.

    trials: so many graphs and refused points at most; a graph that was met before costs nothing, nor does
    what a ladder does with one. patience: ends after so many in a row without improvement, where the space
    has more points than `trials`; None: never. seconds: ends after so long; None: never. width: evaluations
    under way at a time.
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
    """How far a search is: `evaluated` of `trials`, and the best so far, which may not be feasible yet.

    trained: how often a candidate was trained at each rung of the ladder, the lowest first.
    """

    evaluated: int
    trials: int
    best: Candidate | None
    trained: tuple[int, ...] = ()


def question(evaluator: Evaluator, plan: Plan, ladder: Ladder | None = None) -> Question:
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
        "ladder": None if ladder is None else ladder.question,
    }


def run_search(
    evaluator: Evaluator,
    plan: Plan,
    *,
    ladder: Ladder | None = None,
    executor: Executor | None = None,
    store: Store | None = None,
    start: Sequence[Point] = (),
    watch: Callable[[Progress], None] = lambda progress: None,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> SearchResult:
    """Searches what `evaluator` leaves open. Equal plans give equal results; see above for several workers.

    ladder: candidates are trained on it, and what they learn is part of the objective; None: they are only
    counted. executor: evaluates; None: this thread. It is left running. store: evaluations in it are not
    done again, and others are added, so a search goes on where it was killed. start: what to evaluate first,
    whatever ends the search: points that `solver.enforce` found. watch: told after each
    evaluation. is_cancelled: asked between evaluations; the result is then of what was found so far.
    Raises `AccuracyUnjudged`, `NothingToChoose`, `UnknownTarget`, `NothingValid`, `NothingFeasible`,
    `ConstraintsContradict`, `NothingEvaluated`, `WorkerLost`, `MissingPackage`, `FileUnwritable`, and the
    language's errors.
    """
    if ladder is None and plan.objective not in OBJECTIVES:
        raise AccuracyUnjudged()
    run = _Run(evaluator, plan, ladder, executor or _ThisThread(), store, start, watch, is_cancelled)
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
    ladder: Ladder | None
    executor: Executor
    store: Store | None
    start: Sequence[Point]
    watch: Callable[[Progress], None]
    is_cancelled: Callable[[], bool]
    found: dict[Key, Candidate] = field(default_factory=dict)
    refusals: list[Refusal] = field(default_factory=list)
    trained: Counter[int] = field(default_factory=Counter)
    duplicates: int = 0
    duplicates_in_a_row: int = 0
    has_improved: bool = False
    since_improved: int = 0

    def __post_init__(self) -> None:
        evaluate = self.evaluator if self.ladder is None else Climbing(self.evaluator, self.ladder)
        self.evaluate = Evaluating(uuid.uuid4().hex, evaluate)
        objectives = OBJECTIVES if self.ladder is None else JUDGED_OBJECTIVES
        self.objective: Objective = objectives[self.plan.objective]
        self.space = self.evaluator.space
        self.is_scalar = self.plan.algorithm in ONE_OBJECTIVE or not self.objective.is_several
        figures = 1 if self.is_scalar else len(self.objective.figures)
        algorithm = make_algorithm(self.plan.algorithm, self.space, self.plan.seed, figures)
        algorithm = Started(algorithm, self.start) if self.start else algorithm
        self.proposing: Proposing = (
            Straight(algorithm, self._outcome)
            if self.ladder is None
            else Halving(algorithm, self._outcome, self.ladder, self.objective)
        )
        self.best = _Best(self.objective, self._seen)
        fits = self.space.size is not None and self.space.size <= self.plan.trials
        self.patience = math.inf if fits or self.plan.patience is None else self.plan.patience
        self.deadline = time.monotonic() + (math.inf if self.plan.seconds is None else self.plan.seconds)

    @property
    def spent(self) -> int:
        return len(self.found) + len(self.refusals)

    def _seen(self, candidate: Candidate) -> Quantities:
        return candidate.figures if self.ladder is None else self.ladder.judged(candidate)

    def _outcome(self, evaluation: Evaluation) -> Outcome:
        return outcome_of(evaluation, self.objective, self.is_scalar, self._seen)

    def to_its_end(self) -> Stop:
        waiting: deque[tuple[Step, Future[Evaluation]]] = deque()
        try:
            while (over := self._over()) is None:
                while len(waiting) < self.plan.width:
                    met = sum(not step.rung for step, _ in waiting)
                    step = self.proposing.ask(is_open=self.spent + met < self.plan.trials)
                    if step is None:
                        break
                    waiting.append((step, self._begun(step)))
                if not waiting:
                    return Stop.TRIALS if self.spent >= self.plan.trials else Stop.EXHAUSTED
                if self._is_first_done(waiting):
                    step, future = waiting.popleft()
                    self._take(step, future.result())
            return over
        except BrokenExecutor as error:
            raise WorkerLost(reason=str(error) or type(error).__name__) from error
        finally:
            for step, future in waiting:
                if not future.cancel() and future.done() and future.exception() is None:
                    self._store(step, future.result())

    def _over(self) -> Stop | None:
        if self.spent + self.duplicates < len(self.start):
            return None
        if self.is_cancelled():
            return Stop.CANCELLED
        if time.monotonic() >= self.deadline:
            return Stop.TIME
        if self.since_improved >= self.patience:
            return Stop.PATIENCE
        return Stop.EXHAUSTED if self.duplicates_in_a_row > self.plan.trials else None

    def _begun(self, step: Step) -> Future[Evaluation]:
        known = None if self.store is None else self.store.get(step.point, step.rung)
        if known is None:
            return self.executor.submit(self.evaluate, step.point, step.rung)
        future: Future[Evaluation] = Future()
        future.set_result(known)
        return future

    def _is_first_done(self, waiting: deque[tuple[Step, Future[Evaluation]]]) -> bool:
        """Waits a moment for any evaluation, and keeps those that ended before their turn to be told."""
        if not waiting[0][1].done():
            done, _ = wait((future for _, future in waiting), timeout=POLL, return_when=FIRST_COMPLETED)
            for step, future in waiting:
                if future in done:
                    self._store(step, future.result())
        return waiting[0][1].done()

    def _store(self, step: Step, evaluation: Evaluation) -> None:
        if self.store is not None:
            self.store.add(evaluation, step.rung)

    def _take(self, step: Step, evaluation: Evaluation) -> None:
        self._store(step, evaluation)
        twin = None
        if step.known is None:
            twin = self._met(evaluation)
        else:
            self._tried(step.known, step.rung, evaluation)
        decided = self.proposing.tell(step, evaluation, twin)
        for _ in range(len(decided) if twin is None else 0):
            self.since_improved = 0 if self.has_improved else self.since_improved + 1
            self.has_improved = False
        self.watch(Progress(self.spent, self.plan.trials, self.best.candidate, self._trainings()))

    def _met(self, evaluation: Evaluation) -> Candidate | None:
        """Keeps what a point is, unless its graph is that of another: then returns what is known of it."""
        if isinstance(evaluation, Refusal):
            self.refusals.append(evaluation)
            return None
        twin = self.found.get(key_of(evaluation))
        if twin is not None:
            self.duplicates += 1
            self.duplicates_in_a_row += 1
            return twin
        self._keep(evaluation)
        self.duplicates_in_a_row = 0
        return None

    def _tried(self, known: Candidate, rung: int, evaluation: Evaluation) -> None:
        self.trained[rung] += 1
        if isinstance(evaluation, Refusal):
            self.refusals.append(evaluation)
            del self.found[key_of(known)]
        else:
            self._keep(evaluation)

    def _keep(self, candidate: Candidate) -> None:
        self.found[key_of(candidate)] = candidate
        self.has_improved |= self.best.improved_by(candidate)

    def _trainings(self) -> tuple[int, ...]:
        return () if self.ladder is None else tuple(self.trained[n + 1] for n in range(self.ladder.top))

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
        top = best_of(feasible, self.objective, self._seen)
        return SearchResult(
            best=top[0],
            top=top,
            front=front_of(feasible, self._seen, FIGURES if self.ladder is None else JUDGED_FIGURES),
            trials=found,
            infeasible=len(found) - len(feasible),
            invalid=len(self.refusals),
            duplicates=self.duplicates,
            space_size=self.space.size,
            stopped=stopped,
            rungs=() if self.ladder is None else self.ladder.rungs,
            trained=self._trainings(),
        )


class _Best:
    """The best so far by the figure that stands for the objective, and the front of all its figures."""

    def __init__(self, objective: Objective, seen: Seen) -> None:
        self.objective = objective
        self.seen = seen
        self.candidate: Candidate | None = None
        self._rank: tuple[float, ...] | None = None
        self._front: list[Vector] = []

    def improved_by(self, candidate: Candidate) -> bool:
        """Whether the search is better off: a lesser figure or violation, or a place on the front."""
        found = self.seen(candidate)
        rank = (candidate.violation, *self.objective.rank(found))
        is_best = self._rank is None or rank < self._rank
        if is_best:
            self.candidate, self._rank = candidate, rank
        if not candidate.is_feasible or not self.objective.is_several:
            return is_best
        vector = self.objective.vector(found)
        if any(all(a <= b for a, b in zip(other, vector, strict=True)) for other in self._front):
            return is_best
        self._front = [
            other for other in self._front if any(a < b for a, b in zip(other, vector, strict=True))
        ] + [vector]
        return True
