"""Which operators move elements, and who writes the text of each: its elements as loads from memory.

One entry an operator, and why a node of it cannot be computed so, where that may be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from esper.ir.graph import BlueprintIR, Node
from esper.urza.lookups import (
    refuses_gather_backward,
    write_embedding,
    write_gather,
    write_gather_backward,
    write_one_hot,
)
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
from esper.urza.positions import (
    refuses_alibi,
    refuses_waves,
    write_alibi_bias,
    write_rotary_embedding,
    write_sinusoidal_encoding,
)
from esper.urza.resampling import write_interpolate, write_interpolate_backward

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
    "gather": write_gather,
    "gather_backward": write_gather_backward,
    "embedding": write_embedding,
    "one_hot": write_one_hot,
    "interpolate": write_interpolate,
    "interpolate_backward": write_interpolate_backward,
    "rotary_embedding": write_rotary_embedding,
    "sinusoidal_encoding": write_sinusoidal_encoding,
    "alibi_bias": write_alibi_bias,
}
"""The expression of a node in a generated body, over loads that it emits."""

_REFUSES: Mapping[str, Callable[[BlueprintIR, Node], str | None]] = {
    "pad_backward": refuses_pad_backward,
    "gather_backward": refuses_gather_backward,
    "rotary_embedding": refuses_waves,
    "sinusoidal_encoding": refuses_waves,
    "alibi_bias": refuses_alibi,
}

UNREAD = frozenset({"sinusoidal_encoding", "alibi_bias"})
"""Operators that take their operands' sizes alone."""


def is_placed(ir: BlueprintIR, node: Node) -> bool:
    """Whether `node` is computed where it is used, from operands in memory."""
    return node.op in PLACES and refuses_place(ir, node) is None


def refuses_place(ir: BlueprintIR, node: Node) -> str | None:
    """Why a node of an operator of `PLACES` is not computed where it is used, or None."""
    rule = _REFUSES.get(node.op)
    return rule(ir, node) if rule else None
