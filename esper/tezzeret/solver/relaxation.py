"""Which rules cannot be kept together, and the least to ask instead.

Of rules that no candidate keeps at once, a set is irreducible if any one of them can be given up for the
others to hold; that set is the reason (Chinneck 2008, the deletion filter). A relaxation is what some
candidate has: each rule that it breaks is moved to its figure. The smallest moves bounds by the least share
in sum; so it always helps, and no smaller one does among what was counted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from esper.tezzeret.constraints import Constraint
from esper.tezzeret.evaluator import BoundFigure, Candidate

DIGITS = 12
"""Significant decimals of a bound as it is written."""


@dataclass(frozen=True, slots=True)
class Relaxation:
    """conflict: rules that none of the candidates keeps together, each needed for that. relaxed: what to ask
    instead of those that `nearest` breaks. share: by which its bounds are moved, in sum."""

    conflict: tuple[Constraint, ...]
    relaxed: tuple[Constraint, ...]
    share: float
    nearest: Candidate

    @property
    def conflict_in_words(self) -> str:
        names = [f"`{rule}`" for rule in self.conflict]
        return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]} together"

    @property
    def relaxed_in_words(self) -> str:
        broken = [str(bound.constraint) for bound in self.nearest.bounds if bound.share]
        pairs = (f"{new} instead of {old}" for old, new in zip(broken, self.relaxed, strict=True))
        return f"ask for {' and '.join(pairs)}: {_setting(self.nearest)} keeps that"


def smallest_relaxation(tried: Sequence[Candidate]) -> Relaxation:
    """Of candidates that each break something, at least one."""
    broken = [frozenset(place for place, bound in enumerate(one.bounds) if bound.share) for one in tried]
    kept = set(frozenset.union(*broken))
    for place in sorted(kept):
        if all(one & (kept - {place}) for one in broken):
            kept.discard(place)
    longest = max(tried, key=lambda one: len(one.bounds))
    conflict = tuple(longest.bounds[place].constraint for place in sorted(kept))
    nearest = min(tried, key=lambda one: one.violation)
    bounds = [bound for bound in nearest.bounds if bound.share]
    return Relaxation(conflict, tuple(map(met_by, bounds)), nearest.violation, nearest)


def met_by(bound: BoundFigure) -> Constraint:
    """The constraint that the figure keeps just so, written with few enough digits to be read back."""
    rule = bound.constraint
    is_upper = rule.comparison in ("<", "<=")
    return Constraint(rule.quantity, "<=" if is_upper else ">=", _written(bound.found, is_upper), rule.target)


def _written(figure: float, is_upper: bool) -> float:
    """`figure` with `DIGITS` decimals, rounded to the side on which it is kept."""
    near = float(f"{figure:.{DIGITS}g}")
    if (near >= figure) if is_upper else (near <= figure):
        return near
    step = 10.0 ** (math.floor(math.log10(abs(figure))) - DIGITS + 1)
    return float(f"{near + (step if is_upper else -step):.{DIGITS}g}")


def _setting(candidate: Candidate) -> str:
    return ", ".join(f"{name}={value}" for name, value in candidate.values.items()) or "the blueprint"
