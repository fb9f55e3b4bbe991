"""Partition: a joint graph to a forward graph, a backward graph, and what the one saves for the other.

The forward graph is what outputs and updates need. The backward graph is the rest that gradients need.
Where it reads a value of the forward graph, that value is saved, or computed again from what is:
`esper.passes.cut` says which, and why. A node that runs again is the same node, random offset included.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from esper.ir.dims import Size
from esper.ir.graph import BlueprintIR, Node, Value, frozen_attrs
from esper.ir.operator import OPERATORS, View
from esper.ir.rewrite import needed_by, replace_results, with_operands
from esper.ir.types import TensorType
from esper.ops.rules import attribute_integer
from esper.passes.autodiff import GRADIENT, SAVED
from esper.passes.cut import Cut, Reason, minimum_cut
from esper.passes.errors import NotAJointGraph

_GIVEN = ("input", "param", "buffer", "seed")


@dataclass(frozen=True)
class Saved:
    """A value kept from the forward to the backward pass: `saved.<n>`, its value in the joint graph, why."""

    name: str
    value: Value
    type: TensorType
    reason: Reason


@dataclass(frozen=True)
class Recomputed:
    """A node, no view, that runs in both passes; `sources` are the saved values and leaves it comes from."""

    node: str
    sources: tuple[Value, ...]


@dataclass(frozen=True)
class Partition:
    """Two graphs that together are the joint graph.

    forward: its inputs without `grad.*`; outputs, updates, and one output for each saved value.
    backward: what it reads of the primal inputs, params, buffers and the seed, under their own names, and
        of the inputs `grad.<output>`; then inputs `saved.<n>`, and slices `saved.<n>.<k>` of concatenations
        among them, where it reads their operand `k`. Its outputs are `grad.<input or param>`.
    """

    forward: BlueprintIR
    backward: BlueprintIR
    saved: tuple[Saved, ...]
    recomputed: tuple[Recomputed, ...]

    @property
    def saved_bytes(self) -> Size:
        """Bytes that live from the forward to the backward pass, beside inputs and weights."""
        total: Size = 0
        for saved in self.saved:
            total = total + saved.type.bytes
        return total


def forward_and_backward(joint: BlueprintIR, sizes: Mapping[str, int] | None = None) -> Partition:
    """As `partition`; where nothing has a gradient, all is forward and the backward graph is empty.

    An empty graph computes nothing, and is no valid one by itself.
    """
    if any(name.startswith(GRADIENT) for name, _ in joint.outputs):
        return partition(joint, sizes)
    forward = joint.replace(nodes=(node for node in joint.nodes if not _is_incoming_gradient(node)))
    return Partition(forward, BlueprintIR(_backward_name(joint), (), ()), (), ())


def partition(joint: BlueprintIR, sizes: Mapping[str, int] | None = None) -> Partition:
    """Cuts a joint graph in two, keeping the fewest bytes that `esper.passes.cut` allows.

    sizes: values of size symbols at which bytes are compared; those of others are `default_size`'s.
    Raises `NotAJointGraph` for a graph without gradient outputs.
    """
    gradients = [(name, value) for name, value in joint.outputs if name.startswith(GRADIENT)]
    primal = [(name, value) for name, value in joint.outputs if not name.startswith(GRADIENT)]
    if not gradients:
        raise NotAJointGraph(blueprint=joint.name)
    forward_results = [value.node for _, value in [*primal, *joint.updates]]
    ahead = needed_by(joint, [*forward_results, *(name for name, _ in joint.updates)])
    behind, wanted = _behind(joint, [value for _, value in gradients], ahead)
    cut = minimum_cut(joint, ahead, behind, wanted, sizes or {})
    saved = {
        value: Saved(f"{SAVED}{index}", value, joint.type(value), reason)
        for index, (value, reason) in enumerate(cut.kept.items())
    }
    back = behind | cut.again
    parts = {
        value: _part(joint, Value(saved[whole].name), joint.node(whole.node), index)
        for value, (whole, index) in cut.parts.items()
    }
    replaced = {value: Value(entry.name) for value, entry in saved.items()}
    replaced |= {value: part.result() for value, part in parts.items()}
    sources = [*(_saved_input(entry) for entry in saved.values()), *parts.values()]
    back_nodes = [node for node in joint.nodes if node.name in back]
    given = [node for node in back_nodes if node.op in _GIVEN]
    inner = [node for node in back_nodes if node.op not in _GIVEN]
    backward = BlueprintIR(
        _backward_name(joint),
        (*given, *sources, *(with_operands(node, replaced) for node in inner)),
        replace_results(gradients, replaced),
    )
    forward = joint.replace(
        nodes=(
            node
            for node in joint.nodes
            if node.name in ahead or (node.op == "input" and not _is_incoming_gradient(node))
        ),
        outputs=[*primal, *((entry.name, entry.value) for entry in saved.values())],
    )
    return Partition(forward, backward, tuple(saved.values()), _recomputed(joint, cut))


def _backward_name(joint: BlueprintIR) -> str:
    return f"{joint.name}.backward"


def _is_incoming_gradient(node: Node) -> bool:
    return node.op == "input" and node.name.startswith(GRADIENT)


def _behind(joint: BlueprintIR, roots: list[Value], ahead: set[str]) -> tuple[set[str], list[Value]]:
    """The nodes that gradients alone need, and the values of `ahead` that these, or `roots`, read."""
    behind = {value.node for value in roots} - ahead
    wanted = [value for value in roots if value.node in ahead]
    for node in reversed(joint.nodes):
        if node.name not in behind:
            continue
        for operand in node.operands:
            if operand is None:
                continue
            if operand.node in ahead:
                wanted.append(operand)
            else:
                behind.add(operand.node)
    return behind, wanted


def _recomputed(joint: BlueprintIR, cut: Cut) -> tuple[Recomputed, ...]:
    sources: dict[str, dict[Value, None]] = {}
    found = []
    for node in joint.nodes:
        if node.name not in cut.again:
            continue
        own: dict[Value, None] = {}
        for operand in node.operands:
            if operand is not None:
                if operand in cut.parts:
                    own[cut.parts[operand][0]] = None
                else:
                    own.update({operand: None} if operand in cut.kept else sources[operand.node])
        sources[node.name] = own if node.operands else {node.result(): None}
        if node.operands and not isinstance(OPERATORS[node.op].lowering, View):
            found.append(Recomputed(node.name, tuple(own)))
    return tuple(found)


def _saved_input(entry: Saved) -> Node:
    return Node(entry.name, "input", (), frozen_attrs({}), (entry.type,))


def _part(joint: BlueprintIR, saved: Value, concat: Node, index: int) -> Node:
    """Operand `index` of a concatenation, read out of the saved result."""
    rank = concat.type.rank
    axis = attribute_integer(concat.attrs, "axis") % rank
    types = [joint.type(operand) for operand in concat.operands if operand is not None]
    start: Size = 0
    for type in types[:index]:
        start = start + type.shape[axis]
    bounds = {"axes": (axis,), "start": (start,), "stop": (start + types[index].shape[axis],), "step": ()}
    return Node(
        f"{saved.node}.{index}", "slice", (saved,), frozen_attrs(bounds), (types[index],), concat.span
    )
