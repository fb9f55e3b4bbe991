"""Why nothing fits: which constraint no candidate satisfies, or which ones contradict each other.

Told from what was evaluated, by relaxing one constraint at a time until what is left is irreducible: of a set
that contradicts, each member can be kept if any one other is given up (Chinneck 2008, "Feasibility and
Infeasibility in Optimization", the deletion filter).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from esper.errors import EsperError
from esper.tezzeret.errors import ConstraintsContradict, NothingFeasible
from esper.tezzeret.evaluator import BoundFigure, Candidate


def nothing_feasible(blueprint: str, tried: Sequence[Candidate], is_all: bool) -> EsperError:
    """The error that says most about why none of `tried` is feasible. is_all: there are no others."""
    way = "" if is_all else "try more points, "
    common: dict[str, Any] = {
        "blueprint": blueprint,
        "trials": f"all {len(tried)}" if is_all else len(tried),
        "way": way,
    }
    broken = [frozenset(place for place, bound in enumerate(one.bounds) if bound.share) for one in tried]
    alone = [place for place in sorted(broken[0]) if all(place in one for one in broken)]
    if alone:
        tightest = max((_nearest(place, [place], tried, broken) for place in alone), key=lambda b: b.share)
        return NothingFeasible(constraint=tightest.constraint, nearest=_figure(tightest), **common)
    conflict = _irreducible(broken)
    bounds = [_nearest(place, conflict, tried, broken) for place in conflict]
    names = [f"`{bound.constraint}`" for bound in bounds]
    return ConstraintsContradict(
        constraints=f"{', '.join(names[:-1])} and {names[-1]}",
        nearest="; ".join(f"the nearest to `{b.constraint}` has {_figure(b)}" for b in bounds),
        **common,
    )


def _irreducible(broken: Sequence[frozenset[int]]) -> list[int]:
    """Places of constraints that nothing satisfies together, but something does without any one of them."""
    kept = set(frozenset.union(*broken))
    for place in sorted(kept):
        if all(one & (kept - {place}) for one in broken):
            kept.discard(place)
    return sorted(kept)


def _nearest(
    place: int, conflict: Sequence[int], tried: Sequence[Candidate], broken: Sequence[frozenset[int]]
) -> BoundFigure:
    """The least violation of one constraint of a conflict among what satisfies its others."""
    others = set(conflict) - {place}
    fit = [one.bounds[place] for one, failed in zip(tried, broken, strict=True) if not failed & others]
    return min(fit, key=lambda bound: bound.share)


def _figure(bound: BoundFigure) -> str:
    return f"{bound.found:,}" if isinstance(bound.found, int) else f"{bound.found:,.6g}"
