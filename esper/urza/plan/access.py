"""How a value is read: through views, down to the buffer that holds it.

Reshapes, permutations and broadcasts move nothing: an `Access` is the base value with a shape and strides
in elements. Only a reshape of something that is not contiguous needs a copy; `with_copies` puts one there.
"""

from __future__ import annotations

from dataclasses import dataclass

from esper.ir.build import Builder
from esper.ir.dims import Size
from esper.ir.graph import BlueprintIR, Node, Value
from esper.ir.operator import OPERATORS, Outside, Reduction, View
from esper.ir.rewrite import rewrite


@dataclass(frozen=True, slots=True)
class Access:
    """Elements of the contiguous buffer of `base`: sizes, and strides in elements (0 where broadcast)."""

    base: Value
    shape: tuple[Size, ...]
    strides: tuple[Size, ...]

    @property
    def is_contiguous(self) -> bool:
        """Whether this is the whole buffer in order; axes of size 1 don't count."""
        expected = row_major(self.shape)
        return all(
            size == 1 or stride == wanted
            for size, stride, wanted in zip(self.shape, self.strides, expected, strict=True)
        )


def row_major(shape: tuple[Size, ...]) -> tuple[Size, ...]:
    """The strides of a contiguous tensor."""
    strides: list[Size] = []
    step: Size = 1
    for size in reversed(shape):
        strides.append(step)
        step = step * size
    return tuple(reversed(strides))


def is_view(node: Node) -> bool:
    return isinstance(OPERATORS[node.op].lowering, View)


def access(ir: BlueprintIR | Builder, value: Value) -> Access | None:
    """How to read `value`; None where a reshape would have to move elements."""
    chain: list[Node] = []
    node = ir.node(value.node)
    while is_view(node):
        chain.append(node)
        (operand,) = node.operands
        assert operand is not None
        value, node = operand, ir.node(operand.node)
    shape = node.types[value.index].shape
    found = Access(value, shape, row_major(shape))
    for view in reversed(chain):
        step = _through(view, found)
        if step is None:
            return None
        found = step
    return found


def _through(view: Node, read: Access) -> Access | None:
    lowering = OPERATORS[view.op].lowering
    assert isinstance(lowering, View)
    shape = view.type.shape
    match lowering.kind:
        case "permute":
            axes = view.attrs["axes"]
            assert isinstance(axes, tuple)
            order = [int(str(axis)) for axis in axes]
            return Access(read.base, shape, tuple(read.strides[axis] for axis in order))
        case "broadcast":
            lead = len(shape) - len(read.shape)
            strides = [
                0 if old == 1 and new != 1 else stride
                for old, new, stride in zip(read.shape, shape[lead:], read.strides, strict=True)
            ]
            return Access(read.base, shape, (*(0 for _ in range(lead)), *strides))
        case _:
            return _reshaped(read, shape)


def _reshaped(read: Access, shape: tuple[Size, ...]) -> Access | None:
    if read.is_contiguous:
        return Access(read.base, shape, row_major(shape))
    kept = [(size, stride) for size, stride in zip(read.shape, read.strides, strict=True) if size != 1]
    if [size for size, _ in kept] != [size for size in shape if size != 1]:
        return None
    strides = iter(stride for _, stride in kept)
    return Access(read.base, shape, tuple(1 if size == 1 else next(strides) for size in shape))


def with_copies(ir: BlueprintIR) -> BlueprintIR:
    """`ir` with a copy (a cast to the same dtype) wherever a kernel could not read through the views.

    Products read contiguous operands; library calls read any view.
    """

    def rule(build: Builder, node: Node) -> Node | None:
        if is_view(node):
            read = access(build, node.operand)
            assert read is not None
            return _copied(build, node) if _through(node, read) is None else None
        return _copied(build, node) if node.op == "matmul" else None

    def _copied(build: Builder, node: Node) -> Node:
        operands = tuple(
            operand
            if operand is None or _is_contiguous(build, operand)
            else build.op("cast", operand, dtype=build.type(operand).dtype)
            for operand in node.operands
        )
        return node.replace(operands=operands)

    return rewrite(ir, rule)


def with_kept_axes(ir: BlueprintIR) -> BlueprintIR:
    """`ir` with reductions of the last axis that keep it, at size 1, and a view that drops it afterwards.

    So the result of such a reduction has a frame in the space of rows that it is computed in.
    """

    def rule(build: Builder, node: Node) -> tuple[Value] | None:
        if not isinstance(OPERATORS[node.op].lowering, Reduction) or node.attrs["keepdims"]:
            return None
        if node.attrs["axes"] != (build.type(node.operand).rank - 1,):
            return None
        kept = build.op(node.op, *node.operands, axes=node.attrs["axes"], keepdims=True)
        return (build.op("reshape", kept, shape=node.type.shape),)

    return rewrite(ir, rule)


def _is_contiguous(build: Builder, value: Value) -> bool:
    found = access(build, value)
    return found is not None and found.is_contiguous


def is_outside(node: Node) -> bool:
    return isinstance(OPERATORS[node.op].lowering, Outside)
