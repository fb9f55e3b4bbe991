"""A graph from its networkx view: data that anybody may have set is checked before it is believed.

Edges say who reads what: `result` is a number of the source's results, `operand` the place at the reader.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType
from typing import Any

import networkx as nx

from esper.errors import Span, require_kind
from esper.ir.dims import Dim
from esper.ir.errors import MalformedIR
from esper.ir.graph import BlueprintIR, Node, Value, frozen_attrs
from esper.ir.types import DType, TensorType
from esper.ir.verify import verify


def from_networkx(graph: nx.MultiDiGraph[Any]) -> BlueprintIR:
    """The verified graph that `graph` describes: node data `node`, edge data `result` and `operand`.

    graph data: `name`, `outputs` and, if there are any, `updates`, both pairs (name, `Value`).
    Raises `MalformedIR` for missing or mistyped data or a cycle, and what the verifier raises.
    """
    require_kind("graph", graph, nx.MultiDiGraph, "a networkx.MultiDiGraph")
    name = graph.graph.get("name")
    where = f"graph `{name}`"
    if not isinstance(name, str):
        raise MalformedIR(where=where, reason=f"its `name` is {name!r}, expected text")
    for node in graph:
        _require(where, isinstance(node, str), f"a node is named {node!r}, expected text")
    position = {node: index for index, node in enumerate(graph)}
    try:
        order = list(nx.lexicographical_topological_sort(graph, key=position.__getitem__))
    except nx.NetworkXUnfeasible:
        raise MalformedIR(where=where, reason="the graph has a cycle") from None
    ir = BlueprintIR(
        name,
        tuple(_node(graph, node) for node in order),
        _results(graph, where, "outputs"),
        _results(graph, where, "updates"),
    )
    verify(ir)
    return ir


def _node(graph: nx.MultiDiGraph[Any], name: str) -> Node:
    where = f"node `{name}`"
    node = graph.nodes[name].get("node")
    if not isinstance(node, Node):
        raise MalformedIR(where=where, reason=f"its data `node` is {node!r}, expected a `Node`")
    _require_fields(where, node)
    operands: list[Value | None] = [None] * len(node.operands)
    for source, _, data in graph.in_edges(name, data=True):
        edge = f"its edge from `{source}` has"
        for key in ("result", "operand"):
            number = data.get(key)
            _require(where, type(number) is int, f"{edge} `{key}` = {number!r}, expected an integer")
        place = data["operand"]
        within = 0 <= place < len(operands)
        _require(where, within, f"{edge} `operand` = {place}, expected 0 to {len(operands) - 1}")
        _require(where, operands[place] is None, f"two edges are its operand {place}")
        operands[place] = Value(source, data["result"])
    return node.replace(name=name, operands=tuple(operands), attrs=frozen_attrs(node.attrs))


def _require_fields(where: str, node: Node) -> None:
    kinds: tuple[tuple[str, type | tuple[type, ...], str], ...] = (
        ("op", str, "text"),
        ("operands", tuple, "a tuple"),
        ("attrs", Mapping, "a mapping"),
        ("types", tuple, "a tuple"),
        ("span", (Span, NoneType), "a `Span` or None"),
    )
    for field, kind, expected in kinds:
        found = getattr(node, field)
        _require(where, isinstance(found, kind), f"its `{field}` is {found!r}, expected {expected}")
    for key in node.attrs:
        _require(where, isinstance(key, str), f"an attribute is named {key!r}, expected text")
    for type in node.types:
        _require(where, _is_type(type), f"{type!r} among its `types` is not a tensor type")


def _is_type(value: object) -> bool:
    if not isinstance(value, TensorType):
        return False
    dtype: object = value.dtype
    shape: object = value.shape
    is_shape = isinstance(shape, tuple) and all(type(size) is int or isinstance(size, Dim) for size in shape)
    return isinstance(dtype, DType) and is_shape


def _results(graph: nx.MultiDiGraph[Any], where: str, key: str) -> tuple[tuple[str, Value], ...]:
    expected = "expected pairs (name, `Value`)"
    found = graph.graph.get(key, ())
    _require(where, isinstance(found, list | tuple), f"its `{key}` is {found!r}, {expected}")
    for pair in found:
        _require(where, _is_result(pair), f"its `{key}` holds {pair!r}, {expected}")
    return tuple((name, value) for name, value in found)


def _is_result(pair: object) -> bool:
    if not isinstance(pair, list | tuple) or len(pair) != 2 or not isinstance(pair[1], Value):
        return False
    names: tuple[object, ...] = (pair[0], pair[1].node)
    return all(isinstance(name, str) for name in names) and type(pair[1].index) is int


def _require(where: str, holds: bool, reason: str) -> None:
    if not holds:
        raise MalformedIR(where=where, reason=reason)
