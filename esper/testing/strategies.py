"""Hypothesis strategies: random valid graphs, built by the operators' own sampling rules.

A graph grows by a drawn number of nodes, each of a drawn operator, on operands that its `sample` rule
picks by a tape of drawn bytes. Nothing is filtered or repaired afterwards, so nothing is discarded, and
an entry whose rules disagree fails the test that draws it. Graphs shrink to few nodes on concrete shapes.

All tapes of a graph are one draw: Hypothesis copies draws of one kind over each other to vary an example,
which would draw some operators many times and others never.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from hypothesis import strategies as st

import esper.ops  # noqa: F401  (fills the operator table)
from esper.ir.build import Builder
from esper.ir.dims import Dim, Size, size_symbols, symbol
from esper.ir.graph import BlueprintIR, Node, Value
from esper.ir.operator import OPERATORS, Composite, Leaf, Operator
from esper.ir.types import DType, TensorType
from esper.testing.sampler import GraphSampler

SIZES: tuple[Size, ...] = (2, 1, 3, 4)
SYMBOLS = ("N", "M")
DTYPES = (DType.F32, DType.F64, DType.BF16, DType.F16)
TAPE = 40  # bytes of choices for one use of an operator; what needs more goes on with the simplest


def sampled_operators(differentiable: bool = False) -> list[str]:
    """The operators that graphs are drawn from, by name: all but leaves.

    differentiable: only those that a gradient can pass, or need not.
    """

    def passes_gradients(entry: Operator) -> bool:
        if entry.vjp is not None or isinstance(entry.lowering, Composite):
            return True
        return not entry.inputs or entry.in_language

    return sorted(
        name
        for name, entry in OPERATORS.items()
        if not isinstance(entry.lowering, Leaf) and (not differentiable or passes_gradients(entry))
    )


@st.composite
def blueprint_irs(
    draw: st.DrawFn,
    *,
    max_nodes: int = 8,
    operators: Collection[str] | None = None,
    differentiable: bool = False,
    dtypes: Sequence[DType] = DTYPES,
    symbolic: bool = True,
) -> BlueprintIR:
    """Valid graphs of up to `max_nodes` uses of operators, beside the leaves that they read.

    operators: names to draw from; None for all (of those that `differentiable` leaves).
    differentiable: only operators that a gradient can pass.
    dtypes: floating dtypes to draw from. symbolic: whether axes may be size symbols.
    """
    names = sorted(operators) if operators is not None else sampled_operators(differentiable)
    length = TAPE * (max_nodes + 1)
    drawn = draw(st.binary(min_size=length, max_size=length))
    first, *tapes = (drawn[start : start + TAPE] for start in range(0, length, TAPE))
    build = Builder("generated")
    sampler = GraphSampler(build, SIZES, dtypes)
    sampler.rewind(first)
    if symbolic and sampler.boolean():
        sampler.sizes = (*SIZES, *map(symbol, SYMBOLS))
    outputs = sampler.integer(0, 255)
    updates: dict[str, Value] = {}
    options = [None] * (len(names) // 2) + names  # zero, the simplest choice, adds no node
    for position, tape in enumerate(tapes, 1):
        sampler.rewind(tape)
        name = sampler.choice(options)
        if name is None and (position < max_nodes or build.nodes):
            continue
        entry = OPERATORS[name or names[0]]
        assert entry.sample is not None, f"`{entry.name}` has no sampling rule"
        operands, attrs = entry.sample(sampler)
        results = build.ops(entry.name, *operands, name=None, span=None, **attrs)
        for index, operand in entry.updates.items():
            buffer = operands[operand]
            if buffer is not None:
                updates[buffer.node] = results[index]
    _bind_symbols(build)
    return build.finish(_outputs(build, outputs), updates)


def _outputs(build: Builder, chosen: int) -> dict[str, Value]:
    """The last node's first result, and those of the other values that nothing reads whose bit is set."""
    read = {operand for node in build.nodes for operand in node.operands}
    computed = [node for node in build.nodes if not isinstance(OPERATORS[node.op].lowering, Leaf)]
    last = computed[-1].result()
    unread = [value for node in computed for value in node.results if value not in read and value != last]
    others = [value for index, value in enumerate(unread) if chosen >> index % 8 & 1]
    return {f"y{index}": value for index, value in enumerate([last, *others])}


def _bind_symbols(build: Builder) -> None:
    """An input whose axis it is, for each symbol that is no axis of an input as it stands."""
    bound = {size for node in build.nodes if node.op == "input" for size in node.type.shape}
    for name in sorted(_symbols(build.nodes)):
        if symbol(name) not in bound:
            build.input(build.fresh("x"), TensorType(DType.F32, (symbol(name),)))


def _symbols(nodes: Iterable[Node]) -> set[str]:
    """The size symbols of types and attributes, those in bodies included."""
    used: set[str] = set()
    for node in nodes:
        used.update(*(type.symbols for type in node.types))
        for value in node.attrs.values():
            if isinstance(value, BlueprintIR):
                used |= _symbols(value.nodes)
            for item in value if isinstance(value, tuple) else (value,):
                if isinstance(item, Dim):
                    used |= size_symbols(item)
    return used


def tensor_types(
    *,
    dtypes: Iterable[DType] = tuple(DType),
    max_rank: int = 4,
    sizes: Sequence[Size] = (*SIZES, *map(symbol, SYMBOLS), symbol("N") * 2 + 1, (symbol("M") - 1) // 2),
) -> st.SearchStrategy[TensorType]:
    """Tensor types with concrete and symbolic axes."""
    shapes = st.lists(st.sampled_from(sizes), max_size=max_rank).map(tuple)
    return st.builds(TensorType, st.sampled_from(tuple(dtypes)), shapes)
