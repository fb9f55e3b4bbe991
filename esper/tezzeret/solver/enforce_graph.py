"""Edits of a graph that keep rules, few before many, where no blueprint leaves values to choose.

It is made narrower (a layer's size halved), shallower (one operator left out, not what leads to it), its
operators cheaper, its products narrow, or what is cheap computed again instead of kept. What goes in and
comes out stays as it is. All single edits are tried; of those that do not suffice, the best few are gone on
from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from esper.errors import EsperError
from esper.ir.graph import BlueprintIR, Node
from esper.ir.operator import OPERATORS, Leaf
from esper.ir.types import DType
from esper.lang import SizeValue
from esper.passes.precision import Precision
from esper.tezzeret.constraints import Constraint
from esper.tezzeret.costs.exact import exact_memory
from esper.tezzeret.edits import Remove, Replace, Resize
from esper.tezzeret.solver.errors import NoRepairFound
from esper.tezzeret.solver.rules import Rule
from esper.tezzeret.solver.validate import Violation, validate

CHEAPER = {
    **dict.fromkeys(
        ("gelu", "gelu_tanh", "silu", "mish", "tanh", "sigmoid", "elu", "selu", "softplus"), "relu"
    ),
    "hardswish": "relu",
    "layer_norm": "rms_norm",
    "relu6": "relu",
}
"""What may stand in for an operator, with less arithmetic."""

NARROWED = "products in bf16"
RECOMPUTED = "what is cheap is computed again in the backward pass"

Edit = Callable[[BlueprintIR], BlueprintIR]

MAX_TRIED = 200
KEPT = 4
"""Graphs that are gone on from, of each number of edits."""
MAX_EDITS = 4

_MEMORY = ("memory", "memory_mb")


@dataclass(frozen=True, slots=True)
class GraphRepair:
    """A graph that keeps the rules. edits: in words, in their order; empty where it keeps them as it was.

    is_least: no fewer edits suffice; of as many, none changes fewer nodes. recomputes: bounds on memory are
    kept by what the planned programs save, which compute again what is cheap, not if nothing is computed
    twice. tried: graphs that were validated.
    """

    ir: BlueprintIR
    edits: tuple[str, ...]
    is_least: bool
    recomputes: bool
    tried: int


@dataclass(slots=True)
class _State:
    ir: BlueprintIR
    edits: tuple[str, ...]
    changed: int
    violations: list[Violation]
    is_narrow: bool = False

    @property
    def excess(self) -> float:
        return sum(violation.excess for violation in self.violations)


def enforce_graph(
    ir: BlueprintIR,
    rules: Sequence[Rule],
    sizes: Mapping[str, SizeValue] | None = None,
    *,
    may_recompute: bool = True,
) -> GraphRepair:
    """A copy of `ir` that keeps `rules`.

    sizes: as in `quantities`. may_recompute: whether bounds on memory may be kept by computing again what is
    cheap, where no single edit keeps them. Raises `NoRepairFound`, and `UnknownTarget`.
    """
    return _Enforcing(ir, rules, sizes, may_recompute).repair()


@dataclass
class _Enforcing:
    ir: BlueprintIR
    rules: Sequence[Rule]
    sizes: Mapping[str, SizeValue] | None
    may_recompute: bool
    seen: set[str] = field(default_factory=set)

    def repair(self) -> GraphRepair:
        start = _State(self.ir, (), 0, validate(self.ir, self.rules, self.sizes))
        self.seen.add(self.ir.structure)
        if not start.violations:
            return self._found(start, True)
        states, nearest = [start], start
        for count in range(1, MAX_EDITS + 1):
            further = [after for state in states for after in self._after(state)]
            kept = [state for state in further if not state.violations]
            if kept:
                least = min(kept, key=lambda state: state.changed)
                return self._found(least, count == 1 and len(self.seen) < MAX_TRIED)
            if count == 1 and self.may_recompute and self._recomputes(start):
                return GraphRepair(self.ir, (RECOMPUTED,), True, True, len(self.seen))
            states = sorted(further, key=lambda state: (state.excess, state.changed))[:KEPT]
            nearest = min([nearest, *states], key=lambda state: state.excess)
            if len(self.seen) >= MAX_TRIED or not states:
                break
        raise self._nothing(nearest)

    def _found(self, state: _State, is_least: bool) -> GraphRepair:
        return GraphRepair(state.ir, state.edits, is_least, False, len(self.seen))

    def _after(self, state: _State) -> Iterator[_State]:
        for words, make in self._edits(state):
            if len(self.seen) >= MAX_TRIED:
                return
            try:
                ir = make(state.ir)
                if ir.structure in self.seen or _place(ir) != _place(self.ir) or _lost(state.ir, ir) > 1:
                    continue
                self.seen.add(ir.structure)
                violations = validate(ir, self.rules, self.sizes)
            except EsperError:  # the edit does not fit the graph
                continue
            yield _State(
                ir,
                (*state.edits, words),
                _changed(self.ir, ir),
                violations,
                state.is_narrow or words == NARROWED,
            )

    def _edits(self, state: _State) -> Iterator[tuple[str, Edit]]:
        for node in state.ir.nodes:
            if isinstance(OPERATORS[node.op].lowering, Leaf):
                continue
            for size in _sizes(node):
                resize = Resize(node.name, None, size // 2)
                yield f"{node.name} narrowed from {size} to {size // 2}", resize.apply
            if node.op in CHEAPER:
                replace = Replace(node.name, CHEAPER[node.op])
                yield f"{node.name} replaced by {CHEAPER[node.op]}", replace.apply
            yield f"{node.name} left out", Remove(node.name).apply
        if not state.is_narrow:
            yield NARROWED, Precision(DType.BF16).run

    def _recomputes(self, state: _State) -> bool:
        """Whether only bounds on memory are broken, and the planned programs keep those."""
        rules = [violation.rule for violation in state.violations]
        if not all(isinstance(rule, Constraint) and rule.quantity in _MEMORY for rule in rules):
            return False
        try:
            found = exact_memory(self.ir, self.sizes).memory
        except EsperError:  # no program can be planned
            return False
        return all(
            rule.holds(found / 2**20 if rule.quantity == "memory_mb" else found)
            for rule in rules
            if isinstance(rule, Constraint)
        )

    def _nothing(self, nearest: _State) -> NoRepairFound:
        rules = tuple(dict.fromkeys(violation.rule for violation in nearest.violations))
        figures = "; ".join(str(violation) for violation in nearest.violations)
        after = f"after {', '.join(nearest.edits)}, it breaks " if nearest.edits else "it breaks "
        return NoRepairFound(
            blueprint=self.ir.name,
            trials=len(self.seen),
            conflict=" and ".join(f"`{rule}`" for rule in rules),
            relaxed=f"the nearest is left with this: {after}{figures}",
            rules=rules,
            relaxation=(),
        )


def _sizes(node: Node) -> Iterator[int]:
    """The size that a layer makes, if it can be halved: of the last axis, or of the channels."""
    shape = node.type.shape
    axis = -1 if node.op == "linear" else 1
    if node.op in ("linear", "conv", "conv_transpose") and len(shape) > 1:
        size = shape[axis]
        if isinstance(size, int) and size > 1:
            yield size


def _place(ir: BlueprintIR) -> tuple[object, ...]:
    """What goes in and what comes out."""
    return tuple(node.type for node in ir.inputs), tuple(ir.type(value) for _, value in ir.outputs)


def _lost(before: BlueprintIR, after: BlueprintIR) -> int:
    """Operators that are gone: where one takes others along, less is left than what is left out says."""
    names = {node.name for node in after.nodes}
    return sum(
        node.name not in names and not isinstance(OPERATORS[node.op].lowering, Leaf) for node in before.nodes
    )


def _changed(before: BlueprintIR, after: BlueprintIR) -> int:
    """Nodes that are other than they were, that are gone, or that were added."""
    one = {node.name: (node.op, node.types) for node in before.nodes}
    other = {node.name: (node.op, node.types) for node in after.nodes}
    return sum(one.get(name) != other.get(name) for name in one.keys() | other.keys())
