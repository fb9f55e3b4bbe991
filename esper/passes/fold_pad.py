"""fold_pad: zeros put around a map are the padding of the convolution that reads it.

Where one end has fewer than the other, as before a causal convolution, both get the greater number and the
windows too many are cut off the result: no padded copy is made, read, or saved for the backward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from esper.ir.build import Builder
from esper.ir.graph import BlueprintIR, Node, Value
from esper.ir.rewrite import map_bodies, rewrite
from esper.ops.axes import integers_of
from esper.ops.rules import attribute_integer
from esper.passes.law import Law, register
from esper.passes.readers import read_once


@register
@dataclass(frozen=True)
class FoldPad:
    """For graphs after `expand`. A padding that something else reads too stays, and so does one that windows
    with a stride would be read at other places by.
    """

    name: ClassVar[str] = "fold_pad"
    law: ClassVar[Law] = Law.REAL_EQUAL

    def run(self, ir: BlueprintIR) -> BlueprintIR:
        """Again until nothing changes: what is padded may be a padded map."""
        ir = map_bodies(ir, self.run)
        while True:
            after = _once(ir)
            if after == ir:
                return ir
            ir = after


def _once(ir: BlueprintIR) -> BlueprintIR:
    single = read_once(ir)

    def rule(build: Builder, node: Node) -> Sequence[Value] | None:
        x = node.operands[0] if node.op == "convolution" else None
        pad = build.made_by(x, "pad")
        return None if pad is None or x not in single else _padded(build, node, pad)

    return rewrite(ir, rule)


def _padded(build: Builder, node: Node, pad: Node) -> Sequence[Value] | None:
    """The result of the convolution `node` of the map that `pad` padded; None where it cannot be had."""
    axes = node.type.rank - 2
    ends = integers_of(pad.attrs["pad"])
    if pad.attrs["mode"] != "constant" or pad.attrs["value"] != 0.0 or len(ends) > 2 * axes:
        return None
    ends = (*ends, *(0 for _ in range(2 * axes - len(ends))))
    most, stride = max(ends), attribute_integer(node.attrs, "stride")
    room = [most - before for before in ends[-2::-2]]
    if any(cut % stride for cut in room):
        return None
    attrs = {**node.attrs, "padding": attribute_integer(node.attrs, "padding") + most}
    weight = node.operands[1]
    y = build.op(node.op, pad.operands[0], weight, name=None, span=node.span, **attrs)
    if build.type(y) == node.type:
        return [y]
    start = tuple(cut // stride for cut in room)
    stop = tuple(first + size for first, size in zip(start, node.type.shape[2:], strict=True))
    return [build.op("slice", y, axes=tuple(range(2, 2 + axes)), start=start, stop=stop)]
