"""The graph: a `BlueprintIR` is a tuple of nodes in topological order, with named results.

It is a value: nothing changes it in place, and passes return other graphs. Each node is one operator
with one or more results; an operand is a `Value`, one result of an earlier node, or None where an
optional operand is left out. `ir.graph` is the same thing as a frozen `networkx.MultiDiGraph`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

import networkx as nx

from esper.errors import Span, require_kind
from esper.ir.dims import Size
from esper.ir.errors import InvalidGraph
from esper.ir.operator import Attrs, AttrValue
from esper.ir.types import TensorType

NAME = re.compile(r"[A-Za-z_]\w*(\.\w+)*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Value:
    """Result number `index` of the node called `node`."""

    node: str
    index: int = 0

    def __str__(self) -> str:
        return f"%{self.node}#{self.index}" if self.index else f"%{self.node}"


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One use of an operator. `types` are the types of its results. Equality leaves the span out."""

    name: str
    op: str
    operands: tuple[Value | None, ...]
    attrs: Attrs
    types: tuple[TensorType, ...]
    span: Span | None = None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Node):
            return NotImplemented
        ours = (self.name, self.op, self.operands, self.types)
        return ours == (other.name, other.op, other.operands, other.types) and _same(self.attrs, other.attrs)

    def __hash__(self) -> int:
        return hash((self.name, self.op, self.operands, self.types))

    def __reduce__(self) -> tuple[Any, ...]:
        parts = (self.name, self.op, self.operands, dict(self.attrs), self.types, self.span)
        return _node, parts

    def result(self, index: int = 0) -> Value:
        return Value(self.name, index)

    @property
    def results(self) -> tuple[Value, ...]:
        return tuple(Value(self.name, index) for index in range(len(self.types)))

    @property
    def type(self) -> TensorType:
        """The type of the first result."""
        return self.types[0]

    @property
    def operand(self) -> Value:
        """The operand of a node that has one."""
        (operand,) = self.operands
        assert operand is not None
        return operand

    def attr(self, name: str) -> AttrValue:
        return self.attrs[name]

    @property
    def bodies(self) -> Iterator[tuple[str, BlueprintIR]]:
        """The graphs that the node owns, by attribute."""
        return ((name, value) for name, value in self.attrs.items() if isinstance(value, BlueprintIR))

    def replace(self, **changes: Any) -> Node:
        return replace(self, **changes)


def _node(*parts: Any) -> Node:
    name, op, operands, attrs, types, span = parts
    return Node(name, op, operands, frozen_attrs(attrs), types, span)


def _same(one: object, other: object) -> bool:
    """Whether two attributes print alike: 0.0 is not -0.0, and 1 is not True."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(value, other[key]) for key, value in one.items())
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return repr(one) == repr(other)
    return type(one) is type(other) and one == other


@dataclass(frozen=True)
class BlueprintIR:
    """A dataflow graph in static single assignment form.

    nodes: in topological order; the order of the `input` nodes is the signature's.
    outputs: the results, by name, in order.
    updates: for a buffer's name, the value that it takes after the step.
    """

    name: str
    nodes: tuple[Node, ...]
    outputs: tuple[tuple[str, Value], ...]
    updates: tuple[tuple[str, Value], ...] = ()

    def __reduce__(self) -> tuple[Any, ...]:
        return BlueprintIR, (self.name, self.nodes, self.outputs, self.updates)

    @cached_property
    def _by_name(self) -> Mapping[str, Node]:
        return {node.name: node for node in self.nodes}

    @cached_property
    def _users(self) -> Mapping[str, tuple[Node, ...]]:
        users: dict[str, dict[str, Node]] = {node.name: {} for node in self.nodes}
        for node in self.nodes:
            for operand in node.operands:
                if operand is not None:
                    users[operand.node][node.name] = node
        return {name: tuple(found.values()) for name, found in users.items()}

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def node(self, name: str) -> Node:
        """The node called `name`. Raises `InvalidGraph` if there is none."""
        try:
            return self._by_name[name]
        except KeyError:
            raise InvalidGraph(blueprint=self.name, reason=f"there is no node `{name}`") from None

    def type(self, value: Value) -> TensorType:
        return self.node(value.node).types[value.index]

    def users(self, name: str) -> tuple[Node, ...]:
        """The nodes that read any result of the node called `name`, in order."""
        return self._users[name]

    def of(self, op: str) -> tuple[Node, ...]:
        """All nodes with the operator `op`, in order."""
        return tuple(node for node in self.nodes if node.op == op)

    @property
    def inputs(self) -> tuple[Node, ...]:
        return self.of("input")

    @property
    def params(self) -> tuple[Node, ...]:
        return self.of("param")

    @property
    def buffers(self) -> tuple[Node, ...]:
        return self.of("buffer")

    @property
    def results(self) -> tuple[Value, ...]:
        """The values that leave the graph: outputs, then buffer updates."""
        return tuple(value for _, value in self.outputs + self.updates)

    @property
    def symbols(self) -> tuple[str, ...]:
        """The size symbols, in order of first use by an input."""
        found: dict[str, None] = {}
        for node in self.inputs:
            for size in node.type.shape:
                found.update(dict.fromkeys(sorted(TensorType(node.type.dtype, (size,)).symbols)))
        return tuple(found)

    @cached_property
    def depth(self) -> int:
        """How deep bodies nest: 0 for a graph none of whose nodes owns one."""
        return max((1 + body.depth for node in self.nodes for _, body in node.bodies), default=0)

    @cached_property
    def size(self) -> int:
        """The number of nodes, those of bodies included."""
        return len(self.nodes) + sum(body.size for node in self.nodes for _, body in node.bodies)

    @property
    def parameters(self) -> Size:
        """The number of trainable weights."""
        total: Size = 0
        for node in self.params:
            total = total + node.type.elements
        return total

    def replace(
        self,
        *,
        name: str | None = None,
        nodes: Iterable[Node] | None = None,
        outputs: Iterable[tuple[str, Value]] | None = None,
        updates: Iterable[tuple[str, Value]] | None = None,
    ) -> BlueprintIR:
        """This graph with some parts changed."""
        return BlueprintIR(
            self.name if name is None else name,
            self.nodes if nodes is None else tuple(nodes),
            self.outputs if outputs is None else tuple(outputs),
            self.updates if updates is None else tuple(updates),
        )

    @cached_property
    def graph(self) -> nx.MultiDiGraph[str]:
        """A frozen networkx view: node data `node`, edge data `result` and `operand`."""
        graph: nx.MultiDiGraph[str] = nx.MultiDiGraph(
            name=self.name, outputs=self.outputs, updates=self.updates
        )
        for node in self.nodes:
            graph.add_node(node.name, node=node)
        for node in self.nodes:
            for position, operand in enumerate(node.operands):
                if operand is not None:
                    graph.add_edge(operand.node, node.name, result=operand.index, operand=position)
        nx.freeze(graph)
        return graph

    @staticmethod
    def from_networkx(graph: nx.MultiDiGraph[str]) -> BlueprintIR:
        """The verified graph that `graph` describes: node data `node`, edge data `result` and `operand`.

        Edges say who reads what; the operands in the node data are ignored.
        Raises `MalformedIR` for missing or mistyped data or a cycle, and what the verifier raises.
        """
        from esper.ir.from_networkx import from_networkx

        return from_networkx(graph)

    @cached_property
    def hash(self) -> str:
        """The canonical hash, in hexadecimal (see `esper.ir.canonical`)."""
        from esper.ir.canonical import canonical_hash

        return canonical_hash(self)

    @cached_property
    def structure(self) -> str:
        """As `hash`, but size symbols count by name: what tells two bodies in one graph apart."""
        from esper.ir.canonical import structural_hash

        return structural_hash(self)

    def __str__(self) -> str:
        from esper.ir.text import print_ir

        return print_ir(self)

    def to_json(self) -> str:
        """The JSON form (schema version 1), on one line."""
        from esper.ir.wire import to_json

        return to_json(self)

    @staticmethod
    def from_text(text: str) -> BlueprintIR:
        """Parses and verifies the textual form. Raises errors of the E05xx range."""
        from esper.ir.text import parse_ir

        require_kind("text", text, str, "text")
        return parse_ir(text)

    @staticmethod
    def from_json(text: str) -> BlueprintIR:
        """Parses and verifies the JSON form. Raises errors of the E05xx range."""
        from esper.ir.wire import from_json

        require_kind("text", text, (str, bytes), "JSON text")
        return from_json(text)


def frozen_attrs(attrs: Mapping[str, AttrValue]) -> Attrs:
    """A read-only copy in the given order."""
    return MappingProxyType(dict(attrs))
