"""Which rules a graph breaks, and which of its nodes are the cause.

A bound on a sum is broken by its largest terms: the fewest nodes without which the sum would keep it. What
passes make of a node, and its gradient, count as that node's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from esper.ir.dims import evaluate_size
from esper.ir.graph import BlueprintIR, Node
from esper.ir.operator import OPERATORS, Leaf
from esper.ir.types import DType
from esper.lang import SizeValue, size_values
from esper.passes import joint_graph, run_passes
from esper.passes.expand import Expand
from esper.tezzeret.analysis.chains import longest_chain, width_of
from esper.tezzeret.constraints import Constraint
from esper.tezzeret.costs.figures import (
    DEVICES,
    REFERENCE_DEVICE,
    Device,
    Work,
    quantities,
    read_back,
    work_of,
)
from esper.tezzeret.requirements import require_known
from esper.tezzeret.solver.rules import (
    DIGITS,
    ELEMENTS,
    PRODUCTS,
    Digits,
    Hardware,
    Rule,
    Stable,
    Without,
    is_structural,
)
from esper.tezzeret.solver.stability import instabilities

Kind = Literal["performance", "structural", "hardware", "numerical"]

PRODUCING = frozenset({"matmul", "convolution", "scaled_dot_product_attention", "scan"})
"""Operators of expanded graphs that multiply matrices, or hold what does."""


@dataclass(frozen=True, slots=True)
class Violation:
    """`rule` does not hold, for `reason`. nodes: the cause, the most to blame first; names of the graph.

    excess: by what share of its bound a figure lies beyond it; 1 where there is nothing to measure.
    """

    rule: Rule
    kind: Kind
    reason: str
    nodes: tuple[str, ...]
    excess: float = 1.0

    def __str__(self) -> str:
        named = ", ".join(f"`{name}`" for name in self.nodes[:3])
        more = len(self.nodes) - 3
        where = f" ({named}{f' and {more} more' if more > 0 else ''})" if named else ""
        return f"`{self.rule}`: {self.reason}{where}"


def validate(
    ir: BlueprintIR, rules: Sequence[Rule], sizes: Mapping[str, SizeValue] | None = None
) -> list[Violation]:
    """All violations of `rules`, in their order; of one rule possibly several, never of two kinds.

    sizes: as in `quantities`. Raises `UnknownTarget` for a bound on hardware without figures.
    """
    found = _Validation(ir, sizes)
    return [violation for rule in rules for violation in found.of(rule)]


class _Validation:
    """One graph; what several rules ask for is worked out once."""

    def __init__(self, ir: BlueprintIR, sizes: Mapping[str, SizeValue] | None) -> None:
        self.ir = ir
        self.given = sizes
        self.sizes = size_values(ir, sizes)
        self.expanded = Expand().run(ir)

    def of(self, rule: Rule) -> Iterator[Violation]:
        match rule:
            case Constraint():
                yield from self._structural(rule) if is_structural(rule) else self._performance(rule)
            case Hardware():
                yield from self._hardware(rule)
            case Without():
                nodes = self._owners(lambda node: node.op == rule.operator)
                if nodes:
                    yield Violation(
                        rule,
                        "hardware",
                        f"{rule.operator} is used {len(nodes)} times"
                        if len(nodes) > 1
                        else f"{rule.operator} is used",
                        nodes,
                    )
            case Digits():
                nodes = tuple(node.name for node in self._narrow(rule))
                if nodes:
                    reason = f"floats have fewer digits than {rule.dtype}"
                    yield Violation(rule, "numerical", reason, nodes)
            case Stable():
                found = {
                    (self._owner(one.node), one.reason): None
                    for one in instabilities(self.expanded, self.sizes)
                }
                for name, reason in found:
                    yield Violation(rule, "numerical", reason, (name,))

    def _performance(self, rule: Constraint) -> Iterator[Violation]:
        require_known(rule.target)
        device = REFERENCE_DEVICE if rule.target is None else DEVICES[rule.target]
        found = getattr(quantities(self.ir, self.given, device), rule.quantity)
        if rule.holds(found):
            return
        nodes: tuple[str, ...] = ()
        if rule.comparison.startswith("<"):
            terms = self._terms(rule.quantity, device)
            nodes = _largest(terms, sum(terms.values()) * (1.0 - rule.bound / found) if found else 0.0)
        shown = f"{found:,}" if isinstance(found, int) else f"{found:,.6g}"
        yield Violation(rule, "performance", f"the graph has {shown}", nodes, rule.excess(found))

    def _terms(self, quantity: str, device: Device) -> Mapping[str, float]:
        """What each node of the graph adds to a figure."""
        terms: defaultdict[str, float] = defaultdict(float)
        if quantity == "params":
            for node in self.ir.params:
                terms[self._reader(node)] += evaluate_size(node.type.elements, self.sizes)
            return terms
        joint = joint_graph(run_passes(self.ir))
        if quantity in ("memory", "memory_mb"):
            for node in self.ir.params:
                terms[self._reader(node)] += evaluate_size(node.type.bytes, self.sizes)
            for value in read_back(joint):
                if not isinstance(OPERATORS[joint.node(value.node).op].lowering, Leaf):
                    terms[self._owner(value.node)] += evaluate_size(joint.type(value).bytes, self.sizes)
            return terms
        measure: Callable[[Work], float] = {
            "flops": lambda work: work.flops,
            "bytes": lambda work: work.bytes,
        }.get(quantity, lambda work: work.seconds(device))
        for node in joint.nodes:
            work = work_of(joint, node, self.sizes)
            if work is not None:
                terms[self._owner(node.name)] += measure(work)
        return terms

    def _structural(self, rule: Constraint) -> Iterator[Violation]:
        found = structure(self.ir, self.given)[rule.quantity]
        if rule.holds(found):
            return
        nodes: tuple[str, ...] = ()
        if rule.comparison.startswith("<"):
            if rule.quantity == "depth":
                nodes = longest_chain(self.ir)
            elif rule.quantity == "width":
                width = width_of(self.ir, self.sizes)
                nodes = () if width is None else (width.at,)
            else:
                nodes = tuple(node.name for node in self.ir.nodes[int(rule.bound) :])
        yield Violation(rule, "structural", f"the graph has {found:,}", nodes, rule.excess(found))

    def _hardware(self, rule: Hardware) -> Iterator[Violation]:
        known = ELEMENTS[rule.target]
        for dtype in DType:
            if dtype not in known:
                nodes = tuple(
                    node.name for node in self.ir.nodes if any(type.dtype is dtype for type in node.types)
                )
                if nodes:
                    reason = f"kernels for {rule.target} have no elements of {dtype}"
                    yield Violation(rule, "hardware", reason, nodes)
        if rule.products not in PRODUCTS[rule.target]:
            nodes = self._owners(
                lambda node: node.op in PRODUCING and self._floats(self.expanded, node) == {DType.F32}
            )
            if nodes:
                reason = f"{rule.target} has no products of float32 by {rule.products}"
                yield Violation(rule, "hardware", reason, nodes)

    def _narrow(self, rule: Digits) -> Iterator[Node]:
        least = DIGITS[rule.dtype]
        for node in self.ir.nodes:
            if node.op == rule.operator and any(
                DIGITS[dtype] < least for dtype in self._floats(self.ir, node)
            ):
                yield node

    def _floats(self, ir: BlueprintIR, node: Node) -> set[DType]:
        """The floating types of what a node reads and makes."""
        types = [*node.types, *(ir.type(value) for value in node.operands if value is not None)]
        return {type.dtype for type in types if type.dtype.is_floating}

    def _owners(self, is_meant: Callable[[Node], bool]) -> tuple[str, ...]:
        """The nodes of the graph that are so, or that stand for one that is."""
        own = (node.name for node in self.ir.nodes if is_meant(node))
        inside = (self._owner(node.name) for node in self.expanded.nodes if is_meant(node))
        found = {name for name in (*own, *inside) if name}
        return tuple(node.name for node in self.ir.nodes if node.name in found)

    def _owner(self, name: str) -> str:
        """The node of the graph that what is called `name` was made from; it itself if there is none."""
        found = name
        while found not in self.ir:
            found = found.rpartition(".")[0]
            if not found:
                return name
        return found

    def _reader(self, weight: Node) -> str:
        """The node that a weight belongs to: the first that reads it."""
        users = self.ir.users(weight.name)
        return users[0].name if users else weight.name


def _largest(terms: Mapping[str, float], surplus: float) -> tuple[str, ...]:
    """The fewest nodes whose terms come to `surplus`, the largest first."""
    ordered = sorted((name for name in terms if terms[name] > 0), key=lambda name: -terms[name])
    found: list[str] = []
    total = 0.0
    for name in ordered:
        if total >= surplus and found:
            break
        found.append(name)
        total += terms[name]
    return tuple(found)


def structure(ir: BlueprintIR, sizes: Mapping[str, SizeValue] | None = None) -> dict[str, int]:
    """What `STRUCTURAL` names, of `ir`."""
    width = width_of(ir, size_values(ir, sizes))
    return {
        "depth": len(longest_chain(ir)),
        "width": 0 if width is None else width.alive,
        "nodes": len(ir.nodes),
    }
