"""resize: another size of what an operator makes, and of the weights of all that reads it.

The table of operators says which weights a call has, by the sizes of its operands and by arguments that the
graph does not keep, such as a layer's `features`. These are found again from the weights that are there; with
one of them changed, weights and types follow down the graph.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

from esper.errors import EsperError
from esper.ir.build import infer_types
from esper.ir.dims import Size
from esper.ir.graph import BlueprintIR, Node, frozen_attrs
from esper.ir.operator import OPERATORS, Kind, Leaf, Operator
from esper.ir.types import TensorType
from esper.lang.call_arguments import Arguments, call_arguments, creation_of
from esper.tezzeret.edits.errors import ImpossibleEdit
from esper.tezzeret.edits.places import finished, operator_of

LARGEST = 2**24


@dataclass(frozen=True, slots=True)
class Resize:
    """The argument `argument` of `node` is `size`; without one, the only size that its call has.

    `node` may hold the argument behind a dot, as it is written.
    """

    node: str
    argument: str | None
    size: int

    def __str__(self) -> str:
        return f"resize:{self.node}{f'.{self.argument}' if self.argument else ''}={self.size}"

    def apply(self, ir: BlueprintIR) -> BlueprintIR:
        """Raises `UnknownNode` and `ImpossibleEdit`, with the node that does not follow."""
        if not 1 <= self.size <= LARGEST:
            self._refuse(f"{self.size} is no size", f"choose one from 1 to {LARGEST:,}")
        written, argument = self.node, self.argument
        if argument is None and written not in ir and written.rpartition(".")[0] in ir:
            written, _, argument = written.rpartition(".")
        node = operator_of(ir, written, str(self))
        arguments = _arguments(ir, node)
        sizes = [] if arguments is None else _sizes(OPERATORS[node.op])
        name = argument or (sizes[0] if len(sizes) == 1 else None)
        if arguments is None or name not in sizes:
            listed = ", ".join(f"`{node.name}.{one}`" for one in sizes)
            others = ", ".join(f"`{one.name}`" for one in ir.nodes if _is_resizable(ir, one))
            way = f"its sizes are {listed}" if sizes else f"nodes with one are {others or 'none'}"
            self._refuse(f"`{node.name}`, a {node.op}, has no such size of its own", way)
        if arguments[name] == self.size:
            return ir
        return finished(ir, self._follow(ir, node, {**arguments, name: self.size}), str(self))

    def _follow(self, ir: BlueprintIR, start: Node, arguments: Arguments) -> BlueprintIR:
        """The graph with `start` made with `arguments`, and types and weights after it as they follow."""
        nodes = {node.name: node for node in ir.nodes}

        def types(node: Node) -> list[TensorType | None]:
            return [None if v is None else nodes[v.node].types[v.index] for v in node.operands]

        for node in ir.nodes:
            old = [None if v is None else ir.type(v) for v in node.operands]
            if isinstance(OPERATORS[node.op].lowering, Leaf) or (types(node) == old and node is not start):
                continue
            given = arguments if node is start else _arguments(ir, node)
            for name, weight in _weights(node, types(node), given):
                before = nodes[name]
                if before.type != ir.node(name).type and before.type != weight.type:
                    self._refuse(f"`{name}` has two readers, which need {before.type} and {weight.type}")
                nodes[name] = weight.of(ir.node(name), _fan_in(ir, node, name))
            try:
                nodes[node.name] = node.replace(
                    types=infer_types(OPERATORS[node.op], types(node), node.attrs)
                )
            except EsperError as error:
                self._refuse(f"`{node.name}` does not follow: {error}")
        return ir.replace(nodes=[nodes[node.name] for node in ir.nodes])

    def _refuse(self, reason: str, way: str = "resize it to fit first, or choose another size") -> NoReturn:
        raise ImpossibleEdit(edit=str(self), reason=reason, way=way)


@dataclass(frozen=True, slots=True)
class _Weight:
    type: TensorType
    fan_in: Size | None

    def of(self, node: Node, fan_in: Size | None) -> Node:
        """`node` with this type; its fan-in follows where it was what the table says, `fan_in`."""
        attrs = dict(node.attrs)
        if self.fan_in is not None and attrs.get("fan_in") == fan_in:
            attrs["fan_in"] = self.fan_in
        return node.replace(types=(self.type,), attrs=frozen_attrs(attrs))


def _weights(
    node: Node, operands: list[TensorType | None], arguments: Arguments | None
) -> Iterator[tuple[str, _Weight]]:
    """The weights and statistics that `node` reads, as its call would make them, by their nodes' names."""
    if arguments is None:
        return
    creation = creation_of(node, operands, arguments)
    for index, value in enumerate(node.operands):
        declared, type = OPERATORS[node.op].input_of(index), operands[index]
        if value is None or type is None or declared.shape is None or value.index:
            continue
        fan_in = None if declared.fan_in is None else declared.fan_in(creation)
        yield value.node, _Weight(type.with_shape(declared.shape(creation)), fan_in)


def _fan_in(ir: BlueprintIR, node: Node, weight: str) -> Size | None:
    """What the table says of the weight of `node` as it stands."""
    operands = [None if value is None else ir.type(value) for value in node.operands]
    return dict(_weights(node, operands, _arguments(ir, node)))[weight].fan_in


def _sizes(entry: Operator) -> list[str]:
    """The sizes that a call gives and the graph does not keep."""
    return [one.name for one in entry.attributes if not one.stored and one.kind is Kind.DIM]


def _is_resizable(ir: BlueprintIR, node: Node) -> bool:
    return bool(_sizes(OPERATORS[node.op])) and _arguments(ir, node) is not None


def _arguments(ir: BlueprintIR, node: Node) -> Arguments | None:
    """All arguments of the call that makes the weights of `node`; None where they are not as a call's are."""
    makes = (OPERATORS[node.op].input_of(index).shape for index, value in enumerate(node.operands) if value)
    return call_arguments(ir, node) if any(makes) else None
