"""autodiff: a graph to its joint graph, which computes outputs and gradients at once.

Reverse mode: the joint graph has one more input `grad.<output>` for each floating output, and one more
output `grad.<name>` for each floating input or param that the outputs depend on. Walking the nodes
backwards, each operator's rule turns its results' gradients into its operands'; a value that several
nodes read has the sum. Before that, the nodes on a gradient's path take the form that their rules read: a
`scan` yields the carries before each step, from which the reverse loop computes each step again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from esper.ir.build import Builder, infer_types
from esper.ir.graph import BlueprintIR, Node, Value, frozen_attrs
from esper.ir.operator import OPERATORS, Vjp
from esper.ir.rewrite import needed_by
from esper.passes.errors import MistypedGradient, NotDifferentiable, ReservedName, UnknownGradient
from esper.passes.law import Law, register

GRADIENT = "grad."
SAVED = "saved."


@register
@dataclass(frozen=True)
class Autodiff:
    """Outputs and updates stay as they are; `grad.<name>` outputs follow in the order of the nodes.

    wrt: the inputs and params whose gradients are asked for; None for all floating ones. One that no
        output depends on has gradient zero and yields no output.
    Law: the added outputs are the vector-Jacobian products of the outputs with the added inputs.
    Raises `UnknownGradient`, `ReservedName`, and `NotDifferentiable` where a gradient would have to pass
    through an operator that has none.
    """

    wrt: tuple[str, ...] | None = None
    name: ClassVar[str] = "autodiff"
    law: ClassVar[Law] = Law.CHANGES_SIGNATURE

    def run(self, ir: BlueprintIR) -> BlueprintIR:
        _require_free_names([*(node.name for node in ir.nodes), *(name for name, _ in ir.outputs)])
        leaves = self._leaves(ir)
        wrt = [leaf.name for leaf in leaves]
        floating = [(name, value) for name, value in ir.outputs if ir.type(value).dtype.is_floating]
        ir = _with_residuals(ir, wrt, [value for _, value in floating])
        build = Builder(ir.name, ir.nodes)
        gradients = _Gradients(build)
        for name, value in floating:
            build.scope = ir.node(value.node)
            gradients.add(value, build.input(GRADIENT + name, ir.type(value)))
        _pull_back(build, ir, wrt, gradients)
        added = [(GRADIENT + leaf.name, gradients.of(leaf.result())) for leaf in leaves]
        outputs = [*ir.outputs, *((name, value) for name, value in added if value is not None)]
        return ir.replace(nodes=build.nodes, outputs=outputs)

    def _leaves(self, ir: BlueprintIR) -> list[Node]:
        leaves = {
            node.name: node
            for node in ir.nodes
            if node.op in ("input", "param") and node.type.dtype.is_floating
        }
        for name in self.wrt or ():
            if name not in leaves:
                raise UnknownGradient(name=name, blueprint=ir.name)
        return [leaf for name, leaf in leaves.items() if self.wrt is None or name in self.wrt]


class _Gradients:
    """The gradient of each value so far; a second contribution is added to the first."""

    def __init__(self, build: Builder) -> None:
        self._build = build
        self._of: dict[Value, Value] = {}

    def __contains__(self, value: Value) -> bool:
        return value in self._of

    def of(self, value: Value) -> Value | None:
        return self._of.get(value)

    def add(self, value: Value, gradient: Value) -> None:
        before = self._of.get(value)
        self._of[value] = gradient if before is None else self._build.op("add", before, gradient)


def differentiate(
    build: Builder, body: BlueprintIR, gradients: Mapping[str, Value], wrt: Sequence[str]
) -> tuple[Value | None, ...]:
    """See `esper.ir.operator.Differentiate`."""
    reached = [(name, value) for name, value in body.outputs if name in gradients]
    body = _with_residuals(body, wrt, [value for _, value in reached])
    for node in body.nodes:
        if node.op != "input":
            build.append(node)
    found = _Gradients(build)
    for name, value in reached:
        found.add(value, gradients[name])
    _pull_back(build, body, wrt, found)
    return tuple(found.of(Value(name)) for name in wrt)


def _with_residuals(ir: BlueprintIR, wrt: Collection[str], roots: Iterable[Value]) -> BlueprintIR:
    """`ir` with its nodes on a path from `wrt` to `roots` in the form that their rules read."""
    path = _active(ir, wrt) & needed_by(ir, [value.node for value in roots])

    def prepared(node: Node) -> Node:
        entry = OPERATORS[node.op]
        if not entry.residuals or node.name not in path:
            return node
        attrs = frozen_attrs({**node.attrs, **entry.residuals})
        operands = [None if operand is None else ir.type(operand) for operand in node.operands]
        return node.replace(attrs=attrs, types=infer_types(entry, operands, attrs))

    return ir.replace(nodes=map(prepared, ir.nodes))


def _pull_back(build: Builder, ir: BlueprintIR, wrt: Collection[str], gradients: _Gradients) -> None:
    """Adds the gradients of all values of `ir`, whose nodes `build` holds, on the way back to `wrt`."""
    active = _active(ir, wrt)
    for node in reversed(ir.nodes):
        if node.name in active and any(result in gradients for result in node.results):
            _pull_back_node(build, node, active, gradients)


def _pull_back_node(build: Builder, node: Node, active: set[str], gradients: _Gradients) -> None:
    entry = OPERATORS[node.op]
    needed = tuple(
        operand is not None and operand.node in active and build.type(operand).dtype.is_floating
        for operand in node.operands
    )
    if not any(needed):
        return
    if entry.vjp is None:
        raise NotDifferentiable(
            node=node.name, operator=node.op, reason=entry.no_gradient or "none is declared", span=node.span
        )
    build.scope = node
    found = entry.vjp(Vjp(build, node, tuple(map(gradients.of, node.results)), needed, differentiate))
    for index, (operand, gradient) in enumerate(zip(node.operands, found, strict=True)):
        if operand is None or gradient is None or not needed[index]:
            continue
        if build.type(gradient) != build.type(operand):
            raise MistypedGradient(
                node=node.name,
                operator=node.op,
                index=index,
                found=build.type(gradient),
                expected=build.type(operand),
                span=node.span,
            )
        gradients.add(operand, gradient)


def _active(ir: BlueprintIR, leaves: Collection[str]) -> set[str]:
    """The leaves and the nodes with a floating result that depend on one through floating operands."""
    active = set(leaves)
    for node in ir.nodes:
        reads = any(
            operand is not None and operand.node in active and ir.type(operand).dtype.is_floating
            for operand in node.operands
        )
        if reads and any(type.dtype.is_floating for type in node.types):
            active.add(node.name)
    return active


def _require_free_names(names: Iterable[str]) -> None:
    for name in names:
        for prefix in (GRADIENT, SAVED):
            if name.startswith(prefix):
                raise ReservedName(name=name, prefix=prefix)
