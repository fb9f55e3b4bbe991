"""What a synthesis has come to, before it is counted anew and written down; and whether it learns enough."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from esper.ir.graph import BlueprintIR
from esper.tezzeret.fidelity import Learned, learned
from esper.tezzeret.ladder import Ladder
from esper.tezzeret.registry.versions import Blueprint
from esper.tezzeret.requirements import Requirements
from esper.tezzeret.synthesis.errors import NotAccurate


@dataclass(frozen=True, slots=True)
class Made:
    """As in `Synthesis`. parent: the number of the version that it was made from, if it was."""

    blueprint: Blueprint
    algorithm: str
    changes: tuple[str, ...] = ()
    learned: Learned | None = None
    parent: int | None = None


def first_accurate(
    requirements: Requirements, ladder: Ladder | None, graphs: Iterable[tuple[BlueprintIR, Learned | None]]
) -> Learned | None:
    """Takes of `graphs` until one learns as much as is asked, and tells what that one learns.

    graphs: the best first, each with what is known of its training; no more are taken than needed. Raises
    `NotAccurate` if none of them does.
    """
    wanted = requirements.constraints.target_accuracy
    best, trained = 0.0, 0
    for graph, known in graphs:
        if wanted is None or ladder is None:
            return known
        trained += 1
        if known is None or known.rung < ladder.top:
            known = learned(ladder.judge, graph, ladder.top, ladder.rungs[-1])
        if known.accuracy >= wanted:
            return known
        best = max(best, known.accuracy)
    if not trained:
        return None
    raise NotAccurate(trained=trained, wanted=wanted, best=best)
