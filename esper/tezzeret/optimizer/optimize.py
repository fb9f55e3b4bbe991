"""The optimizer: which techniques to apply to a graph, and in which order, for an objective.

A technique is greedy: of the rewrites that it proposes it keeps each that the plan's figures favour. The
order of techniques matters (convolutions that are bound by arithmetic gain nothing by merging, until they run
in fewer digits), so a beam holds the best graphs of several orders (Lowerre 1976).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from esper.errors import WrongArgument, require_kind
from esper.ir.graph import BlueprintIR
from esper.lang import SizeValue, size_values
from esper.passes import DEFAULT, Law, run_passes
from esper.passes.manager import CLEAN
from esper.passes.pipeline import pipeline_text
from esper.tezzeret.analysis import Analysis
from esper.tezzeret.optimizer.branches import Fork, forks
from esper.tezzeret.optimizer.figures import GOALS, Figures, Goal, Plans, Rank
from esper.tezzeret.optimizer.techniques import TECHNIQUES, Move, Situation, Technique

BEAM = 3
"""Graphs that are kept while orders of techniques are tried."""

BUDGET = 0.1
"""The greatest relative error of an output or gradient that the precision technique may cause: gradients of
other batches differ by more."""


@dataclass(frozen=True, slots=True)
class Step:
    """One rewrite. entry: the pass, as text of a pipeline. error: as measured, 0 where no digit is lost."""

    technique: str
    entry: str
    law: Law
    before: Figures
    after: Figures
    error: float


@dataclass(frozen=True, slots=True)
class Optimized:
    """What the optimizer made of a graph: `ir` computes what the given graph does, under the laws of `steps`.

    declined: rewrites that would change the result, or the given graph, but not for the better.
    forks: branches of the given graph that need nothing of each other. planned: how many graphs were planned.
    analysis: of `ir`.
    """

    ir: BlueprintIR
    before: Figures
    after: Figures
    steps: tuple[Step, ...]
    declined: tuple[Step, ...]
    forks: tuple[Fork, ...]
    planned: int
    analysis: Analysis

    @property
    def pipeline(self) -> str:
        """The passes that make `ir` of the given graph, as text; empty where it stays."""
        cleaned = [f"{step.entry},{CLEAN}" for step in self.steps]
        return ",".join([DEFAULT, *cleaned]) if cleaned else ""


@dataclass(frozen=True, slots=True)
class _State:
    ir: BlueprintIR
    figures: Figures
    steps: tuple[Step, ...] = ()

    @property
    def used(self) -> frozenset[str]:
        return frozenset(step.technique for step in self.steps)


def optimize(
    ir: BlueprintIR,
    objective: str,
    *,
    target: str = "sm_80",
    sizes: Mapping[str, SizeValue] | None = None,
    laws: frozenset[Law] | None = None,
    budget: float = BUDGET,
    is_trained: bool = True,
    beam: int = BEAM,
) -> Optimized:
    """`ir` after the rewrites that serve `objective`, one of `GOALS`; itself if none does.

    target, sizes: of the plans that decide, as in `analyze`. laws: that rewrites may have, among those of the
    objective. budget: see `BUDGET`. is_trained: whether the backward pass counts.
    Parameters keep their names, so the state of a seed of `ir` is that of one of the result.
    Raises `WrongArgument`, and what `analyze` raises.
    """
    require_kind("ir", ir, BlueprintIR, "a `BlueprintIR`")
    if objective not in GOALS:
        raise WrongArgument(argument="objective", found=repr(objective), expected=" or ".join(GOALS))
    goal = GOALS[objective]
    search = _Search(
        goal, goal.laws if laws is None else goal.laws & laws, budget, Plans(sizes, target, is_trained)
    )
    start = _State(run_passes(ir), search.plans.figures(ir))
    best = search.best(start, beam)
    analysis = search.plans.analysis(best.ir)
    return Optimized(
        ir=best.ir if best.steps else ir,
        before=start.figures,
        after=best.figures,
        steps=best.steps,
        declined=search.declined(start, best),
        forks=forks(start.ir, size_values(ir, sizes)),
        planned=len(search.plans),
        analysis=analysis,
    )


@dataclass(frozen=True, slots=True)
class _Search:
    """proposed, made: what techniques propose for a graph, and what a pass makes of one, by its hash."""

    goal: Goal
    laws: frozenset[Law]
    budget: float
    plans: Plans
    proposed: dict[tuple[str, str], list[Move]] = field(default_factory=dict)
    made: dict[tuple[str, str], BlueprintIR | None] = field(default_factory=dict)

    def best(self, start: _State, beam: int) -> _State:
        """The best graph of all orders of techniques that stay within the beam."""
        states = [start]
        for _ in TECHNIQUES:
            made = [
                self.applied(state, technique)
                for state in states
                for technique in TECHNIQUES
                if technique.name not in state.used
            ]
            different = {state.ir.hash: state for state in (*made, *states)}
            ranked = sorted(different.values(), key=self.rank)[:beam]
            if ranked == states:
                break
            states = ranked
        return states[0]

    def rank(self, state: _State) -> tuple[Rank, int]:
        return self.goal.rank(state.figures), len(state.steps)

    def moves(self, ir: BlueprintIR, technique: Technique) -> list[Move]:
        """The rewrites that a technique proposes, of those that may be made."""
        key = (ir.hash, technique.name)
        if key not in self.proposed:
            proposed = technique.moves(Situation(ir, self.plans, self.laws, self.budget))
            self.proposed[key] = [move for move in proposed if move.entry.law in self.laws]
        return self.proposed[key]

    def applied(self, state: _State, technique: Technique) -> _State:
        """`state` after each rewrite of a technique that is for the better."""
        for move in self.moves(state.ir, technique):
            found = self.tried(state, technique, move)
            if found is not None and self.rank(found) < self.rank(state):
                state = found
        return state

    def tried(self, state: _State, technique: Technique, move: Move) -> _State | None:
        """`state` after one rewrite; None where it changes nothing."""
        entry = pipeline_text([move.entry])
        key = (state.ir.hash, entry)
        if key not in self.made:
            after = run_passes(state.ir, [move.entry])
            self.made[key] = None if after == state.ir else run_passes(after, CLEAN)
        ir = self.made[key]
        if ir is None:
            return None
        figures = self.plans.figures(ir)
        step = Step(technique.name, entry, move.entry.law, state.figures, figures, move.error)
        return _State(ir, figures, (*state.steps, step))

    def declined(self, start: _State, best: _State) -> tuple[Step, ...]:
        """The rewrites that change the best graph or the given one, but do not serve, with what each does."""
        applied = {step.entry.partition("{")[0] for step in best.steps}
        found: dict[str, Step] = {}
        for state in (start, best):
            for technique in TECHNIQUES:
                for move in self.moves(state.ir, technique):
                    after = self.tried(state, technique, move)
                    if (
                        after is not None
                        and move.entry.name not in applied
                        and after.ir.hash != state.ir.hash
                    ):
                        found[move.entry.name] = after.steps[-1]
        return tuple(found.values())
