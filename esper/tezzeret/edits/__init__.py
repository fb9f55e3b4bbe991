"""Typed edits of a graph: add, remove, replace, rewire, resize, constrain.

An edit is data, with `apply(ir) -> ir`: the graph that it gives is verified, or an `EsperError` says what
does not fit. What an edit leaves unread (weights, statistics, what led there) goes with it; inputs stay.
"""

from esper.tezzeret.edits.grammar import FORMS, Edit, parse_edit
from esper.tezzeret.edits.kinds import Add, Constrain, Remove, Replace, Rewire
from esper.tezzeret.edits.resize import Resize

__all__ = [
    "FORMS",
    "Add",
    "Constrain",
    "Edit",
    "Remove",
    "Replace",
    "Resize",
    "Rewire",
    "parse_edit",
]
