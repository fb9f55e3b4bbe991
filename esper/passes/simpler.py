"""Simpler graphs than a given one, for the reducer: each family of candidates takes away something else.

A candidate need not be valid; who asks for them verifies each. Types follow from the leaves, so a candidate
changes leaves, attributes or operands and has the rest inferred again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial

from esper.ir.build import infer_types
from esper.ir.dims import Dim, Size, substitute
from esper.ir.graph import BlueprintIR, Node, Value, frozen_attrs
from esper.ir.operator import OPERATORS, REQUIRED, AttrValue, Leaf
from esper.ir.rewrite import needed_by, replace_results, with_operands
from esper.ir.types import DType, TensorType

Candidates = Iterator[BlueprintIR]


def fewer_results(ir: BlueprintIR) -> Candidates:
    """One output alone, then all results but one."""
    for output in ir.outputs:
        yield ir.replace(outputs=[output], updates=())
    for update in ir.updates:
        yield ir.replace(updates=[other for other in ir.updates if other != update])
    for output in ir.outputs if len(ir.outputs) > 1 else ():
        yield ir.replace(outputs=[other for other in ir.outputs if other != output])


def without_dead_nodes(ir: BlueprintIR) -> Candidates:
    """Only what a result needs; inputs that nothing reads go too."""
    live = needed_by(ir, [*(value.node for value in ir.results), *(name for name, _ in ir.updates)])
    yield ir.replace(nodes=[node for node in ir.nodes if node.name in live])


def other_results(ir: BlueprintIR) -> Candidates:
    """One output, of another value; inputs that nothing reads are gone."""
    name, old = ir.outputs[0]
    for node in reversed(ir.nodes):
        for value in node.results:
            read = {value.node, *(o.node for other in ir.nodes for o in other.operands if o is not None)}
            kept = [other for other in ir.nodes if other.op != "input" or other.name in read]
            if value != old:
                yield ir.replace(nodes=kept, outputs=[(name, value)])


def cut(ir: BlueprintIR, names: Collection[str]) -> BlueprintIR:
    """`ir` without the nodes `names`: each of their results that something else reads is an input."""
    read = {operand for node in ir.nodes if node.name not in names for operand in node.operands}
    read.update(ir.results)
    nodes: list[Node] = []
    replaced: dict[Value, Value] = {}
    for node in ir.nodes:
        if node.name not in names:
            nodes.append(with_operands(node, replaced))
            continue
        for value in node.results:
            if value in read:
                name = f"{node.name}.{value.index}" if value.index else node.name
                nodes.append(Node(name, "input", (), frozen_attrs({}), (node.types[value.index],)))
                replaced[value] = Value(name)
    return ir.replace(
        nodes=nodes,
        outputs=replace_results(ir.outputs, replaced),
        updates=replace_results(ir.updates, replaced),
    )


def bypassed(ir: BlueprintIR) -> Candidates:
    """A node is gone, and who read it reads an operand of it of the same type."""
    for node in ir.nodes:
        operands = [operand for operand in node.operands if operand is not None]
        for chosen in dict.fromkeys(operands):
            replaced = {value: chosen for value in node.results if ir.type(value) == ir.type(chosen)}
            yield _reading(ir, replaced, without=node.name)
    yield from _in_bodies(ir, bypassed)
    yield from _in_bodies(ir, without_dead_nodes)


def merged_inputs(ir: BlueprintIR) -> Candidates:
    """Who read one input reads an earlier one of its type."""
    for index, node in enumerate(ir.inputs):
        for earlier in ir.inputs[:index]:
            if earlier.type == node.type:
                yield _reading(ir, {node.result(): earlier.result()}, without=node.name)


def fewer_operands(ir: BlueprintIR) -> Candidates:
    """An operand that may be left out is left out."""
    for node in ir.nodes:
        entry = OPERATORS[node.op]
        for index, operand in enumerate(node.operands):
            declared = entry.input_of(index)
            rest = node.operands[index + 1 :]
            if declared.variadic:
                yield from _with(ir, node.replace(operands=(*node.operands[:index], *rest)))
            elif declared.optional and operand is not None:
                yield from _with(ir, node.replace(operands=(*node.operands[:index], None, *rest)))


def smaller_sizes(ir: BlueprintIR) -> Candidates:
    """A size is a smaller one wherever it stands; then one leaf has one axis less."""
    sizes = sorted({size for node in ir.nodes if _is_leaf(node) for size in node.type.shape}, key=str)
    for size in sizes:
        for smaller in (1, 2, 3, size // 2 if isinstance(size, int) else 4):
            if isinstance(size, Dim) or 1 <= smaller < size:
                yield from _mapped(ir, partial(_resized, old=size, new=smaller))
    leaves = [node for node in ir.nodes if _is_leaf(node)]
    for axis in range(max((node.type.rank for node in leaves), default=0)):
        yield from _retyped(ir, partial(_without_axis, axis=axis))
        for leaf in leaves:
            yield from _with(ir, _without_axis(leaf, axis))


def simpler_attributes(ir: BlueprintIR) -> Candidates:
    """An attribute has its default, or the simplest value of its kind."""
    for node in ir.nodes:
        for attribute in OPERATORS[node.op].attributes:
            value = node.attrs.get(attribute.name)
            simplest = _simplest(value, attribute.choices)
            for simpler in (attribute.default, simplest):
                if simpler is not None and simpler is not REQUIRED and simpler != value:
                    yield from _with(
                        ir, node.replace(attrs=frozen_attrs({**node.attrs, attribute.name: simpler}))
                    )


def plain_dtypes(ir: BlueprintIR) -> Candidates:
    """One dtype is f32 wherever it stands."""
    for dtype in sorted({type.dtype for node in ir.nodes for type in node.types} - {DType.F32}, key=str):
        yield from _mapped(ir, partial(_plain, old=dtype))


def _is_leaf(node: Node) -> bool:
    return isinstance(OPERATORS[node.op].lowering, Leaf)


def _reading(ir: BlueprintIR, replaced: Mapping[Value, Value], without: str) -> BlueprintIR:
    """`ir` after `replaced`, without one node."""
    return ir.replace(
        nodes=[with_operands(node, replaced) for node in ir.nodes if node.name != without],
        outputs=replace_results(ir.outputs, replaced),
        updates=replace_results(ir.updates, replaced),
    )


def _in_bodies(ir: BlueprintIR, family: Callable[[BlueprintIR], Candidates]) -> Candidates:
    """`family` of each body, the inputs of which stay: they are the node's operands."""
    for node in ir.nodes:
        for name, body in node.bodies:
            for candidate in family(body):
                lost = [leaf for leaf in body.inputs if leaf.name not in candidate]
                candidate = candidate.replace(nodes=[*lost, *candidate.nodes])
                if candidate.inputs == body.inputs:
                    yield from _with(ir, node.replace(attrs=frozen_attrs({**node.attrs, name: candidate})))


def _with(ir: BlueprintIR, changed: Node) -> Candidates:
    return _retyped(ir, lambda node: changed if node.name == changed.name else node)


def _retyped(ir: BlueprintIR, change: Callable[[Node], Node]) -> Candidates:
    """`ir` after `change` of each node, with the types that follow, or nothing where none do."""
    nodes: list[Node] = []
    types: dict[Value, TensorType] = {}
    for node in map(change, ir.nodes):
        if not _is_leaf(node):
            try:
                operands = [None if operand is None else types[operand] for operand in node.operands]
                node = node.replace(types=infer_types(OPERATORS[node.op], operands, node.attrs))
            except Exception:  # noqa: BLE001 - the rules are for valid uses; whatever they raise, it is none
                return
        types.update(zip(node.results, node.types, strict=True))
        nodes.append(node)
    yield ir.replace(nodes=nodes)


Part = Size | DType


def _mapped(ir: BlueprintIR, change: Callable[[Part], Part]) -> Candidates:
    """`ir` after `change` of each size and dtype of leaves and attributes, in bodies too."""

    def attribute(value: AttrValue) -> AttrValue:
        if isinstance(value, BlueprintIR):
            return next(_mapped(value, change), value)
        if isinstance(value, tuple):
            return tuple(item if isinstance(item, bool | float | str) else change(item) for item in value)
        return value if isinstance(value, bool | float | str) else change(value)

    def node_after(node: Node) -> Node:
        attrs = frozen_attrs({name: attribute(value) for name, value in node.attrs.items()})
        if not _is_leaf(node):
            return node.replace(attrs=attrs)
        shape = tuple(size for old in node.type.shape if not isinstance(size := change(old), DType))
        dtype = change(node.type.dtype)
        assert isinstance(dtype, DType)
        return node.replace(attrs=attrs, types=(TensorType(dtype, shape),))

    return _retyped(ir, node_after)


def _resized(part: Part, old: Size, new: int) -> Part:
    if isinstance(part, DType):
        return part
    if part == old:
        return new
    return substitute(part, {str(old): new}) if isinstance(part, Dim) else part


def _plain(part: Part, old: DType) -> Part:
    return DType.F32 if part is old else part


def _without_axis(node: Node, axis: int) -> Node:
    if not _is_leaf(node) or node.type.rank <= axis:
        return node
    shape = (*node.type.shape[:axis], *node.type.shape[axis + 1 :])
    return node.replace(types=(node.type.with_shape(shape),))


def _simplest(value: AttrValue | None, choices: tuple[str, ...]) -> AttrValue | None:
    match value:
        case bool():
            return False
        case float():
            return 1.0
        case int() | Dim():
            return 1
        case str() if choices:
            return choices[0]
        case (*items, _):
            return tuple(items)
        case _:
            return None
