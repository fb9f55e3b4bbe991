"""precision: products run in a narrow dtype, all that needs its digits stays in float32 (as autocast).

What an operator needs is a row of a table, by its name or, for want of one, by how it is lowered. Products
run narrow. What is cheap and forgiving runs narrow only between products: its operands are there already,
and a product reads what it makes; anywhere else it would lose digits and save nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import ClassVar

from esper.ir.build import Builder, infer_types
from esper.ir.dims import product
from esper.ir.graph import BlueprintIR, Node, Value
from esper.ir.operator import (
    OPERATORS,
    Composite,
    Decompose,
    Leaf,
    Lowering,
    Operator,
    Outside,
    Pointwise,
    Reduction,
    Template,
    View,
)
from esper.ir.rewrite import rewrite
from esper.ir.types import DType, TensorType
from esper.passes.law import Law, register


class Need(Enum):
    """In which dtype an operator runs."""

    NARROW = "narrow"  # always in the narrow one: products
    FOLLOW = "follow"  # in the narrow one between operators that run in it
    SHORT = "short"  # as FOLLOW where it adds up no more elements than the pass allows
    WIDE = "wide"  # as it stands


BY_LOWERING: Mapping[type[Lowering], Need] = {
    Leaf: Need.WIDE,
    Pointwise: Need.FOLLOW,
    View: Need.FOLLOW,
    Reduction: Need.SHORT,
    Template: Need.NARROW,
    Outside: Need.WIDE,
    Decompose: Need.WIDE,
    Composite: Need.WIDE,
}

BY_NAME: Mapping[str, Need] = {
    **dict.fromkeys(
        (
            "matmul",
            "linear",
            "conv",
            "conv_transpose",
            "depthwise_conv",
            "convolution",
            "convolution_input_grad",
            "convolution_weight_grad",
            "scaled_dot_product_attention",
            "scaled_dot_product_attention_backward",
        ),
        Need.NARROW,
    ),
    # They magnify errors, jump, or give results beyond the range of float16.
    **dict.fromkeys(
        (
            "cast",
            "ceil",
            "cos",
            "div",
            "exp",
            "exp2",
            "expm1",
            "floor",
            "log",
            "log1p",
            "log2",
            "reciprocal",
            "remainder",
            "round",
            "rsqrt",
            "sin",
            "size",
            "softplus",
            "softplus_backward",
            "sqrt",
        ),
        Need.WIDE,
    ),
    # Outside calls and shorthands that move elements or choose among them.
    **dict.fromkeys(
        (
            "amax",
            "amin",
            "channel_shuffle",
            "chunk",
            "concat",
            "flatten",
            "flip",
            "pad",
            "pixel_shuffle",
            "pixel_unshuffle",
            "repeat_interleave",
            "roll",
            "slice",
            "slice_backward",
            "squeeze",
            "stack",
            "tile",
            "transpose",
            "unsqueeze",
            "max_pool",
            "geglu",
            "glu",
            "reglu",
            "swiglu",
        ),
        Need.FOLLOW,
    ),
    "mean": Need.SHORT,
}

STATISTICS: Mapping[str, tuple[str, ...]] = {
    "scaled_dot_product_attention_backward": ("logsumexp", "g_logsumexp"),
}
"""Operands that stay float32 where an operator runs narrow."""

_NORMAL: Mapping[DType, tuple[float, float]] = {
    DType.F16: (2.0**-14, 65504.0),
    DType.BF16: (2.0**-126, (2.0 - 2.0**-7) * 2.0**127),
}
"""The least and the greatest normal number."""


def need_of(entry: Operator) -> Need:
    """What the table says of an operator."""
    return BY_NAME.get(entry.name) or BY_LOWERING[type(entry.lowering)]


@dataclass(slots=True)
class _Narrowing:
    """The rewriting: `chosen` says which nodes run narrow, and what their results are then.

    casts: one for all readers of a value. widened: the casts back, which may turn out to be unread.
    """

    dtype: DType
    chosen: Mapping[str, tuple[TensorType, ...]]
    casts: dict[Value, Value] = field(default_factory=dict)
    widened: set[str] = field(default_factory=set)

    def rule(self, build: Builder, node: Node) -> Sequence[Value] | None:
        if node.name not in self.chosen:
            return None
        narrowed = _narrowed(node)
        operands = list(node.operands)
        for index, value in enumerate(operands):
            if value is not None and index in narrowed and _is_f32(build.type(value)):
                operands[index] = self._narrow(build, value)
        made = build.append(node.replace(operands=tuple(operands), types=self.chosen[node.name]))
        pairs = zip(made.results, node.types, strict=True)
        return [self._widen(build, value, type, node.name) for value, type in pairs]

    def _narrow(self, build: Builder, value: Value) -> Value:
        """`value` in the narrow dtype: what it was widened from, or its cast."""
        source = build.node(value.node)
        if _widens(source, build.type, self.dtype):
            assert source.operands[0] is not None
            return source.operands[0]
        if value not in self.casts:
            constant = source.attrs["value"] if source.op == "constant" else None
            if isinstance(constant, float):
                self.casts[value] = build.constant(constant, self.dtype)
            else:
                name = build.fresh(f"{value.node}.{self.dtype}")
                self.casts[value] = build.op("cast", value, dtype=self.dtype, name=name)
        return self.casts[value]

    def _widen(self, build: Builder, value: Value, type: TensorType, node: str) -> Value:
        if build.type(value) == type:
            return value
        wide = build.op("cast", value, dtype=type.dtype, name=build.fresh(f"{node}.{type.dtype}"))
        self.widened.add(wide.node)
        return wide


@register
@dataclass(frozen=True)
class Precision:
    """Only float32 values change their dtype; inputs, weights, outputs and updates keep theirs.

    dtype: `f16` or `bf16`; with any other the graph stays as it is.
    longest_sum: the most elements that a sum in `dtype` may add up; a symbolic number is taken for more.
    keep: the nodes, by name, that stay as they are.
    Loops keep their float32 carries and bodies. It comes after `expand`, which shows it the products in
    shorthands, or before; and before `decompose`, where norms and softmax are still whole.
    """

    name: ClassVar[str] = "precision"
    law: ClassVar[Law] = Law.TOLERANCE
    dtype: DType = DType.BF16
    longest_sum: int = 64
    keep: tuple[str, ...] = ()

    def run(self, ir: BlueprintIR) -> BlueprintIR:
        if self.dtype not in _NORMAL:
            return ir
        chosen = self._chosen(ir)
        if not chosen:
            return ir
        narrowing = _Narrowing(self.dtype, chosen)
        return _without_unread(rewrite(ir, narrowing.rule), narrowing.widened)

    def _chosen(self, ir: BlueprintIR) -> dict[str, tuple[TensorType, ...]]:
        """The nodes that run narrow, and the types of their results then.

        The greatest set of which each member is a product, or reads what another makes and is read by one.
        So in a graph that the pass has made, where no product is left in float32, the set is empty.
        """
        found = {node.name: types for node in ir.nodes if (types := self._types(ir, node)) is not None}
        free = self._free(ir)

        def is_narrow(value: Value) -> bool:
            types = found.get(value.node)
            if types is not None:
                return types[value.index].dtype is self.dtype
            return _widens(ir.node(value.node), ir.type, self.dtype)

        def follows(node: Node) -> bool:
            values = _float_operands(ir, node)
            return any(map(is_narrow, values)) and all(
                is_narrow(value) or value.node in free for value in values
            )

        def is_wanted(node: Node) -> bool:
            readers = (user for user in ir.users(node.name) if user.name in found)
            read = (value for user in readers for value in user.operands if value is not None)
            return any(value.node == node.name and is_narrow(value) for value in read)

        followers = [node for node in ir.nodes if need_of(OPERATORS[node.op]) is not Need.NARROW]
        while True:
            before = len(found)
            for node in followers:
                if node.name in found and not follows(node):
                    del found[node.name]
            for node in reversed(followers):
                if node.name in found and not is_wanted(node):
                    del found[node.name]
            if len(found) == before:
                return found

    def _types(self, ir: BlueprintIR, node: Node) -> tuple[TensorType, ...] | None:
        """The result types of `node` on narrow operands; None where it must not run on them."""
        entry = OPERATORS[node.op]
        need = need_of(entry)
        if (
            node.name in self.keep
            or need is Need.WIDE
            or (need is Need.SHORT and not self._is_short(ir, node))
        ):
            return None
        values = _float_operands(ir, node)
        if not values or not all(_is_f32(ir.type(value)) for value in values):
            return None
        narrowed = _narrowed(node)
        operands: list[TensorType | None] = []
        for index, value in enumerate(node.operands):
            type = None if value is None else ir.type(value)
            operands.append(
                type.with_dtype(self.dtype) if type and index in narrowed and _is_f32(type) else type
            )
        return infer_types(entry, operands, node.attrs, node.span)

    def _is_short(self, ir: BlueprintIR, node: Node) -> bool:
        (x,) = node.operands
        axes = node.attrs["axes"]
        assert x is not None and isinstance(axes, tuple)
        count = product(ir.type(x).shape[axis] for axis in axes if isinstance(axis, int))
        return isinstance(count, int) and count <= self.longest_sum

    def _free(self, ir: BlueprintIR) -> set[str]:
        """Nodes that cost no more to round than to read: what depends on weights and constants alone.

        Without constants that are not normal numbers of the narrow dtype.
        """
        least, greatest = _NORMAL[self.dtype]
        free: set[str] = set()
        for node in ir.nodes:
            if node.op == "constant":
                value = node.attrs["value"]
                assert isinstance(value, float)
                holds = value == 0.0 or least <= abs(value) <= greatest
            elif node.op in ("input", "seed"):
                holds = False
            else:
                holds = all(value is None or value.node in free for value in node.operands)
            if holds:
                free.add(node.name)
        return free


def _narrowed(node: Node) -> set[int]:
    """The numbers of the operands that an operator reads narrow where it runs narrow."""
    entry, kept = OPERATORS[node.op], STATISTICS.get(node.op, ())
    return {index for index in range(len(node.operands)) if entry.input_of(index).name not in kept}


def _float_operands(ir: BlueprintIR, node: Node) -> list[Value]:
    """The floating operands that decide where `node` runs."""
    narrowed = _narrowed(node)
    return [
        value
        for index, value in enumerate(node.operands)
        if value is not None and index in narrowed and ir.type(value).dtype.is_floating
    ]


def _is_f32(type: TensorType) -> bool:
    return type.dtype is DType.F32


def _widens(node: Node, type_of: Callable[[Value], TensorType], dtype: DType) -> bool:
    """Whether `node` casts from `dtype` to float32."""
    (x,) = node.operands if node.op == "cast" else (None,)
    return x is not None and _is_f32(node.type) and type_of(x).dtype is dtype


def _without_unread(ir: BlueprintIR, names: set[str]) -> BlueprintIR:
    """`ir` without those of the nodes called `names` that nothing reads."""
    read = {value.node for value in ir.results}
    unread = {name for name in names if name not in read and not ir.users(name)}
    return ir.replace(nodes=[node for node in ir.nodes if node.name not in unread])
