"""Edits that keep the types of what they do not touch: add, remove, replace, rewire; and a bound to check."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from esper.ir.graph import BlueprintIR, Node, Value
from esper.ir.operator import OPERATORS
from esper.ir.rewrite import needed_by, replace_results, with_operands
from esper.lang import SizeValue
from esper.tezzeret.constraints import Constraint
from esper.tezzeret.costs.figures import quantities
from esper.tezzeret.edits.calls import called
from esper.tezzeret.edits.errors import ConstraintBroken, ImpossibleEdit
from esper.tezzeret.edits.places import (
    finished,
    node_of,
    operator_of,
    require_type,
    tensors_of,
    value_of,
    with_leaves_before,
)


@dataclass(frozen=True, slots=True)
class Add:
    """`call` on the value `after`, between it and all that reads it.

    name: of its node; None for the operator's, with a number where that is taken.
    """

    call: str
    after: str
    name: str | None = None

    def __str__(self) -> str:
        return f"add:{f'{self.name}=' if self.name else ''}{self.call} after {self.after}"

    def apply(self, ir: BlueprintIR) -> BlueprintIR:
        """Raises `UnknownNode`, `TypesDiffer`, `ImpossibleEdit`."""
        value = value_of(ir, self.after, str(self))
        if self.name is not None and self.name in ir:
            way = "give another, as in `add:name=call after value`"
            raise ImpossibleEdit(edit=str(self), reason=f"the name `{self.name}` is taken", way=way)
        added, result = called(
            ir, self.call, [value], self.name or self.call.partition("(")[0].strip(), str(self)
        )
        made = next(node.types[result.index] for node in added if node.name == result.node)
        require_type(ir, str(self), "what it makes", made, ir.type(value))
        read = {operand for node in added for operand in node.operands if operand is not None}
        replaced = {value: result}
        nodes = with_leaves_before(ir, value.node, {one.node for one in read}).nodes
        place = 1 + max(
            i for i, n in enumerate(nodes) if n.name == value.node or not read.isdisjoint(n.results)
        )
        late = [node.name for node in nodes[:place] if value in node.operands]
        if late:
            reason = f"`{late[0]}` reads {value}, and the call reads what comes after it"
            raise ImpossibleEdit(edit=str(self), reason=reason, way="name values that are made before")
        after = [with_operands(node, replaced) for node in nodes[place:]]
        return finished(
            ir,
            ir.replace(
                nodes=[*nodes[:place], *added, *after],
                outputs=replace_results(ir.outputs, replaced),
                updates=replace_results(ir.updates, replaced),
            ),
            str(self),
        )


@dataclass(frozen=True, slots=True)
class Remove:
    """What reads `node` reads its first operand of the same type."""

    node: str

    def __str__(self) -> str:
        return f"remove:{self.node}"

    def apply(self, ir: BlueprintIR) -> BlueprintIR:
        """Raises `UnknownNode`, `TypesDiffer`, `ImpossibleEdit`."""
        node = operator_of(ir, self.node, str(self))
        operands = tensors_of(node)
        if not operands:
            way = "replace it by another operator"
            raise ImpossibleEdit(edit=str(self), reason=f"`{node.name}` reads no value", way=way)
        chosen = next((value for value in operands if ir.type(value) == node.type), operands[0])
        require_type(ir, str(self), f"its operand `{chosen}`", ir.type(chosen), node.type)
        return _without(ir, node.name, (), chosen, str(self))


@dataclass(frozen=True, slots=True)
class Replace:
    """Another operator in place of `node`, on the same operands, with the same result."""

    node: str
    call: str

    def __str__(self) -> str:
        return f"replace:{self.node}={self.call}"

    def apply(self, ir: BlueprintIR) -> BlueprintIR:
        """Raises `UnknownNode`, `TypesDiffer`, `ImpossibleEdit`."""
        node = operator_of(ir, self.node, str(self))
        added, result = called(ir, self.call, tensors_of(node), f"{node.name}_edited", str(self))
        made = next((one.types[result.index] for one in added if one.name == result.node), None)
        require_type(ir, str(self), "what it makes", made or ir.type(result), node.type)
        read = {value.node for one in added for value in one.operands if value is not None}
        ir = with_leaves_before(ir, node.name, read)
        position = ir.nodes.index(node)
        late = [one.name for one in ir.nodes[position:] if one.name in read]
        if late:
            way = "name values that are made before"
            reason = f"the call reads `{late[0]}`, which comes later"
            raise ImpossibleEdit(edit=str(self), reason=reason, way=way)
        edited = _without(ir, node.name, added, result, str(self))
        stem = f"{node.name}_edited"
        names = {
            one.name: node.name + one.name.removeprefix(stem)
            for one in edited.nodes
            if one.name.startswith(stem)
        }
        free = {one.name for one in edited.nodes} - names.keys()
        return _renamed(edited, {old: name for old, name in names.items() if name not in free})


@dataclass(frozen=True, slots=True)
class Rewire:
    """Operand number `operand` of `node` reads `value`; where `operand` is None, the output called `node`."""

    node: str
    operand: int | None
    value: str

    def __str__(self) -> str:
        return f"rewire:{self.node}{'' if self.operand is None else f'.{self.operand}'}={self.value}"

    def apply(self, ir: BlueprintIR) -> BlueprintIR:
        """Raises `UnknownNode`, `TypesDiffer`, `ImpossibleEdit`."""
        value = value_of(ir, self.value, str(self))
        if self.operand is None:
            return self._output(ir, value)
        node = operator_of(ir, self.node, str(self))
        old = node.operands[self.operand] if self.operand < len(node.operands) else None
        if old is None:
            way = f"it has operands 0 to {len(node.operands) - 1}; those left out stay so"
            reason = f"`{node.name}` reads nothing as its operand {self.operand}"
            raise ImpossibleEdit(edit=str(self), reason=reason, way=way)
        require_type(ir, str(self), f"`{self.value}`", ir.type(value), ir.type(old))
        above = needed_by(ir, [value.node])
        if node.name in above:
            reason = f"`{value.node}` depends on `{node.name}`, and a graph has no cycle"
            raise ImpossibleEdit(edit=str(self), reason=reason, way="choose a value that is made before it")
        operands = tuple(value if i == self.operand else one for i, one in enumerate(node.operands))
        place = ir.nodes.index(node)
        early = above | {one.name for one in ir.nodes if one.op == "input"}
        ahead = [one for i, one in enumerate(ir.nodes) if i < place or one.name in early]
        rest = [one for one in ir.nodes[place + 1 :] if one.name not in early]
        return finished(ir, ir.replace(nodes=[*ahead, node.replace(operands=operands), *rest]), str(self))

    def _output(self, ir: BlueprintIR, value: Value) -> BlueprintIR:
        outputs = dict(ir.outputs)
        if self.node not in outputs:
            node_of(ir, self.node, str(self))
            way = f"write which, as in `rewire:{self.node}.0={self.value}`"
            raise ImpossibleEdit(edit=str(self), reason=f"`{self.node}` is no output", way=way)
        require_type(ir, str(self), f"`{self.value}`", ir.type(value), ir.type(outputs[self.node]))
        return finished(ir, ir.replace(outputs=[*(outputs | {self.node: value}).items()]), str(self))


@dataclass(frozen=True, slots=True)
class Constrain:
    """The graph as it is, if it keeps `constraint` at `sizes`."""

    constraint: Constraint
    sizes: Mapping[str, SizeValue] = field(default_factory=dict, hash=False)

    def __str__(self) -> str:
        return f"constrain:{self.constraint}"

    def apply(self, ir: BlueprintIR) -> BlueprintIR:
        """Raises `ConstraintBroken`."""
        found = getattr(quantities(ir, self.sizes), self.constraint.quantity)
        if not self.constraint.holds(found):
            shown = f"{found:,}" if isinstance(found, int) else f"{found:.4g}"
            raise ConstraintBroken(edit=str(self), quantity=self.constraint.quantity, found=shown)
        return ir


def _without(ir: BlueprintIR, name: str, added: tuple[Node, ...], result: Value, edit: str) -> BlueprintIR:
    """`ir` with `added` in the place of the node `name`, and `result` for its first result."""
    node = ir.node(name)
    replaced = {node.result(): result}
    own = {(node.operands[i], node.result(at)) for at, i in OPERATORS[node.op].updates.items()}
    updates = [(buffer, value) for buffer, value in ir.updates if (Value(buffer), value) not in own]
    read = {operand for one in ir.nodes for operand in one.operands} | {value for _, value in ir.outputs}
    read |= {value for _, value in updates}
    other = [value for value in node.results[1:] if value in read]
    if other:
        reason = f"`{other[0]}` is read, and only the first result of `{name}` can be stood in for"
        raise ImpossibleEdit(edit=edit, reason=reason, way="rewire or remove what reads it first")
    nodes: list[Node] = []
    for one in ir.nodes:
        nodes += added if one is node else [with_operands(one, replaced)]
    return finished(
        ir,
        ir.replace(
            nodes=nodes,
            outputs=replace_results(ir.outputs, replaced),
            updates=replace_results(updates, replaced),
        ),
        edit,
    )


def _renamed(ir: BlueprintIR, names: Mapping[str, str]) -> BlueprintIR:
    replaced = {
        value: Value(names[node.name], value.index)
        for node in ir.nodes
        if node.name in names
        for value in node.results
    }
    return ir.replace(
        nodes=[
            with_operands(node, replaced).replace(name=names.get(node.name, node.name)) for node in ir.nodes
        ],
        outputs=replace_results(ir.outputs, replaced),
        updates=[(names.get(name, name), value) for name, value in replace_results(ir.updates, replaced)],
    )
