"""autodiff: a graph to its joint graph, which computes outputs and gradients at once.

Reverse mode: the joint graph has one more input `grad.<output>` for each floating output, and one more
output `grad.<name>` for each floating input or param that the outputs depend on. Walking the nodes
backwards, each operator's rule turns its results' gradients into its operands'; a value that several
nodes read has the sum.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from esper.ir.build import Builder
from esper.ir.graph import BlueprintIR, Node, Value
from esper.ir.operator import OPERATORS, Vjp
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
        active = _active(ir, {leaf.name for leaf in leaves})
        build = Builder(ir.name, ir.nodes)
        gradients = _Gradients(build)
        for name, value in ir.outputs:
            if ir.type(value).dtype.is_floating:
                build.scope = ir.node(value.node)
                gradients.add(value, build.input(GRADIENT + name, ir.type(value)))
        for node in reversed(ir.nodes):
            if node.name in active and any(result in gradients for result in node.results):
                _pull_back(build, node, active, gradients)
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


def _pull_back(build: Builder, node: Node, active: set[str], gradients: _Gradients) -> None:
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
    found = entry.vjp(Vjp(build, node, tuple(map(gradients.of, node.results)), needed))
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


def _active(ir: BlueprintIR, leaves: set[str]) -> set[str]:
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
