"""Search: which values of a blueprint's `in` domains serve best within given limits.

The engine reads no file and writes none: commands hand it a blueprint's name or path and take the result. It
must not know growth.
"""

from esper.tezzeret.constraints import Constraint, parse_constraint
from esper.tezzeret.costs import OBJECTIVES, Quantities, quantities
from esper.tezzeret.evaluator import Candidate, Evaluator
from esper.tezzeret.search import SearchResult, random_search
from esper.tezzeret.space import Point, Space, space_of

__all__ = [
    "OBJECTIVES",
    "Candidate",
    "Constraint",
    "Evaluator",
    "Point",
    "Quantities",
    "SearchResult",
    "Space",
    "parse_constraint",
    "quantities",
    "random_search",
    "space_of",
]
