"""Search: which values of a blueprint's `in` domains serve best within given limits.

The engine reads no file and writes none but a store that it is handed: commands give it a blueprint's name or
path, and take the result. It must not know growth.
"""

from esper.tezzeret.algorithms import ALGORITHMS
from esper.tezzeret.constraints import Constraint, parse_constraint
from esper.tezzeret.costs import Quantities, quantities
from esper.tezzeret.evaluator import Candidate, Evaluator
from esper.tezzeret.objectives import OBJECTIVES
from esper.tezzeret.results import SearchResult, Stop
from esper.tezzeret.search import Plan, Progress, question, run_search
from esper.tezzeret.space import Point, Space, space_of
from esper.tezzeret.store import Store, open_store

__all__ = [
    "ALGORITHMS",
    "OBJECTIVES",
    "Candidate",
    "Constraint",
    "Evaluator",
    "Plan",
    "Point",
    "Progress",
    "Quantities",
    "SearchResult",
    "Space",
    "Stop",
    "Store",
    "open_store",
    "parse_constraint",
    "quantities",
    "question",
    "run_search",
    "space_of",
]
