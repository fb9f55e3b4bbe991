"""canonicalize: one form for what can be written in several, by rules that are exact in floating point.

A table gives each operator its rules. A rule sees a node and returns a value that stands for it, another
node in its place, or None. `x + 0.0` stays, for it turns -0.0 into 0.0; `x * 1.0` and `x - 0.0` go.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from esper.ir.build import Builder, infer_types
from esper.ir.graph import BlueprintIR, Node, Value, frozen_attrs
from esper.ir.operator import OPERATORS
from esper.ir.rewrite import map_bodies, rewrite
from esper.ir.types import DType
from esper.passes.constants import constant_of, is_constant
from esper.passes.law import Law, register
from esper.passes.numbering import ValueNumbers


@register
@dataclass(frozen=True)
class Canonicalize:
    """Operands of commutative operators in order, constants last; views composed; identities removed."""

    name: ClassVar[str] = "canonicalize"
    law: ClassVar[Law] = Law.EXACT

    def run(self, ir: BlueprintIR) -> BlueprintIR:
        known = Known()
        ir = map_bodies(ir, self.run)
        return rewrite(ir, lambda build, node: simplify(Site(build, known), node))


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of the nodes built so far: their value numbers, and which are constant scalars."""

    numbers: ValueNumbers = field(default_factory=ValueNumbers)
    constants: set[str] = field(default_factory=set)

    def add(self, node: Node) -> None:
        self.numbers.number(node)
        operands = (None if operand is None else operand.node for operand in node.operands)
        if is_constant(node) and all(operand in self.constants for operand in operands):
            self.constants.add(node.name)


@dataclass(frozen=True, slots=True)
class Site:
    """Where a rule looks: the graph built so far and what is known of it."""

    build: Builder
    known: Known


Rule = Callable[[Site, Node], Value | Node | None]


def simplify(site: Site, node: Node) -> Sequence[Value] | Node:
    """`node` after the rules of its operator, until none applies; what stays a node is known from then on."""
    while True:
        found = next((f for rule in RULES.get(node.op, ()) if (f := rule(site, node)) is not None), None)
        if isinstance(found, Value):
            return (found,)
        if found is None:
            site.known.add(node)
            return node
        node = found


def _in_order(site: Site, node: Node) -> Node | None:
    """Constants last, else by first occurrence of what the operands compute."""
    left, right = node.operands[:2]
    assert left is not None and right is not None

    def key(value: Value) -> tuple[bool, tuple[int, int]]:
        return value.node in site.known.constants, site.known.numbers.of(value)

    return node.replace(operands=(right, left)) if key(right) < key(left) else None


def _neutral(element: Callable[[DType], float]) -> Rule:
    """`x op c` is `x` where `c` is exactly `element`, the sign of zero included."""

    def rule(site: Site, node: Node) -> Value | None:
        found = constant_of(site.build, node.operands[1])
        same = found is not None and repr(found) == repr(element(node.type.dtype))
        return node.operands[0] if same else None

    return rule


def _minus_one(site: Site, node: Node) -> Node | None:
    """`x * -1` and `x / -1` are `-x`."""
    if constant_of(site.build, node.operands[1]) != -1.0 or not node.type.dtype.is_floating:
        return None
    return node.replace(op="neg", operands=node.operands[:1])


def _add_negative(site: Site, node: Node) -> Node | None:
    """`x + -y` is `x - y`."""
    x, y = node.operands
    if negative := site.build.made_by(y, "neg"):
        return node.replace(op="sub", operands=(x, negative.operands[0]))
    if negative := site.build.made_by(x, "neg"):
        return node.replace(op="sub", operands=(y, negative.operands[0]))
    return None


def _subtract_negative(site: Site, node: Node) -> Node | None:
    """`x - -y` is `x + y`."""
    negative = site.build.made_by(node.operands[1], "neg")
    return negative and node.replace(op="add", operands=(node.operands[0], negative.operands[0]))


def _twice_negative(site: Site, node: Node) -> Value | None:
    negative = site.build.made_by(node.operands[0], "neg")
    return negative.operands[0] if negative else None


def _read_unbroadcast(site: Site, node: Node) -> Node | None:
    """An operand that the operator would broadcast by itself need not be broadcast before."""
    for index, operand in enumerate(node.operands):
        view = site.build.made_by(operand, "broadcast_to")
        if view is not None:
            operands = (*node.operands[:index], view.operands[0], *node.operands[index + 1 :])
            types = [None if value is None else site.build.type(value) for value in operands]
            if infer_types(OPERATORS[node.op], types, node.attrs) == node.types:
                return node.replace(operands=operands)
    return None


def _same_branches(site: Site, node: Node) -> Value | None:
    _, x, y = node.operands
    assert x is not None and y is not None
    equal = site.known.numbers.of(x) == site.known.numbers.of(y) and site.build.type(x) == node.type
    return x if equal else None


def _same_type(site: Site, node: Node) -> Value | None:
    x = node.operands[0]
    return x if x is not None and site.build.type(x) == node.type else None


def _view_of_view(site: Site, node: Node) -> Node | None:
    inner = site.build.made_by(node.operands[0], node.op)
    return inner and node.replace(operands=inner.operands)


def _identity_permute(site: Site, node: Node) -> Value | None:
    axes = node.attrs["axes"]
    return node.operands[0] if axes == tuple(range(node.type.rank)) else None


def _permute_of_permute(site: Site, node: Node) -> Node | None:
    inner = site.build.made_by(node.operands[0], "permute")
    if inner is None:
        return None
    first, then = inner.attrs["axes"], node.attrs["axes"]
    assert isinstance(first, tuple) and isinstance(then, tuple)
    axes = tuple(first[axis] for axis in then if isinstance(axis, int))
    return node.replace(operands=inner.operands, attrs=frozen_attrs({"axes": axes}))


def _keeping_axes(site: Site, node: Node) -> Node | None:
    """A reduction reshaped to keep its axes is one that keeps them."""
    for op in ("sum", "amax"):
        inner = site.build.made_by(node.operands[0], op)
        if inner is not None:
            attrs = {**inner.attrs, "keepdims": True}
            types = [site.build.type(value) for value in inner.operands if value is not None]
            if infer_types(OPERATORS[op], types, attrs) == node.types:
                return node.replace(op=op, operands=inner.operands, attrs=frozen_attrs(attrs))
    return None


WIDER = {
    DType.F16: (DType.F32, DType.F64),
    DType.BF16: (DType.F32, DType.F64),
    DType.F32: (DType.F64,),
    DType.I32: (DType.I64, DType.F64),
}


def _cast_and_back(site: Site, node: Node) -> Value | None:
    """A cast to a wider dtype and back is no cast."""
    inner = site.build.made_by(node.operands[0], "cast")
    if inner is None or (x := inner.operands[0]) is None or site.build.type(x) != node.type:
        return None
    return x if inner.type.dtype in WIDER.get(node.type.dtype, ()) else None


RULES: dict[str, tuple[Rule, ...]] = {
    "add": (
        _read_unbroadcast,
        _in_order,
        _neutral(lambda dtype: -0.0 if dtype.is_floating else 0.0),
        _add_negative,
    ),
    "sub": (_read_unbroadcast, _neutral(lambda dtype: 0.0), _subtract_negative),
    "mul": (_read_unbroadcast, _in_order, _neutral(lambda dtype: 1.0), _minus_one),
    "div": (_read_unbroadcast, _neutral(lambda dtype: 1.0), _minus_one),
    "neg": (_twice_negative,),
    "greater": (_read_unbroadcast,),
    "where": (_read_unbroadcast, _same_branches),
    "cast": (_same_type, _cast_and_back),
    "reshape": (_same_type, _view_of_view, _keeping_axes),
    "broadcast_to": (_same_type, _view_of_view),
    "permute": (_identity_permute, _permute_of_permute),
}

COMMUTATIVE = frozenset(op for op, rules in RULES.items() if _in_order in rules)
"""Operators whose operands have one order."""

LOOKS_BEHIND: dict[Rule, frozenset[str]] = {
    _read_unbroadcast: frozenset({"broadcast_to"}),
    _add_negative: frozenset({"neg"}),
    _subtract_negative: frozenset({"neg"}),
    _twice_negative: frozenset({"neg"}),
    _view_of_view: frozenset({"broadcast_to", "reshape"}),
    _permute_of_permute: frozenset({"permute"}),
    _keeping_axes: frozenset({"sum", "amax"}),
    _cast_and_back: frozenset({"cast"}),
}
"""What a rule may find behind an operand of its node. The other rules look at operands as they are."""

SEES: dict[str, frozenset[str]] = {
    op: frozenset().union(*(LOOKS_BEHIND.get(rule, frozenset()) for rule in rules))
    for op, rules in RULES.items()
}
"""By a node's operator, those of its operands' nodes that some rule reacts to.

A graph whose parts meet in no such pair, and compute nothing twice, is cleaned part by part.
"""
