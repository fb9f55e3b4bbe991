"""simplify: the algebra of `esper.passes.patterns`, and the rewrites of `esper.passes.structure`.

Both are matched from a node towards its operands."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from esper.ir.build import Builder, infer_types
from esper.ir.graph import BlueprintIR, Node, Value
from esper.ir.operator import OPERATORS
from esper.ir.rewrite import map_bodies, rewrite
from esper.passes.constants import ARITHMETIC, constant_of
from esper.passes.law import Law, register
from esper.passes.patterns import (
    COMMUTATIVE,
    CONSTANTS,
    PATTERNS,
    Apply,
    Expression,
    Pattern,
    is_scalar,
)
from esper.passes.structure import STRUCTURE, Place


@register
@dataclass(frozen=True)
class Simplify:
    """Law: equal over the reals; with `fast_math`, where both sides are finite.

    fast_math: also reassociates and cancels, which moves roundings, infinities and NaN.
    Each pattern lowers `weight` of the unfolded graph, and each structural rewrite takes an operator away, so
    a fixed point is reached.
    """

    name: ClassVar[str] = "simplify"
    law: ClassVar[Law] = Law.REAL_EQUAL
    fast_math: bool = False

    def run(self, ir: BlueprintIR) -> BlueprintIR:
        """Again until nothing changes: a rewrite may leave a value with one reader, which others wait for."""
        rules: dict[str, list[Rule]] = {}
        for pattern in PATTERNS:
            if self.fast_math or not pattern.fast_math:
                rules.setdefault(pattern.sides[0].op, []).append(_pattern_rule(pattern))
        for entry in STRUCTURE:
            if self.fast_math or not entry.fast_math:
                rules.setdefault(entry.op, []).append(entry.rule)
        while True:
            after = _once(map_bodies(ir, self.run), rules)
            if after == ir:
                return ir
            ir = after


Rule = Callable[[Place, Node], Node | Value | None]


def _pattern_rule(pattern: Pattern) -> Rule:
    return lambda place, node: apply(pattern, place.build, node)


def _once(ir: BlueprintIR, rules: Mapping[str, Sequence[Rule]]) -> BlueprintIR:
    results = {value.node for value in ir.results}
    single = frozenset(
        node.name for node in ir.nodes if len(ir.users(node.name)) == 1 and node.name not in results
    )

    def rule(build: Builder, node: Node) -> Sequence[Value] | Node:
        place = Place(build, single)
        while True:
            tried = (apply_to(place, node) for apply_to in rules.get(node.op, ()))
            found = next((after for after in tried if after is not None), None)
            if isinstance(found, Value):
                return (found,)
            if found is None:
                return node
            node = found

    return rewrite(ir, rule)


@dataclass(frozen=True, slots=True)
class Match:
    """What the letters of a pattern stand for."""

    values: Mapping[str, Value] = field(default_factory=dict)
    constants: Mapping[str, float] = field(default_factory=dict)


def apply(pattern: Pattern, build: Builder, node: Node) -> Node | Value | None:
    """What stands for `node` after `pattern`, or None where its left side does not match."""
    if len(node.types) != 1 or not node.type.dtype.is_floating:
        return None
    left, right = pattern.sides
    matches = _match_node(left, build, node, Match())
    match = next((m for m in matches if pattern.when is None or pattern.when(m.constants)), None)
    if match is None:
        return None
    if isinstance(right, str):
        value = match.values[right]
        return value if build.type(value) == node.type else None
    assert isinstance(right, Apply), pattern.right
    scalars = [_computed(operand, match.constants) for operand in right.operands if is_scalar(operand)]
    if not all(map(math.isfinite, scalars)):
        return None
    operands = tuple(_build(operand, build, match, node) for operand in right.operands)
    types = infer_types(OPERATORS[right.op], list(map(build.type, operands)), {})
    return node.replace(op=right.op, operands=operands) if types == node.types else None


def _match_node(left: Apply, build: Builder, node: Node, match: Match) -> Iterator[Match]:
    """Every way to match: where operands may be exchanged there are several."""
    if node.op != left.op or len(node.operands) != len(left.operands) or len(node.types) != 1:
        return
    orders = [node.operands, node.operands[::-1]] if left.op in COMMUTATIVE else [node.operands]
    for operands in orders:
        found = [match]
        for expression, operand in zip(left.operands, operands, strict=True):
            if operand is not None:
                found = [after for before in found for after in _match(expression, build, operand, before)]
        yield from found


def _match(expression: Expression, build: Builder, value: Value, match: Match) -> Iterator[Match]:
    if isinstance(expression, Apply):
        yield from _match_node(expression, build, build.node(value.node), match)
        return
    constant = constant_of(build, value)
    if isinstance(expression, float):
        if constant == expression:
            yield match
    elif expression in CONSTANTS:
        if constant is not None and match.constants.get(expression, constant) == constant:
            yield Match(match.values, {**match.constants, expression: constant})
    elif match.values.get(expression, value) == value:
        yield Match({**match.values, expression: value}, match.constants)


def _computed(expression: Expression, constants: Mapping[str, float]) -> float:
    """The value of an expression of constants; infinity where it overflows."""
    if isinstance(expression, Apply):
        operands = [_computed(operand, constants) for operand in expression.operands]
        try:
            return ARITHMETIC[expression.op](*operands)
        except OverflowError:
            return math.inf
    return expression if isinstance(expression, float) else constants[expression]


def _build(expression: Expression, build: Builder, match: Match, node: Node) -> Value:
    if is_scalar(expression):
        return build.constant(_computed(expression, match.constants), node.type.dtype)
    if isinstance(expression, Apply):
        operands = [_build(operand, build, match, node) for operand in expression.operands]
        return build.op(expression.op, *operands, span=node.span)
    assert isinstance(expression, str)
    return match.values[expression]
