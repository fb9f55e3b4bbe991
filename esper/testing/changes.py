"""Changes to what a graph means: each makes one that the canonical hash must tell from the first.

`changed(ir, kind, seed)` applies one change of a kind of `CHANGES` to a node that a result needs, at a place
drawn by `seed`, and makes sure by `respects`, which knows nothing of the hash, that something changed. The
graphs need not pass the verifier: an attribute is changed whether or not the types still fit.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import isinf

from esper.ir.dims import Dim, Size, size_symbols, substitute, symbol
from esper.ir.graph import BlueprintIR, Node, Value, frozen_attrs
from esper.ir.operator import OPERATORS, AttrValue
from esper.ir.rewrite import needed_by
from esper.ir.types import DType, TensorType

ANY_SYMBOL = symbol("any")


@dataclass(frozen=True)
class Respects:
    """What two equal graphs have in common, whatever their nodes and symbols are called.

    outputs: each output unfolded to a tree down to the leaves, in order; params, buffers and random draws
        are told apart by what they are, not which they are. updates: the same of the updates, without order.
    nodes: how many nodes the results need, which tells a shared node from two equal ones.
    inputs: their types.
    All size symbols count as one, so graphs that differ here are no renamings of each other.
    """

    outputs: tuple[str, ...]
    updates: tuple[str, ...]
    nodes: int
    inputs: tuple[str, ...]


def respects(ir: BlueprintIR) -> Respects:
    trees = _trees(ir)
    needed = needed_by(ir, (*(value.node for value in ir.results), *(name for name, _ in ir.updates)))
    return Respects(
        tuple(_tree(trees, value) for _, value in ir.outputs),
        tuple(sorted(f"{trees[name]} = {_tree(trees, value)}" for name, value in ir.updates)),
        len(needed - {node.name for node in ir.inputs}),
        tuple(_anonymous(node.type) for node in ir.inputs),
    )


def changed(ir: BlueprintIR, kind: str, seed: int) -> BlueprintIR | None:
    """`ir` after one change of `kind`; None if it has no place for one that leaves a trace in `respects`."""
    generator = random.Random(seed)
    candidates = list(CHANGES[kind](ir, generator))
    generator.shuffle(candidates)
    before = respects(ir)
    return next((other for other in candidates if respects(other) != before), None)


def _trees(ir: BlueprintIR) -> dict[str, str]:
    """For each node, a digest of the tree of operators, attributes and types that it is the root of."""
    position = {node.name: index for index, node in enumerate(ir.inputs)}
    trees: dict[str, str] = {}
    for node in ir.nodes:
        operands = ["_" if operand is None else _tree(trees, operand) for operand in node.operands]
        attrs = sorted(f"{name}={_attribute(value)}" for name, value in node.attrs.items())
        described = [node.op, str(position.get(node.name)), *map(_anonymous, node.types), *attrs, *operands]
        trees[node.name] = hashlib.sha256("\n".join(described).encode()).hexdigest()
    return trees


def _tree(trees: Mapping[str, str], value: Value) -> str:
    return f"{trees[value.node]}#{value.index}"


def _attribute(value: AttrValue) -> str:
    if isinstance(value, Dim):
        return _anonymous(TensorType(DType.F32, (value,)))
    if isinstance(value, tuple):
        return f"[{', '.join(map(_attribute, value))}]"
    return value.hash if isinstance(value, BlueprintIR) else f"{type(value).__name__} {value!r}"


def _anonymous(type: TensorType) -> str:
    def any_symbol(size: Size) -> Size:
        return substitute(size, dict.fromkeys(size_symbols(size), ANY_SYMBOL))

    return f"{type.dtype}[{', '.join(str(any_symbol(size)) for size in type.shape)}]"


def _needed(ir: BlueprintIR) -> list[Node]:
    needed = needed_by(ir, (value.node for value in ir.results))
    return [node for node in ir.nodes if node.name in needed]


def _with_node(ir: BlueprintIR, node: Node) -> BlueprintIR:
    return ir.replace(nodes=[node if other.name == node.name else other for other in ir.nodes])


def _operands_swapped(ir: BlueprintIR, _: random.Random) -> Iterator[BlueprintIR]:
    """`a - b` to `b - a`, and `a + b` to `b + a` alike."""
    for node in _needed(ir):
        for left in range(len(node.operands) - 1):
            before, first, second, after = (
                node.operands[:left],
                node.operands[left],
                node.operands[left + 1],
                node.operands[left + 2 :],
            )
            yield _with_node(ir, node.replace(operands=(*before, second, first, *after)))


def _operand_redirected(ir: BlueprintIR, generator: random.Random) -> Iterator[BlueprintIR]:
    """An operand reads another earlier value of its type."""
    earlier: list[Value] = []
    for node in _needed(ir):
        for index, operand in enumerate(node.operands):
            same = [v for v in earlier if operand is not None and ir.type(v) == ir.type(operand)]
            if same:
                operands = (*node.operands[:index], generator.choice(same), *node.operands[index + 1 :])
                yield _with_node(ir, node.replace(operands=operands))
        earlier += node.results


def _attributes(only: Callable[[Node, str], bool]) -> Change:
    def change(ir: BlueprintIR, _: random.Random) -> Iterator[BlueprintIR]:
        for node in _needed(ir):
            for name, value in node.attrs.items():
                other = _other(node, name, value) if only(node, name) else None
                if other is not None:
                    yield _with_node(ir, node.replace(attrs=frozen_attrs({**node.attrs, name: other})))

    return change


def _other(node: Node, name: str, value: AttrValue) -> AttrValue | None:
    """Another value of the same kind; None for a body, and for a number that adding to does not change."""
    declared = OPERATORS[node.op].attribute(name)
    match value:
        case bool():
            return not value
        case float():
            return None if isinf(value) else -value if value else 1.0
        case int() | Dim():
            return value + 1
        case str():
            choices = [choice for choice in (declared.choices if declared else ()) if choice != value]
            return choices[0] if choices else value + "x"
        case DType():
            return next(dtype for dtype in DType if dtype is not value)
        case tuple():
            return (*value, 1)
        case _:
            return None


def _types(other: Callable[[TensorType], TensorType]) -> Change:
    def change(ir: BlueprintIR, _: random.Random) -> Iterator[BlueprintIR]:
        for node in _needed(ir):
            for index, type in enumerate(node.types):
                types = (*node.types[:index], other(type), *node.types[index + 1 :])
                yield _with_node(ir, node.replace(types=types))

    return change


def _other_dtype(type: TensorType) -> TensorType:
    return type.with_dtype(DType.F64 if type.dtype is not DType.F64 else DType.F32)


def _longer(type: TensorType) -> TensorType:
    return type.with_shape((type.shape[0] + 1, *type.shape[1:]) if type.shape else (1,))


def _split(only: Callable[[Node], bool]) -> Change:
    """A node that is read in several places becomes two equal ones; the last operand reads one of its own."""

    def change(ir: BlueprintIR, _: random.Random) -> Iterator[BlueprintIR]:
        needed = _needed(ir)
        kept = {value.node for value in ir.results} | {name for name, _ in ir.updates}
        for node in filter(only, needed):
            reads = [(u, i) for u in needed for i, o in enumerate(u.operands) if o and o.node == node.name]
            if len(reads) + (node.name in kept) < 2 or not reads:
                continue
            twin = node.replace(name=f"{node.name}.twin")
            reader, last = reads[-1]
            operands = tuple(
                twin.result(o.index) if o and index == last else o for index, o in enumerate(reader.operands)
            )
            nodes: list[Node] = []
            for other in ir.nodes:
                nodes.append(other.replace(operands=operands) if other is reader else other)
                nodes += [twin] if other is node else []
            yield ir.replace(nodes=nodes)

    return change


def _params_tied(ir: BlueprintIR, _: random.Random) -> Iterator[BlueprintIR]:
    """All that read one param read another of its type."""
    params = [node for node in _needed(ir) if node.op == "param"]
    for kept in params:
        for tied in params:
            if kept is not tied and kept.type == tied.type:
                yield _reading(ir, {tied.result(): kept.result()}, kept)


def _reading(ir: BlueprintIR, replaced: Mapping[Value, Value], first: Node) -> BlueprintIR:
    """`ir` with `first` moved to the front, and the keys of `replaced` read no more."""
    nodes = [node.replace(operands=tuple(replaced.get(o, o) if o else o for o in node.operands))
             for node in ir.nodes if node.name != first.name]  # fmt: skip
    return ir.replace(
        nodes=[first, *nodes],
        outputs=[(name, replaced.get(value, value)) for name, value in ir.outputs],
        updates=[(name, replaced.get(value, value)) for name, value in ir.updates],
    )


def _outputs_reordered(ir: BlueprintIR, _: random.Random) -> Iterator[BlueprintIR]:
    yield ir.replace(outputs=ir.outputs[::-1])


def _output_repeated(ir: BlueprintIR, generator: random.Random) -> Iterator[BlueprintIR]:
    yield ir.replace(outputs=[*ir.outputs, ("again", generator.choice(ir.outputs)[1])])


def _output_dropped(ir: BlueprintIR, _: random.Random) -> Iterator[BlueprintIR]:
    if len(ir.outputs) > 1:
        yield ir.replace(outputs=ir.outputs[:-1])


def _output_redirected(ir: BlueprintIR, generator: random.Random) -> Iterator[BlueprintIR]:
    """The last output is another value."""
    values = [value for node in ir.nodes for value in node.results]
    yield ir.replace(outputs=[*ir.outputs[:-1], (ir.outputs[-1][0], generator.choice(values))])


def _update_redirected(ir: BlueprintIR, _: random.Random) -> Iterator[BlueprintIR]:
    """A buffer keeps its value, or takes another of its type."""
    for index, (name, value) in enumerate(ir.updates):
        same = [v for node in ir.nodes for v in node.results if ir.type(v) == ir.type(value) and v != value]
        for other in same:
            yield ir.replace(updates=[*ir.updates[:index], (name, other), *ir.updates[index + 1 :]])


def _update_dropped(ir: BlueprintIR, _: random.Random) -> Iterator[BlueprintIR]:
    for index in range(len(ir.updates)):
        yield ir.replace(updates=[*ir.updates[:index], *ir.updates[index + 1 :]])


def _inputs_reordered(ir: BlueprintIR, _: random.Random) -> Iterator[BlueprintIR]:
    inputs = ir.inputs
    yield ir.replace(nodes=[*reversed(inputs), *(node for node in ir.nodes if node not in inputs)])


def _input_added(ir: BlueprintIR, _: random.Random) -> Iterator[BlueprintIR]:
    """An input that nothing reads: it is part of the signature."""
    node = Node("added", "input", (), frozen_attrs({}), (TensorType(DType.F32),))
    yield ir.replace(nodes=[*ir.nodes, node])


Change = Callable[[BlueprintIR, random.Random], Iterator[BlueprintIR]]
CHANGES: Mapping[str, Change] = {
    "operands swapped": _operands_swapped,
    "operand redirected": _operand_redirected,
    "attribute": _attributes(lambda node, name: node.op != "param" and name != "offset"),
    "initialiser": _attributes(lambda node, name: name == "init"),
    "fan_in": _attributes(lambda node, name: name == "fan_in"),
    "gain": _attributes(lambda node, name: name == "gain"),
    "random offset": _attributes(lambda node, name: name == "offset"),
    "dtype": _types(_other_dtype),
    "shape": _types(_longer),
    "param split": _split(lambda node: node.op == "param"),
    "params tied": _params_tied,
    "draw split": _split(lambda node: OPERATORS[node.op].draws(node.attrs)),
    "outputs reordered": _outputs_reordered,
    "output repeated": _output_repeated,
    "output dropped": _output_dropped,
    "output redirected": _output_redirected,
    "update redirected": _update_redirected,
    "update dropped": _update_dropped,
    "inputs reordered": _inputs_reordered,
    "input added": _input_added,
}
