"""Rules for graphs: which are broken and by what, and the least change that keeps them or why none can.

It knows blueprints, their spaces and what they cost; neither requirements nor where graphs are stored.
"""

from esper.tezzeret.solver.enforce import Repair, enforce
from esper.tezzeret.solver.enforce_graph import GraphRepair, enforce_graph
from esper.tezzeret.solver.repair import repair
from esper.tezzeret.solver.rules import Digits, Hardware, Rule, Stable, Without, parse_rule
from esper.tezzeret.solver.validate import Violation, validate

__all__ = [
    "Digits",
    "GraphRepair",
    "Hardware",
    "Repair",
    "Rule",
    "Stable",
    "Violation",
    "Without",
    "enforce",
    "enforce_graph",
    "parse_rule",
    "repair",
    "validate",
]
