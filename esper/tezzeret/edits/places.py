"""Where an edit takes hold: values by their names, who reads them, and what nothing reads any more."""

from __future__ import annotations

import re
from collections.abc import Iterable

from esper.errors import EsperError
from esper.ir.graph import BlueprintIR, Node, Value
from esper.ir.operator import OPERATORS, Leaf, Role
from esper.ir.rewrite import needed_by
from esper.ir.types import TensorType
from esper.ir.verify import verify
from esper.lang.names import closest
from esper.tezzeret.edits.errors import ImpossibleEdit, TypesDiffer, UnknownNode

LISTED = 6
"""Names that a message lists, at most."""

_VALUE = re.compile(r"%?(?P<node>[A-Za-z_]\w*(?:\.\w+)*)(?:#(?P<index>[0-9]{1,6}))?", re.ASCII)


def node_of(ir: BlueprintIR, name: str, edit: str) -> Node:
    """The node called `name`. Raises `UnknownNode` with the name that may be meant."""
    if name in ir:
        return ir.node(name)
    computed = [node.name for node in ir.nodes if not _is_leaf(node)]
    found = closest(name, [*computed, *(node.name for node in ir.nodes)])
    listed = f"it has {_listed(computed)}" if computed else ""
    raise UnknownNode(edit=edit, name=name, suggestion=f"did you mean `{found}`?" if found else listed)


def operator_of(ir: BlueprintIR, name: str, edit: str) -> Node:
    """The node called `name`, one that computes. Raises `UnknownNode` or `ImpossibleEdit`."""
    node = node_of(ir, name, edit)
    if _is_leaf(node):
        readers = [reader.name for reader in ir.users(name)]
        way = f"edit what reads it: {_listed(readers)}" if readers else "name an operator's node"
        raise ImpossibleEdit(edit=edit, reason=f"`{name}` is a leaf, an {node.op} that is given", way=way)
    return node


def value_of(ir: BlueprintIR, text: str, edit: str) -> Value:
    """The value written as `h`, `%h` or `h#1`. Raises `UnknownNode` or `ImpossibleEdit`."""
    found = _VALUE.fullmatch(text.strip())
    if found is None:
        way = "write a node's name, with #1 for its second result"
        raise ImpossibleEdit(edit=edit, reason=f"`{text}` is no value", way=way)
    node = node_of(ir, found["node"], edit)
    index = int(found["index"] or 0)
    if index >= len(node.types):
        results = f"`{node.name}` has {len(node.types)} results, counted from 0"
        raise ImpossibleEdit(edit=edit, reason=results, way=f"the first is `{node.name}`")
    return Value(node.name, index)


def tensors_of(node: Node) -> list[Value]:
    """The operands that a user writes, without weights, statistics and the seed."""
    entry = OPERATORS[node.op]
    return [
        value
        for index, value in enumerate(node.operands)
        if value is not None and entry.input_of(index).role is Role.TENSOR
    ]


def with_leaves_before(ir: BlueprintIR, name: str, read: set[str]) -> BlueprintIR:
    """`ir` in an order in which the leaves among `read` come before the node `name`; inputs keep theirs."""
    place = next(i for i, node in enumerate(ir.nodes) if node.name == name)
    late = {node.name for node in ir.nodes[place:] if node.name in read and _is_leaf(node)} - {name}
    if any(ir.node(one).op == "input" for one in late):
        late |= {node.name for node in ir.inputs}
    first = [node for node in ir.nodes if node.name in late]
    return ir.replace(nodes=[*first, *(node for node in ir.nodes if node.name not in late)])


def require_type(ir: BlueprintIR, edit: str, what: str, found: TensorType, expected: TensorType) -> None:
    """Raises `TypesDiffer`, which lists the values of type `expected`, unless the two are equal."""
    if found != expected:
        fitting = [str(v) for node in ir.nodes for v in node.results if ir.type(v) == expected]
        fits = f"of that type are {_listed(fitting)}" if fitting else "no value of the graph has that type"
        raise TypesDiffer(edit=edit, what=what, found=str(found), expected=str(expected), fits=fits)


def finished(before: BlueprintIR, after: BlueprintIR, edit: str) -> BlueprintIR:
    """`after`, verified, without the nodes that `before` needed and it does not. Raises `ImpossibleEdit`.

    A node is needed for the outputs, or for a statistic that is: a norm that nothing but its own statistics
    read any more goes with these, and so does what led there.
    """
    names = {node.name for node in after.nodes}
    kept = {name for name, _ in before.updates if not before.users(name)}  # for who looks from outside
    needed = _needed(after, kept)
    gone = (_needed(before, kept) - needed) | (names - {node.name for node in before.nodes} - needed)
    gone -= needed_by(after, names - gone)  # what nothing needed before may read it
    updates = [(name, value) for name, value in after.updates if name in names - gone]
    nodes = [node for node in after.nodes if node.op == "input" or node.name not in gone]
    result = after.replace(nodes=nodes, updates=updates)
    try:
        verify(result)
    except EsperError as error:
        way = "the edit before it, or another one, may make it fit"
        raise ImpossibleEdit(edit=edit, reason=str(error), way=way) from None
    return result


def _needed(ir: BlueprintIR, kept: set[str]) -> set[str]:
    """What the outputs depend on, and what the buffers among it, and those of `kept`, are updated by."""
    found = needed_by(ir, [*(value.node for _, value in ir.outputs), *kept])
    while more := {value.node for name, value in ir.updates if name in found} - found:
        found |= needed_by(ir, more)
    return found


def _is_leaf(node: Node) -> bool:
    return isinstance(OPERATORS[node.op].lowering, Leaf)


def _listed(names: Iterable[str]) -> str:
    found = [f"`{name}`" for name in names]
    rest = len(found) - LISTED
    return ", ".join(found[:LISTED]) + (f" and {rest} more" if rest > 0 else "")
