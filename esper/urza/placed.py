"""Which operators move elements, and who writes the text of each: its elements as loads from memory.

One entry an operator, and why a node of it cannot be computed so, where that may be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from esper.ir.graph import BlueprintIR, Node
from esper.urza.moves import (
    refuses_pad_backward,
    write_concat,
    write_flip,
    write_pad,
    write_pad_backward,
    write_roll,
    write_slice,
    write_slice_backward,
)

if TYPE_CHECKING:
    from esper.urza.generate import Writer

PLACES: Mapping[str, Callable[[Writer, Node], str]] = {
    "slice": write_slice,
    "slice_backward": write_slice_backward,
    "flip": write_flip,
    "roll": write_roll,
    "concat": write_concat,
    "pad": write_pad,
    "pad_backward": write_pad_backward,
}
"""The expression of a node in a generated body, over loads that it emits."""

_REFUSES: Mapping[str, Callable[[BlueprintIR, Node], str | None]] = {
    "pad_backward": refuses_pad_backward,
}

UNREAD: frozenset[str] = frozenset()
"""Operators that take their operands' sizes alone."""


def is_placed(ir: BlueprintIR, node: Node) -> bool:
    """Whether `node` is computed where it is used, from operands in memory."""
    return node.op in PLACES and refuses_place(ir, node) is None


def refuses_place(ir: BlueprintIR, node: Node) -> str | None:
    """Why a node of an operator of `PLACES` is not computed where it is used, or None."""
    rule = _REFUSES.get(node.op)
    return rule(ir, node) if rule else None
