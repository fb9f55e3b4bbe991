"""What a search has found: the best, the next best, the front, and how it came to its end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from esper.tezzeret.costs import REFERENCE_DEVICE
from esper.tezzeret.evaluation import Seen
from esper.tezzeret.evaluator import Candidate
from esper.tezzeret.fidelity import Rung
from esper.tezzeret.objectives import Objective, figures_of
from esper.tezzeret.pareto import front

KEPT = 10
"""The best that are told."""


class Stop(StrEnum):
    """Why a search ended."""

    EXHAUSTED = "exhausted"
    """No point is left, or no other graph has come up for as many points as trials were allowed."""
    TRIALS = "trials"
    PATIENCE = "patience"
    TIME = "time"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class SearchResult:
    """best: the feasible trial with the least objective, or the front's knee where it has several figures;
    of equals the one with less latency, memory and parameters, so it is on the front.

    top: the `KEPT` best, `best` first. front: the feasible trials that none surpasses in latency, memory and
    parameters at once; of several with the same figures, the first. trials: all that were evaluated;
    infeasible: those that break a constraint; invalid: points that are refused, or too large; duplicates:
    points whose graph was met before. space_size: of how many points, None where that is not known.
    exhaustive: no point is left out. device: the GPU whose datasheet latency is estimated by.

    Where candidates climbed a ladder, those that came highest are the best, and the front is theirs alone,
    with the error as one figure more. rungs: of the ladder, the lowest first; trained: how many candidates
    were trained at each.
    """

    best: Candidate
    top: tuple[Candidate, ...]
    front: tuple[Candidate, ...]
    trials: tuple[Candidate, ...]
    infeasible: int
    invalid: int
    duplicates: int
    space_size: int | None
    stopped: Stop
    device: str = REFERENCE_DEVICE.name
    rungs: tuple[Rung, ...] = ()
    trained: tuple[int, ...] = ()

    @property
    def exhaustive(self) -> bool:
        return len(self.trials) + self.invalid + self.duplicates == self.space_size

    @property
    def steps(self) -> int:
        """Of training, all candidates together."""
        rungs = zip(self.trained, self.rungs, strict=True)
        return sum(count * rung.steps * len(rung.seeds) for count, rung in rungs)


def best_of(feasible: Sequence[Candidate], objective: Objective, seen: Seen) -> tuple[Candidate, ...]:
    """The `KEPT` best of candidates that all are feasible, the best first."""
    found: list[Candidate] = []
    for rung in sorted(set(map(_reached, feasible)), reverse=True):
        here = [candidate for candidate in feasible if _reached(candidate) == rung]
        found += [here[place] for place in objective.ranked([seen(candidate) for candidate in here])]
    return tuple(found[:KEPT])


def front_of(feasible: Sequence[Candidate], seen: Seen, names: Sequence[str]) -> tuple[Candidate, ...]:
    """What nothing surpasses in the figures named; the first of those with the same figures."""
    top = max(map(_reached, feasible), default=0)
    here = [candidate for candidate in feasible if _reached(candidate) == top]
    return tuple(here[place] for place in front([figures_of(seen(one), names) for one in here]))


def _reached(candidate: Candidate) -> int:
    return 0 if candidate.learned is None else candidate.learned.rung
