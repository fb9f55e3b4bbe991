"""Constraints as they are written on a command line: `params<=20000`, `flops < 1e9`."""

from __future__ import annotations

import operator
import re
import sys
from dataclasses import dataclass

from esper.lang import Bound
from esper.lang.names import did_you_mean
from esper.tezzeret.costs.figures import DEVICES, QUANTITIES
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

    def holds(self, found: float) -> bool:
        return bool(COMPARISONS[self.comparison](found, self.bound))

    def excess(self, found: float) -> float:
        """How far `found` lies beyond the bound, as a share of it; 0 exactly where the constraint holds.

        A figure that is equal to a strict bound exceeds it by the least share there is.
        """
        if self.holds(found):
            return 0.0
        return max(abs(found - self.bound) / (abs(self.bound) or 1.0), sys.float_info.epsilon)

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
