"""Which operators move elements: each element of the result is read at a place that its own place tells.

A slice, a pad, a concatenation, a flip, a look-up are loads with other offsets and masks. So such a node is
computed where it is used, like a pointwise one, and nothing is copied first; but it reads its operands from
memory, never from registers. One entry an operator, with a rule that says why a node of it cannot be
computed so, where that may be; `esper.urza.generate.placed` writes their text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from esper.ir.graph import BlueprintIR, Node
from esper.ops.axes import integers_of
from esper.ops.rules import attribute_integer

MOST_TAPS = 27
"""The most loads for one element; the gradient of padding three axes in a mirror has as many."""

MOST_LOOKED_UP = 8
"""The most elements that one index axis may name where each is compared with every index."""

EXACT = 4096
"""Numbers below it times 12 bits are exact in float32."""

UNREAD = frozenset({"sinusoidal_encoding", "alibi_bias"})
"""Operators that take their operands' sizes alone."""


def is_placed(ir: BlueprintIR, node: Node) -> bool:
    """Whether `node` is computed where it is used, from operands in memory."""
    return node.op in PLACED and refuses_place(ir, node) is None


def refuses_place(ir: BlueprintIR, node: Node) -> str | None:
    """Why a node of an operator of `PLACED` is not computed where it is used, or None."""
    rule = PLACED[node.op]
    return rule(ir, node) if rule else None


def padding(node: Node) -> list[tuple[int, int, int]]:
    """(axis, elements before, elements after), of the axes that have any."""
    pad = integers_of(node.attrs["pad"])
    pairs = zip(pad[::2], pad[1::2], strict=True)
    return [(node.type.rank - 1 - n, *pair) for n, pair in enumerate(pairs) if any(pair)]


def _refuses_pad_backward(ir: BlueprintIR, node: Node) -> str | None:
    loads = 1
    for _, before, after in padding(node):
        copies = {"constant": 0, "replicate": before + after}
        loads *= 1 + copies.get(str(node.attrs["mode"]), (before > 0) + (after > 0))
    return f"each element would add up {loads} others, above {MOST_TAPS}" if loads > MOST_TAPS else None


def _refuses_gather_backward(ir: BlueprintIR, node: Node) -> str | None:
    looked_up = node.operands[0]
    assert looked_up is not None
    count = ir.type(looked_up).shape[attribute_integer(node.attrs, "axis") % node.type.rank]
    if isinstance(count, int) and count <= MOST_LOOKED_UP:
        return None
    return f"each element would be compared with {count} indices, above {MOST_LOOKED_UP}"


def _refuses_waves(ir: BlueprintIR, node: Node) -> str | None:
    width = node.type.shape[-1]
    if not isinstance(width, int) or width > 2 * EXACT:
        return f"it has {width} features, which are not a fixed number up to {2 * EXACT}"
    return None


def _refuses_alibi(ir: BlueprintIR, node: Node) -> str | None:
    heads = node.type.shape[0]
    return None if isinstance(heads, int) else f"its heads, {heads}, are not fixed"


PLACED: Mapping[str, Callable[[BlueprintIR, Node], str | None] | None] = {
    "slice": None,
    "slice_backward": None,
    "flip": None,
    "roll": None,
    "concat": None,
    "pad": None,
    "pad_backward": _refuses_pad_backward,
    "gather": None,
    "gather_backward": _refuses_gather_backward,
    "embedding": None,
    "one_hot": None,
    "interpolate": None,
    "interpolate_backward": None,
    "rotary_embedding": _refuses_waves,
    "sinusoidal_encoding": _refuses_waves,
    "alibi_bias": _refuses_alibi,
}
