"""Constraints as they are written on a command line: `params<=20000`, `flops < 1e9`."""

from __future__ import annotations

import operator
import re
from dataclasses import dataclass

from esper.lang import Bound
from esper.lang.names import did_you_mean
from esper.tezzeret.cost import DEVICES, QUANTITIES, Quantities
from esper.tezzeret.errors import MalformedConstraint, UnknownQuantity, UnknownTarget

COMPARISONS = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt}
_FORM = re.compile(r"\s*([A-Za-z_]\w*)\s*(<=|>=|<|>)\s*(\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)\s*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Constraint:
    """`quantity` `comparison` `bound`, where `target` is given by the datasheet of that GPU."""

    quantity: str
    comparison: str
    bound: float
    target: str | None = None

    def holds(self, found: Quantities) -> bool:
        return bool(COMPARISONS[self.comparison](getattr(found, self.quantity), self.bound))

    def excess(self, found: Quantities) -> float:
        """How far beyond the bound, as a share of it; 0 where the constraint holds."""
        if self.holds(found):
            return 0.0
        return abs(float(getattr(found, self.quantity)) - self.bound) / max(self.bound, 1.0)

    def __str__(self) -> str:
        on = "" if self.target is None else f" on {self.target}"
        return f"{self.quantity}{self.comparison}{self.bound:.12g}{on}"


def stated(bound: Bound) -> Constraint:
    """A blueprint's own `constraint`. Raises `UnknownTarget`."""
    if bound.target is not None and bound.target not in DEVICES:
        raise UnknownTarget(name=bound.target, known=", ".join(DEVICES))
    return Constraint(bound.quantity, bound.comparison, bound.limit, bound.target)


def parse_constraint(text: str) -> Constraint:
    """Raises `MalformedConstraint`, and `UnknownQuantity` for what is not one of `QUANTITIES`."""
    found = _FORM.fullmatch(text)
    if found is None:
        raise MalformedConstraint(text=text)
    quantity, comparison, bound = found.groups()
    if quantity not in QUANTITIES:
        fallback = f"there are {', '.join(QUANTITIES)}"
        raise UnknownQuantity(name=quantity, suggestion=did_you_mean(quantity, QUANTITIES, fallback))
    return Constraint(quantity, comparison, float(bound))
