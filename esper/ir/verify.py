"""The verifier: every rule that a graph must satisfy, with an error that names the node and the rule."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NoReturn
from weakref import WeakValueDictionary

from esper.errors import EsperError
from esper.ir.build import check_arity
from esper.ir.dims import MAX_COEFFICIENT, Dim
from esper.ir.errors import InvalidGraph, InvalidNode, TypeRuleViolated, UnknownIROperator
from esper.ir.graph import NAME, BlueprintIR, Node
from esper.ir.operator import OPERATORS, Attribute, AttrValue, Kind, Leaf, Operator, Site
from esper.ir.types import MAX_RANK, DType, TensorType

MAX_NODES = 100_000
MAX_DEPTH = 8  # of bodies in bodies
NUMBERS = frozenset({"inf", "nan", "true", "false"})  # what text forms read as values
_STATE = ("param", "buffer", "seed")


_verified: WeakValueDictionary[int, BlueprintIR] = WeakValueDictionary()
"""Graphs that keep the rules, by their place in memory: they are values, and break none later."""


def verify(ir: BlueprintIR, made_of: BlueprintIR | None = None) -> None:
    """Raises an error of the E05xx or E03xx range for the first rule that `ir` breaks.

    made_of: a graph that was verified; what `ir` shares with it is looked at no more.
    Bodies are graphs as others, and hold no weights, state or randomness: a loop would repeat the draws.
    """
    if _verified.get(id(ir)) is ir:
        return
    _require_graph(ir, ir.depth <= MAX_DEPTH, f"bodies nest {ir.depth} deep, more than {MAX_DEPTH}")
    _require_graph(ir, ir.size <= MAX_NODES, f"{ir.size} nodes are more than {MAX_NODES}")
    _verify_graph(ir, () if made_of is None or _verified.get(id(made_of)) is not made_of else made_of.nodes)
    _verified[id(ir)] = ir


def _verify_graph(ir: BlueprintIR, known: Iterable[Node] = ()) -> None:
    """known: nodes that keep the rules, with those that they read."""
    _require_graph(ir, NAME.fullmatch(ir.name) is not None, f"`{ir.name}` is not a name")
    before = {node.name: node for node in known}
    defined: dict[str, Node] = {}
    for node in ir.nodes:
        if node.name in defined or not _stands_as_before(node, before, defined):
            _verify_node(node, defined)
        defined[node.name] = node
    _verify_results(ir, defined)


def _stands_as_before(node: Node, before: Mapping[str, Node], defined: Mapping[str, Node]) -> bool:
    """Whether this very node was there before, and reads the very nodes that it read."""
    return before.get(node.name) is node and all(
        operand is None or (operand.node in defined and defined[operand.node] is before[operand.node])
        for operand in node.operands
    )


def attribute_fits(attribute: Attribute, value: AttrValue) -> bool:
    """Whether `value` is of the attribute's kind, and one of its choices where it has any."""
    match attribute.kind:
        case Kind.BOOL:
            return isinstance(value, bool)
        case Kind.INT:
            return _is_integer(value)
        case Kind.FLOAT:
            return isinstance(value, float) and _is_in_range(attribute, value)
        case Kind.STRING:
            return isinstance(value, str) and (not attribute.choices or value in attribute.choices)
        case Kind.DTYPE:
            return isinstance(value, DType)
        case Kind.DIM:
            return isinstance(value, Dim) or _is_integer(value)
        case Kind.DIMS:
            return isinstance(value, tuple) and all(
                isinstance(item, Dim) or _is_integer(item) for item in value
            )
        case Kind.GRAPH:
            return isinstance(value, BlueprintIR)


def _is_in_range(attribute: Attribute, value: float) -> bool:
    possible = not math.isnan(value) if attribute.unbounded else math.isfinite(value)
    return possible and (value > 0.0 or not attribute.positive)


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < MAX_COEFFICIENT


def _verify_node(node: Node, defined: dict[str, Node]) -> None:
    entry = OPERATORS.get(node.op)
    if entry is None:
        raise UnknownIROperator(node=node.name, operator=node.op, span=node.span)
    _require(node, NAME.fullmatch(node.name) is not None, "the name is not letters, digits, `_` and dots")
    _require(node, node.name not in defined, "the name is taken")
    for operand in node.operands:
        if operand is not None:
            source = defined.get(operand.node)
            if source is None:
                reason = f"reads `{operand.node}`, which no earlier node defines"
                raise InvalidNode(node=node.name, reason=reason, span=node.span)
            within = 0 <= operand.index < len(source.types)
            _require(node, within, f"reads result {operand.index} of `{source.name}`, which it has not")
    _verify_attrs(node, entry)
    _require(
        node,
        len(node.types) == len(entry.results) or entry.variadic_results,
        f"`{entry.name}` has {len(entry.results)} results",
    )
    for type in node.types:
        _require(node, type.rank <= MAX_RANK, f"rank {type.rank} is more than {MAX_RANK}")
        if not all(isinstance(size, Dim) or 1 <= size < MAX_COEFFICIENT for size in type.shape):
            _refuse(node, f"a size of {type} is below 1 or beyond 64 bits")
        for name in sorted(type.symbols & NUMBERS):
            _require(node, False, f"`{name}` is a number, and cannot be the name of a size")
    if isinstance(entry.lowering, Leaf):
        _require(node, not node.operands, f"`{entry.name}` takes no operands")
        _verify_leaf(node)
        return
    operands = [None if o is None else defined[o.node].types[o.index] for o in node.operands]
    _verify_types(node, entry, operands)


def _verify_leaf(node: Node) -> None:
    """A constant is one element that its dtype has, the seed one i64; weights have inputs."""
    if node.op == "constant":
        _require(node, node.type.rank == 0, f"a constant is a scalar, not {node.type}")
        value = node.attrs["value"]
        assert isinstance(value, float), node.name
        _require(node, node.type.dtype.holds(value), f"{value:g} is no {node.type.dtype}")
    if node.op == "param":
        fan_in = node.attrs["fan_in"]
        _require(node, not isinstance(fan_in, int) or fan_in >= 1, f"`fan_in` is {fan_in}, not at least 1")
    if node.op == "seed":
        _require(node, node.type == TensorType(DType.I64), f"the seed is an i64[], not {node.type}")


def _verify_types(node: Node, entry: Operator, operands: list[TensorType | None]) -> None:
    assert entry.infer is not None
    try:
        check_arity(entry, operands)
        inferred = tuple(entry.infer(Site(entry, tuple(operands), node.attrs)))
    except TypeRuleViolated as error:
        raise InvalidNode(node=node.name, reason=str(error), span=node.span) from None
    if inferred != node.types:
        _refuse(node, f"declares {_types(node.types)}, its operator gives {_types(inferred)}")


def _verify_attrs(node: Node, entry: Operator) -> None:
    stored = {attribute.name: attribute for attribute in entry.attributes if attribute.stored}
    for name in node.attrs:
        _require(node, name in stored, f"`{entry.name}` has no attribute `{name}`")
    for name, attribute in stored.items():
        _require(node, name in node.attrs, f"`{entry.name}` needs the attribute `{name}`")
        value = node.attrs[name]
        if not attribute_fits(attribute, value):
            expected = f" of {', '.join(attribute.choices)}" if attribute.choices else ""
            _refuse(node, f"attribute `{name}` = {value!s} is not a {attribute.kind.value}{expected}")
    for name, body in node.bodies:
        try:
            _verify_graph(body)
            _verify_closed(body)
        except EsperError as error:
            raise InvalidNode(node=node.name, reason=f"in its `{name}`, {error}", span=error.span) from None


def _verify_closed(body: BlueprintIR) -> None:
    for node in body.nodes:
        way = "give what it holds as an operand" if node.op in _STATE else "draw outside and give the result"
        closed = node.op not in _STATE and not OPERATORS[node.op].draws(node.attrs)
        _require(node, closed, f"`{node.op}` may not stand in a body: {way}")
    _require_graph(body, not body.updates, "a body updates no buffer")


def _verify_results(ir: BlueprintIR, defined: dict[str, Node]) -> None:
    _require_graph(ir, bool(ir.outputs), "it has no output")
    names = [name for name, _ in ir.outputs]
    _require_graph(ir, len(set(names)) == len(names), "two outputs share a name")
    for name, value in ir.outputs + ir.updates:
        _require_graph(ir, NAME.fullmatch(name) is not None, f"`{name}` is not a name")
        found = defined.get(value.node)
        _require_graph(
            ir,
            found is not None and 0 <= value.index < len(found.types),
            f"result `{name}` is {value!s}, which no node defines",
        )
    for name, value in ir.updates:
        buffer = defined.get(name)
        if buffer is None or buffer.op != "buffer":
            raise InvalidGraph(blueprint=ir.name, reason=f"the update of `{name}` names no buffer")
        found_type = ir.type(value)
        _require_graph(
            ir, found_type == buffer.type, f"the update of `{name}` is {found_type}, not {buffer.type}"
        )
        _require_graph(ir, name not in names, f"the output `{name}` has the name of an updated buffer")
    buffers = [name for name, _ in ir.updates]
    _require_graph(ir, len(set(buffers)) == len(buffers), "two updates of one buffer")
    _require_graph(ir, len(ir.of("seed")) <= 1, "it has two seeds")


def _types(types: tuple[TensorType, ...]) -> str:
    return ", ".join(map(str, types))


def _require(node: Node, holds: bool, reason: str) -> None:
    if not holds:
        _refuse(node, reason)


def _refuse(node: Node, reason: str) -> NoReturn:
    """For reasons that take time to write where most nodes have none."""
    raise InvalidNode(node=node.name, reason=reason, span=node.span)


def _require_graph(ir: BlueprintIR, holds: bool, reason: str) -> None:
    if not holds:
        raise InvalidGraph(blueprint=ir.name, reason=reason)
