"""Synthesis: which blueprint serves best within given limits, what it costs, and how to change one.

`space` says what may vary, `costs` what a point takes, `search` asks `algorithms` and keeps what is best, on
a `ladder` where accuracy counts. `solver` keeps limits or proves that none can, `synthesis` answers
requirements. `analysis`, `edits`, `optimizer` and `prediction` are about one graph, `registry` remembers.

It reads no file and writes none but a store or a registry that it is handed: commands give it a blueprint's
name or path, and take the result. It must not know growth.
"""

from esper.tezzeret.algorithms import ALGORITHMS
from esper.tezzeret.constraints import Constraint, parse_constraint
from esper.tezzeret.costs import Quantities, quantities
from esper.tezzeret.evaluator import Candidate, Evaluator
from esper.tezzeret.fidelity import Judge, Learned, Rung
from esper.tezzeret.ladder import Ladder, ladder_of
from esper.tezzeret.objectives import JUDGED_OBJECTIVES, OBJECTIVES
from esper.tezzeret.results import SearchResult, Stop
from esper.tezzeret.search import Plan, Progress, question, run_search
from esper.tezzeret.space import Point, Space, space_of
from esper.tezzeret.store import Store, open_store

__all__ = [
    "ALGORITHMS",
    "JUDGED_OBJECTIVES",
    "OBJECTIVES",
    "Candidate",
    "Constraint",
    "Evaluator",
    "Judge",
    "Ladder",
    "Learned",
    "Plan",
    "Point",
    "Progress",
    "Quantities",
    "Rung",
    "SearchResult",
    "Space",
    "Stop",
    "Store",
    "ladder_of",
    "open_store",
    "parse_constraint",
    "quantities",
    "question",
    "run_search",
    "space_of",
]
