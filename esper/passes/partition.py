"""Partition: a joint graph to a forward graph, a backward graph, and what the one saves for the other.

The forward graph is what outputs and updates need. The backward graph is the rest that gradients need;
where it reads a value of the forward graph, that value is saved. Leaves, constants and views of what is
there anyway are never saved: the backward graph takes the leaf, or repeats the view.
"""

from __future__ import annotations

from dataclasses import dataclass

from esper.ir.dims import Size
from esper.ir.graph import BlueprintIR, Node, Value, frozen_attrs
from esper.ir.operator import OPERATORS, View
from esper.ir.rewrite import needed_by, replace_results, with_operands
from esper.ir.types import TensorType
from esper.passes.autodiff import GRADIENT, SAVED
from esper.passes.errors import NotAJointGraph

_GIVEN = ("input", "param", "buffer", "seed")


@dataclass(frozen=True)
class Saved:
    """A value kept from the forward to the backward pass: `saved.<n>`, its value in the joint graph."""

    name: str
    value: Value
    type: TensorType


@dataclass(frozen=True)
class Partition:
    """Two graphs that together are the joint graph.

    forward: its inputs without `grad.*`; outputs, updates, and one output for each saved value.
    backward: what it reads of the primal inputs, params, buffers and the seed, under their own names, and
        of the inputs `grad.<output>`; then inputs `saved.<n>`. Its outputs are `grad.<input or param>`.
    """

    forward: BlueprintIR
    backward: BlueprintIR
    saved: tuple[Saved, ...]

    @property
    def saved_bytes(self) -> Size:
        """Bytes that live from the forward to the backward pass, beside inputs and weights."""
        total: Size = 0
        for saved in self.saved:
            total = total + saved.type.bytes
        return total


def partition(joint: BlueprintIR) -> Partition:
    """Cuts a joint graph in two. Raises `NotAJointGraph` for a graph without gradient outputs."""
    gradients = [(name, value) for name, value in joint.outputs if name.startswith(GRADIENT)]
    primal = [(name, value) for name, value in joint.outputs if not name.startswith(GRADIENT)]
    if not gradients:
        raise NotAJointGraph(blueprint=joint.name)
    forward_results = [value.node for _, value in [*primal, *joint.updates]]
    ahead = needed_by(joint, [*forward_results, *(name for name, _ in joint.updates)])
    updated = {name for name, _ in joint.updates}
    saved: dict[Value, Saved] = {}
    back = _backward_nodes(joint, {value.node for _, value in gradients}, ahead, updated, saved)

    replaced = {value: Value(entry.name) for value, entry in saved.items()}
    sources = [_saved_input(entry) for entry in saved.values()]
    back_nodes = [node for node in joint.nodes if node.name in back]
    given = [node for node in back_nodes if node.op in _GIVEN]
    inner = [node for node in back_nodes if node.op not in _GIVEN]
    backward = BlueprintIR(
        f"{joint.name}.backward",
        (*given, *sources, *(with_operands(node, replaced) for node in inner)),
        replace_results(gradients, replaced),
    )
    forward = joint.replace(
        nodes=(
            node
            for node in joint.nodes
            if node.name in ahead or (node.op == "input" and not node.name.startswith(GRADIENT))
        ),
        outputs=[*primal, *((entry.name, entry.value) for entry in saved.values())],
    )
    return Partition(forward, backward, tuple(saved.values()))


def _backward_nodes(
    joint: BlueprintIR, roots: set[str], ahead: set[str], updated: set[str], saved: dict[Value, Saved]
) -> set[str]:
    """The nodes of the backward graph; fills `saved` with what it reads of the forward graph's."""
    back = set(roots)
    wanted: list[Value] = []
    for node in reversed(joint.nodes):
        if node.name not in back:
            continue
        for operand in node.operands:
            if operand is None or operand.node in back:
                continue
            if operand.node not in ahead or _is_free(joint.node(operand.node), updated):
                back.add(operand.node)
            else:
                wanted.append(operand)
    order = {node.name: position for position, node in enumerate(joint.nodes)}
    for value in sorted(dict.fromkeys(wanted), key=lambda value: (order[value.node], value.index)):
        saved[value] = Saved(f"{SAVED}{len(saved)}", value, joint.type(value))
    return back


def _is_free(node: Node, updated: set[str]) -> bool:
    """Whether the backward graph has `node` without saving it.

    A buffer that the step updates holds another value by then.
    """
    return isinstance(OPERATORS[node.op].lowering, View) or (not node.operands and node.name not in updated)


def _saved_input(entry: Saved) -> Node:
    return Node(entry.name, "input", (), frozen_attrs({}), (entry.type,))
