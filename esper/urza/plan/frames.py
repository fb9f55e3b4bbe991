"""In which shape a value is computed: rewrites that keep views out of the way of registers.

A kernel reads what it computes itself element by element, in the shape of its space. What it would read in
another shape has to be stored first. Two rewrites avoid that, where `view` is a reshape or a permutation:

    view(f(a, b))   ->  f(view(a), view(b))        down to what lies in memory anyway, which any view can read
    f(join(a), b)   ->  join(f(a, split(b)))       for a reshape that joins axes of what a kernel computes

The first computes `f` again in the kernel that reads it, and only where `f` need not be stored for another
reason, nor is for nothing at the end of a product or a reduction. By the second a kernel goes on in the finer
shape, in which each operand has a view; a sum is taken over all parts of an axis. Rows that a kernel reduces
stay whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from esper.ir.build import Builder
from esper.ir.dims import Size, product
from esper.ir.graph import BlueprintIR, Node, Value
from esper.ir.operator import OPERATORS, AttrValue, Pointwise, Reduction, View
from esper.ir.rewrite import rewrite
from esper.ops.axes import integers_of
from esper.urza.plan.access import access, is_view
from esper.urza.plan.placed import is_placed
from esper.urza.plan.registers import in_registers
from esper.urza.plan.space import Space

MOST_READ = 2
"""The most tensors of its size that a value is computed from again; with more it is better stored."""

Shape = tuple[Size, ...]


def with_frames(ir: BlueprintIR, is_row: Callable[[Node], bool]) -> BlueprintIR:
    """`ir` with values in the shapes in which they are read. What nothing reads any more stays.

    is_row: whether a reduction is of rows that a kernel keeps in registers.
    """
    rows = frozenset(node.name for node in ir.nodes if _is_reduction(node) and is_row(node))
    return rewrite(ir, _Frames(ir, rows).rule)


class _Move(Protocol):
    """A view, and what it means for operands that broadcast to the shape it is of."""

    def shape(self, shape: Shape) -> Shape | None:
        """The shape of the view of such an operand; None where that is no view of it."""

    def apply(self, build: Builder, value: Value) -> Value: ...


@dataclass(frozen=True)
class _Permute:
    axes: tuple[int, ...]

    def shape(self, shape: Shape) -> Shape | None:
        padded = _padded(shape, len(self.axes))
        return tuple(padded[axis] for axis in self.axes)

    def apply(self, build: Builder, value: Value) -> Value:
        padded = _padded(build.type(value).shape, len(self.axes))
        return build.op("permute", _reshape(build, value, padded), axes=self.axes)


@dataclass(frozen=True)
class _Reshape:
    """groups: axes that become axes, as few at a time as can be: sizes before, and sizes after."""

    groups: tuple[tuple[Shape, Shape], ...]

    def shape(self, shape: Shape) -> Shape | None:
        padded = _padded(shape, sum(len(before) for before, _ in self.groups))
        found: Shape = ()
        start = 0
        for before, after in self.groups:
            own = padded[start : start + len(before)]
            start += len(before)
            if own != before and any(size != 1 for size in own):
                return None
            found += after if own == before else (1,) * len(after)
        return found

    def apply(self, build: Builder, value: Value) -> Value:
        found = self.shape(build.type(value).shape)
        assert found is not None
        return _reshape(build, value, found)


@dataclass
class _Frames:
    """All by the names of nodes.

    rows: reductions of rows. free: what may be computed again where it is read, what rewrites make included.
    before_rows: what a reduction of rows reads, be it by way of others.
    """

    ir: BlueprintIR
    rows: frozenset[str]
    free: set[str] = field(default_factory=set)
    before_rows: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        kept = {self._base(value.node) for value in self.ir.results}
        for node in reversed(self.ir.nodes):
            users = self.ir.users(node.name)
            if any(self._leads_to_rows(user) for user in users):
                self.before_rows.add(node.name)
            if _is_pointwise(node) and node.name not in kept and all(self._may_compute(u) for u in users):
                self.free.add(node.name)
        bound: set[str] = set()
        reads: dict[str, frozenset[Value]] = {}
        for node in self.ir.nodes:
            self._look_at_operands(node, bound, reads)

    def _base(self, name: str) -> str:
        node = self.ir.node(name)
        while is_view(node):
            node = self.ir.node(node.operand.node)
        return node.name

    def _leads_to_rows(self, user: Node) -> bool:
        passes = is_view(user) or _is_pointwise(user)
        return user.name in self.rows or (passes and user.name in self.before_rows)

    def _may_compute(self, user: Node) -> bool:
        """Whether a reader can compute what it reads; views are read in their turn."""
        if is_view(user):
            return all(self._may_compute(other) for other in self.ir.users(user.name))
        return isinstance(OPERATORS[user.op].lowering, Pointwise | Reduction)

    def _look_at_operands(self, node: Node, bound: set[str], reads: dict[str, frozenset[Value]]) -> None:
        """Takes from `free` what is computed at the end of another kernel, or of many tensors.

        bound: what products, reductions and moves make, and what is made of that in its own size.
        """
        if node.op == "matmul" or _is_reduction(node) or is_placed(self.ir, node):
            bound.add(node.name)
            return
        if not _is_pointwise(node):
            return
        own: frozenset[Value] = frozenset()
        for operand in node.operands:
            if operand is None:
                continue
            source = self.ir.node(self._base(operand.node))
            same_size = source.type.elements == node.type.elements
            if source.name in self.rows or (source.name in bound and same_size):
                bound.add(node.name)
            if same_size:
                own |= reads.get(source.name, frozenset({source.result()}))
        if node.name in bound or len(own) > MOST_READ:
            self.free.discard(node.name)
        if node.name in self.free:
            reads[node.name] = own

    # --- the rewrites ---

    def rule(self, build: Builder, node: Node) -> Sequence[Value] | Node | None:
        if node.name in self.rows or not (
            _is_pointwise(node) or (_is_reduction(node) and "axes" in node.attrs)
        ):
            return None
        space = self._space(build, node)
        operands = tuple(None if one is None else self._near(build, one, space) for one in node.operands)
        node = node if operands == node.operands else node.replace(operands=operands)
        return self._finer(build, node, space) or node

    def _space(self, build: Builder, node: Node) -> Shape:
        return build.type(node.operand).shape if "axes" in node.attrs else node.type.shape

    def _near(self, build: Builder, value: Value, shape: Shape) -> Value:
        """`value`, a view of something that is computed in another frame, computed in that of `shape`."""
        views, base = _views(build, value)
        if not views or base.node not in self.free or in_registers(build, value, Space(shape)):
            return value
        found: Value | None = base
        for view in reversed(views):
            move = _move(build, view)
            if found is not None and move is not None:
                found = self._moved(build, found, move)
            elif found is not None:
                found = _again(build, view, [found])
        return value if found is None else found

    def _moved(self, build: Builder, value: Value, move: _Move) -> Value | None:
        """The view of `value` that `move` means, as far up as it goes; None where there is none."""
        node, own = build.node(value.node), build.type(value).shape
        shape = move.shape(own)
        if shape is None or not own:
            return None if own else value
        if isinstance(move, _Reshape) and (before := _before_reshapes(build, value, shape)) is not None:
            return before
        inner = _move(build, node) if is_view(node) else None
        if is_view(node) and inner is None:
            found = self._moved(build, node.operand, move)
            return None if found is None else build.op(node.op, found, shape=shape)
        if inner is not None and _views(build, value)[1].node in self.free:
            found = self._moved(build, node.operand, inner)
            return None if found is None else self._moved(build, found, move)
        if node.name not in self.free:
            found = move.apply(build, value)
            return found if access(build, found) is not None else None
        operands = self._all_moved(build, node, move)
        found = None if operands is None else _again(build, node, operands)
        if found is None or build.type(found).shape != shape:
            return None
        self.free.add(found.node)
        return found

    def _all_moved(self, build: Builder, node: Node, move: _Move) -> list[Value | None] | None:
        """The views of all operands of `node`; None if one has none."""
        operands: list[Value | None] = []
        for operand in node.operands:
            moved = None if operand is None else self._moved(build, operand, move)
            if moved is None and operand is not None:
                return None
            operands.append(moved)
        return operands

    def _finer(self, build: Builder, node: Node, space: Shape) -> Sequence[Value] | None:
        """`node` in the shape of an operand whose axes it reads joined, and then joined itself."""
        if node.name in self.before_rows:
            return None
        splits = (self._split(build, operand, space) for operand in node.operands)
        split = next((one for one in splits if one is not None), None)
        operands = None if split is None else self._all_moved(build, node, split)
        if split is None or operands is None:
            return None
        if "axes" in node.attrs:
            axes = _axes_after(split, integers_of(node.attrs["axes"]), len(space))
            found = _again(build, node, operands, axes=axes, keepdims=True)
        else:
            found = _again(build, node, operands)
            if build.type(found).shape != split.shape(space):
                return None
        if node.name in self.free:
            self.free.add(found.node)
        return [build.op("reshape", found, shape=node.type.shape)]

    def _split(self, build: Builder, value: Value | None, space: Shape) -> _Reshape | None:
        """The split of `space` into the axes of what `value` joins, if a generated kernel computes that."""
        if value is None or build.type(value).shape != space:
            return None
        views, base = _views(build, value)
        joins = bool(views) and all(isinstance(_move(build, view), _Reshape) for view in views)
        if not joins or not isinstance(OPERATORS[build.node(base.node).op].lowering, Pointwise | Reduction):
            return None
        groups = _groups(space, build.type(base).shape)
        wide = [[[size for size in one if size != 1] for one in group] for group in groups]
        if any(len(before) > 1 for before, _ in wide) or all(len(after) < 2 for _, after in wide):
            return None
        return _Reshape(groups)


def _again(build: Builder, node: Node, operands: Sequence[Value | None], **attrs: AttrValue) -> Value:
    """The result of a node like `node` over other operands."""
    return build.ops(node.op, *operands, name=None, span=node.span, **{**node.attrs, **attrs})[0]


def _is_pointwise(node: Node) -> bool:
    lowering = OPERATORS[node.op].lowering
    return isinstance(lowering, Pointwise) and bool(node.operands) and not lowering.depends_on_place


def _is_reduction(node: Node) -> bool:
    return isinstance(OPERATORS[node.op].lowering, Reduction)


def _views(build: Builder, value: Value) -> tuple[list[Node], Value]:
    """The views that `value` is made by, the last first, and what they are of."""
    views: list[Node] = []
    while is_view(node := build.node(value.node)):
        views.append(node)
        value = node.operand
    return views, value


def _move(build: Builder, view: Node) -> _Permute | _Reshape | None:
    """What a view does to elements; None for a broadcast, which has no place for each."""
    lowering = OPERATORS[view.op].lowering
    assert isinstance(lowering, View)
    if lowering.kind == "broadcast":
        return None
    if lowering.kind == "permute":
        return _Permute(integers_of(view.attrs["axes"]))
    return _Reshape(_groups(build.type(view.operand).shape, view.type.shape))


def _groups(before: Shape, after: Shape) -> tuple[tuple[Shape, Shape], ...]:
    """Axes of two shapes with equally many elements, matched as few at a time as can be."""
    groups: list[tuple[Shape, Shape]] = []
    i = j = 0
    while i < len(before) or j < len(after):
        if i < len(before) and before[i] == 1 and not (j < len(after) and after[j] == 1):
            counts = (1, 0)
        elif j < len(after) and after[j] == 1 and not (i < len(before) and before[i] == 1):
            counts = (0, 1)
        else:
            counts = min(
                (
                    (m, n)
                    for m in range(1, len(before) - i + 1)
                    for n in range(1, len(after) - j + 1)
                    if product(before[i : i + m]) == product(after[j : j + n])
                ),
                key=sum,
            )
        groups.append((before[i : i + counts[0]], after[j : j + counts[1]]))
        i, j = i + counts[0], j + counts[1]
    return tuple(groups)


def _axes_after(split: _Reshape, axes: tuple[int, ...], rank: int) -> tuple[int, ...]:
    """The axes that `axes` of the shape before become."""
    wanted = {axis % rank for axis in axes}
    found: list[int] = []
    first = place = 0
    for before, after in split.groups:
        if wanted.intersection(range(first, first + len(before))):
            found += range(place, place + len(after))
        first, place = first + len(before), place + len(after)
    return tuple(found)


def _padded(shape: Shape, rank: int) -> Shape:
    return (1,) * (rank - len(shape)) + shape


def _reshape(build: Builder, value: Value, shape: Shape) -> Value:
    """`value` in another shape: itself, or what it was reshaped from, where that has it."""
    before = _before_reshapes(build, value, shape)
    return build.op("reshape", value, shape=shape) if before is None else before


def _before_reshapes(build: Builder, value: Value, shape: Shape) -> Value | None:
    """`value`, or what it was reshaped from, if that has this shape."""
    if build.type(value).shape == shape:
        return value
    views, base = _views(build, value)
    joins = all(isinstance(_move(build, view), _Reshape) for view in views)
    return base if joins and build.type(base).shape == shape else None
