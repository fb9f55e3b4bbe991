"""The strategies of a synthesis.

`template` takes the first template that keeps the limits as it stands. `search` looks through the spaces of
all that fit for the best by the objective. `hybrid` takes the first template that can be made to keep the
limits, with the least change of its defaults, and searches that one's space from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from esper.errors import EsperError, WrongArgument
from esper.ir.graph import BlueprintIR
from esper.lang import BlueprintRejected
from esper.tezzeret.costs import Quantities
from esper.tezzeret.errors import (
    ConstraintsContradict,
    NothingFeasible,
    NothingToChoose,
    NothingValid,
    TooComplex,
)
from esper.tezzeret.evaluator import Candidate, Evaluator
from esper.tezzeret.fidelity import Learned
from esper.tezzeret.ladder import Ladder
from esper.tezzeret.objectives import JUDGED_OBJECTIVES, OBJECTIVES, Objective
from esper.tezzeret.registry.versions import blueprint_of
from esper.tezzeret.requirements import Requirements
from esper.tezzeret.search import Plan, run_search
from esper.tezzeret.solver.changes import in_words
from esper.tezzeret.solver.enforce import defaults_of, enforce
from esper.tezzeret.solver.errors import Infeasible, NoRepairFound
from esper.tezzeret.synthesis.errors import NoTemplate, Unsatisfiable, Unsatisfied
from esper.tezzeret.synthesis.made import Made, first_accurate
from esper.tezzeret.synthesis.templates import TEMPLATES, Fitted, Unfit, fitted, serving

Strategy = Literal["hybrid", "template", "search"]

_REFUSED = (BlueprintRejected, TooComplex, NothingValid)


def made_by(
    strategy: Strategy, requirements: Requirements, seed: int, trials: int, ladder: Ladder | None
) -> Made:
    """As in `synthesize`."""
    if strategy not in _STRATEGIES:
        raise WrongArgument(argument="strategy", found=repr(strategy), expected=", ".join(_STRATEGIES))
    making = _Making(requirements, seed, trials, ladder)
    found = _STRATEGIES[strategy](making, making.fitting())
    taken: list[_Found] = []

    def graphs() -> Iterator[tuple[BlueprintIR, Learned | None]]:
        for one in found:
            taken.append(one)
            yield one.evaluator.lower(one.candidate.values), one.candidate.learned

    learned = first_accurate(requirements, ladder, graphs())
    if not taken:
        raise making.nothing()
    best = taken[-1]
    return Made(blueprint_of(best.evaluator, best.candidate), best.algorithm, best.changes, learned)


@dataclass(frozen=True, slots=True)
class _Found:
    evaluator: Evaluator
    candidate: Candidate
    algorithm: str

    @property
    def changes(self) -> tuple[str, ...]:
        return in_words(defaults_of(self.evaluator)[1], self.candidate.values)


@dataclass
class _Making:
    requirements: Requirements
    seed: int
    trials: int
    ladder: Ladder | None
    failures: list[EsperError] = field(default_factory=list)
    tried: int = 0

    def __post_init__(self) -> None:
        target = self.requirements.optimization_target
        self.climbed = self.ladder if target in JUDGED_OBJECTIVES else None
        self.objective: Objective = (OBJECTIVES if self.climbed is None else JUDGED_OBJECTIVES)[target]

    def fitting(self) -> Iterator[Fitted]:
        """The templates that lead from shape to shape, each looked at when it is asked for.

        Raises `NoTemplate` at the end if there was none.
        """
        asked = self.requirements
        first: Unfit | None = None
        found = False
        for template in serving(asked.operation_type):
            one = fitted(template, asked)
            if isinstance(one, Fitted):
                found = True
                yield one
            else:
                first = first or one
        if first is not None and not found:
            raise NoTemplate(
                operation="library" if asked.operation_type == "any" else asked.operation_type,
                given=_shape(asked.input_shape),
                wanted=_shape(asked.output_shape),
                reason=f"of `{first.template.name}`, {_told(first)}",
                possible=_possible(asked),
            )

    def template(self, fitting: Iterable[Fitted]) -> Iterator[_Found]:
        for one in fitting:
            evaluator = self._evaluator(one)
            self.tried += 1
            try:
                candidate = evaluator.reference(defaults_of(evaluator)[1])
            except _REFUSED as error:
                self.failures.append(error)
                continue
            if candidate.is_feasible:
                yield _Found(evaluator, candidate, f"template {one.template.name}")
            else:
                bound = max(candidate.bounds, key=lambda bound: bound.share)
                self.failures.append(
                    NoRepairFound(
                        blueprint=one.template.name,
                        trials=1,
                        conflict=f"`{bound.constraint}`",
                        relaxed=f"as it stands, `{one.template.name}` has {bound.found:,.6g}; "
                        "the strategy hybrid changes templates",
                        share=candidate.violation,
                    )
                )

    def search(self, fitting: Iterable[Fitted]) -> Iterator[_Found]:
        found: list[_Found] = []
        for one in fitting:
            self.tried += 1
            found += self._searched(self._evaluator(one), f"search {one.template.name}")
        yield from self._ranked(found)

    def hybrid(self, fitting: Iterable[Fitted]) -> Iterator[_Found]:
        for one in fitting:
            evaluator = self._evaluator(one)
            self.tried += 1
            try:
                repair = enforce(evaluator, seed=self.seed)
            except (Infeasible, NoRepairFound, *_REFUSED) as error:
                self.failures.append(error)
                continue
            name = one.template.name
            first = _Found(
                evaluator, repair.candidate, f"{'repair' if repair.changes else 'template'} {name}"
            )
            yield from self._ranked([first, *self._searched(evaluator, f"search {name}")])

    def nothing(self) -> EsperError:
        """Why no template keeps the limits, by the one that comes nearest."""
        nearest = min(self.failures, key=lambda error: error.details.get("share", float("inf")))
        conflict = nearest.details.get("conflict", "the requirements")
        details = {
            "templates": self.tried,
            "conflict": conflict,
            "relaxed": nearest.help_text,
            "relaxation": nearest.details.get("relaxation", ()),
        }
        is_proven = all(isinstance(error, (Infeasible, *_REFUSED)) for error in self.failures)
        if is_proven and isinstance(nearest, Infeasible):
            proof = f"of `{nearest.details['blueprint']}`, the nearest, {nearest.details['proof']}"
            return Unsatisfiable(proof=proof, **details)
        return Unsatisfied(**details)

    def _evaluator(self, one: Fitted) -> Evaluator:
        bounds = tuple(self.requirements.bounds())
        return Evaluator(one.template.name, None, one.fixed, one.sizes, one.precision, bounds)

    def _searched(self, evaluator: Evaluator, algorithm: str) -> list[_Found]:
        """The best of one space, each a candidate that keeps the limits."""
        plan = Plan(self.objective.name, "evolutionary", self.trials, self.seed)
        try:
            result = run_search(evaluator, plan, ladder=self.climbed)
        except NothingToChoose:
            return self._alone(evaluator, algorithm)
        except (NothingFeasible, ConstraintsContradict):
            try:
                enforce(evaluator, seed=self.seed)
            except EsperError as error:
                self.failures.append(error)
            return []
        except _REFUSED as error:
            self.failures.append(error)
            return []
        return [_Found(evaluator, candidate, algorithm) for candidate in result.top]

    def _alone(self, evaluator: Evaluator, algorithm: str) -> list[_Found]:
        """The one point of a blueprint that leaves nothing to choose."""
        try:
            return [_Found(evaluator, enforce(evaluator).candidate, algorithm)]
        except (Infeasible, *_REFUSED) as error:
            self.failures.append(error)
            return []

    def _ranked(self, found: Sequence[_Found]) -> list[_Found]:
        """The best first; those that were trained longer before others."""
        if not found:
            return []
        rungs = [0 if one.candidate.learned is None else one.candidate.learned.rung for one in found]
        ranked: list[_Found] = []
        for rung in sorted(set(rungs), reverse=True):
            here = [one for one, reached in zip(found, rungs, strict=True) if reached == rung]
            ranked += [here[place] for place in self.objective.ranked([self._seen(one) for one in here])]
        return ranked

    def _seen(self, one: _Found) -> Quantities:
        return one.candidate.figures if self.climbed is None else self.climbed.judged(one.candidate)


_STRATEGIES: Mapping[Strategy, Callable[[_Making, Iterable[Fitted]], Iterator[_Found]]] = {
    "hybrid": _Making.hybrid,
    "template": _Making.template,
    "search": _Making.search,
}


def _possible(asked: Requirements) -> str:
    """What the library has from or to these shapes."""
    others = []
    for template in TEMPLATES.values():
        same = asked.model_copy(update={"output_shape": asked.input_shape})
        for wanted in (asked, same):
            if isinstance(fitted(template, wanted), Fitted):
                others.append((wanted.output_shape, template))
                break
    direct = dict.fromkeys(o for shape, t in others if shape == asked.output_shape for o in t.operations)
    if direct:
        return f"between these shapes it has operation_type {' or '.join(direct)}"
    kept = dict.fromkeys(o for _, t in others for o in t.operations)
    if kept:
        return f"from {_shape(asked.input_shape)} to the same shape it has {' or '.join(kept)}"
    return "shapes of maps are [N, channels, ...], of sequences [N, length, features]"


def _told(unfit: Unfit) -> str:
    return f"the result is {unfit.reason}" if unfit.reason.startswith("[") else unfit.reason


def _shape(shape: Sequence[int]) -> str:
    return f"[{', '.join(map(str, shape))}]"
