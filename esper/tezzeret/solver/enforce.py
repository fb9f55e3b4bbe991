"""The least change of a blueprint's values that keeps rules, or why there is none.

Points are tried by how far they are from where the blueprint stands (`changes`), so the first that keeps all
rules changes least. A space with more points than are tried is searched instead, and what is found is brought
back towards the start as far as the rules allow. Where nothing fits, that is proven by having counted all
points, or by bounds on boxes of them; else it is said that it is not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from esper.errors import EsperError
from esper.lang import BlueprintRejected
from esper.lang.parameters import signature_of
from esper.tezzeret.algorithms import REFUSED, Outcome, make_algorithm
from esper.tezzeret.constraints import Constraint
from esper.tezzeret.errors import NothingToChoose, NothingValid, TooComplex
from esper.tezzeret.evaluator import BoundFigure, Candidate, Evaluator
from esper.tezzeret.solver.boxes import search_boxes
from esper.tezzeret.solver.changes import Change, by_change, change, default_point, in_words
from esper.tezzeret.solver.errors import Infeasible, NoRepairFound
from esper.tezzeret.solver.rates import finite
from esper.tezzeret.solver.relaxation import smallest_relaxation
from esper.tezzeret.solver.rules import Rule, is_structural
from esper.tezzeret.solver.validate import Violation, structure, validate
from esper.tezzeret.space import Point, Space

MAX_TRIED = 3_000
"""Points that are counted one by one; a space with more is searched and bounded."""
SEARCHED = 600
"""Points of a space without any that fits, from which the relaxation is taken."""


@dataclass(frozen=True, slots=True)
class Repair:
    """A point that keeps the rules, counted whole and from nothing.

    changes: in words, empty where the blueprint keeps them as it stands. is_least: nothing changes less and
    keeps them, too. tried: points that were counted on the way.
    """

    candidate: Candidate
    changes: tuple[str, ...]
    change: Change
    is_least: bool
    tried: int


def enforce(
    evaluator: Evaluator,
    rules: Sequence[Rule] = (),
    *,
    point: Point | None = None,
    tried: int = MAX_TRIED,
    seed: int = 0,
    watch: Callable[[], None] = lambda: None,
) -> Repair:
    """Keeps `rules`, and the evaluator's and the blueprint's own constraints, by other values of its domains.

    point: from where; None for the blueprint's defaults. tried: points to count at most. watch: called
    before each; what it raises ends this. Raises `Infeasible` with the proof and the smallest relaxation,
    `NoRepairFound`, `NothingValid`, and as the evaluator does.
    """
    return _Enforcing(evaluator, rules, point, tried, seed, watch).repair()


def defaults_of(evaluator: Evaluator) -> tuple[Space, Point]:
    """The space, empty where nothing is left to choose, and its point at the blueprint's defaults."""
    try:
        space = evaluator.space
    except NothingToChoose:
        space = Space({})
    about = signature_of(evaluator.loaded.blueprint)
    return space, default_point(space, {one.name: one.default for one in about.parameters})


class _Enforcing:
    def __init__(
        self,
        evaluator: Evaluator,
        rules: Sequence[Rule],
        point: Point | None,
        limit: int,
        seed: int,
        watch: Callable[[], None],
    ) -> None:
        bounds = [rule for rule in rules if isinstance(rule, Constraint)]
        counted = [rule for rule in bounds if not is_structural(rule)]
        self.structural = [rule for rule in bounds if is_structural(rule)]
        self.others = [rule for rule in rules if not isinstance(rule, Constraint)]
        self.evaluator = replace(evaluator, constraints=(*evaluator.constraints, *counted))
        self.title = self.evaluator.loaded.blueprint.name.text
        self.limit = limit
        self.watch = watch
        self.seed = seed
        space, origin = defaults_of(self.evaluator)
        self.origin = origin if point is None else space.settled(point)
        self.space, self.is_whole = finite(space, self.evaluator.loaded, self.origin)
        self.tried: list[Candidate] = []
        self.violations: list[Violation] = []
        self.refusals: list[EsperError] = []
        self.seen: dict[str, Candidate | None] = {}
        self.counted: dict[str, Candidate] = {}

    def repair(self) -> Repair:
        size = self.space.size
        if size is None or size > self.limit:
            return self._of_many()
        for moved, point in by_change(self.space, self.origin):
            found = self._kept(point)
            if found is not None:
                return self._found(found, moved, True)
        raise self._nothing(f"all {size:,} were counted" if self.is_whole else None)

    def _of_many(self) -> Repair:
        """In a space with more points than are counted."""
        found = self._kept(self.origin)
        if found is not None:
            return self._found(found, Change(), True)
        proof = search_boxes(self.evaluator, self.space, watch=self.watch)
        if proof.is_complete and self.is_whole:
            self._searched(min(SEARCHED, self.limit))
            counted = f" and {proof.points} of its points" if proof.points else ""
            raise self._nothing(f"bounds on {proof.boxes} boxes of the space{counted} rule them out")
        for moved, point in by_change(self.space, self.origin):
            if len(self.seen) >= self.limit // 2:
                break
            found = self._kept(point)
            if found is not None:
                return self._found(found, moved, True)
        found = self._searched(self.limit)
        if found is None and proof.fitting is not None:
            found = self._kept(proof.fitting.values)
        if found is None:
            raise self._nothing(None)
        kept = self._kept(self._nearer(found.values))
        assert kept is not None
        return self._found(kept, change(self.space, self.origin, kept.values), False)

    def _found(self, candidate: Candidate, moved: Change, is_least: bool) -> Repair:
        whole = self._with_structure(self.evaluator.reference(candidate.values))
        assert whole == candidate, "the two roads of an evaluator agree"
        changes = in_words(self.origin, candidate.values)
        return Repair(whole, changes, moved, is_least, len(self.seen))

    def _kept(self, point: Point) -> Candidate | None:
        """The candidate at `point` if it keeps all rules."""
        key = self.space.encode(point)
        if key not in self.seen:
            self.watch()
            self.seen[key] = self._counted(point)
        return self.seen[key]

    def _counted(self, point: Point) -> Candidate | None:
        try:
            candidate = self.evaluator(point)
        except (BlueprintRejected, TooComplex) as error:
            self.refusals.append(error)
            return None
        candidate = self._with_structure(candidate)
        self.tried.append(candidate)
        self.counted[self.space.encode(point)] = candidate
        if not candidate.is_feasible:
            return None
        if self.others:
            found = validate(self.evaluator.lower(point), self.others, self.evaluator.sizes)
            if found:
                self.violations = self.violations or found
                return None
        return candidate

    def _with_structure(self, candidate: Candidate) -> Candidate:
        if not self.structural:
            return candidate
        counts = structure(self.evaluator.lower(candidate.values), self.evaluator.sizes)
        bounds = tuple(BoundFigure(rule, counts[rule.quantity]) for rule in self.structural)
        return replace(candidate, bounds=(*candidate.bounds, *bounds))

    def _searched(self, limit: int) -> Candidate | None:
        """By evolution until `limit` points are counted: first less violated, then nearer."""
        algorithm = make_algorithm("evolutionary", self.space, self.seed)
        while len(self.seen) < limit:
            point = algorithm.ask()
            if point is None:
                return None
            found = self._kept(point)
            if found is not None:
                return found
            algorithm.tell(point, self._outcome(point))
        return None

    def _outcome(self, point: Point) -> Outcome:
        candidate = self.counted.get(self.space.encode(point))
        if candidate is None:
            return REFUSED
        moved = change(self.space, self.origin, point)
        return Outcome((moved.edits + moved.steps,), candidate.violation or 1.0)

    def _nearer(self, point: Point) -> Point:
        """`point` with each value as near to the start as the rules allow, one after another."""
        while True:
            moved = change(self.space, self.origin, point)
            nearer = (
                other
                for other in self._towards(point)
                if change(self.space, self.origin, other) < moved and self._kept(other) is not None
            )
            found = next(nearer, None)
            if found is None:
                return point
            point = found

    def _towards(self, point: Point) -> Iterator[Point]:
        for name in self.space.domains:
            yield self.space.settled({**point, name: self.origin[name]})
        yield from self.space.neighbours(point)

    def _nothing(self, proof: str | None) -> EsperError:
        """Why nothing keeps the rules. proof: how it is known; None where it is not."""
        if not self.tried:
            reason = str(self.refusals[0])
            return NothingValid(blueprint=self.title, trials=len(self.refusals), reason=reason)
        infeasible = [one for one in self.tried if not one.is_feasible]
        rules: tuple[Rule, ...]
        relaxation: tuple[Constraint, ...] = ()
        share, nearest = math.inf, self.origin
        if len(infeasible) == len(self.tried):
            found = smallest_relaxation(infeasible)
            conflict, relaxed = found.conflict_in_words, found.relaxed_in_words
            rules, relaxation, share = found.conflict, found.relaxed, found.share
            nearest = found.nearest.values
        else:
            first = self.violations[0]
            conflict = f"`{first.rule}`" + (" and the bounds together" if infeasible else "")
            relaxed = f"give up `{first.rule}`: {first.reason}"
            rules = (first.rule,)
        if proof is None:
            return NoRepairFound(
                blueprint=self.title,
                trials=f"{len(self.seen):,}",
                conflict=conflict,
                relaxed=relaxed,
                rules=rules,
                relaxation=relaxation,
                share=share,
                nearest=nearest,
            )
        return Infeasible(
            blueprint=self.title,
            conflict=conflict,
            proof=proof,
            relaxed=relaxed,
            rules=rules,
            relaxation=relaxation,
            share=share,
            nearest=nearest,
        )
