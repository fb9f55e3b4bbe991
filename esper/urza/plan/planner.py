"""The plan: which nodes run together in one kernel.

Nodes are taken in order. A matrix product, a reduction or a library call starts a group; a pointwise node
joins the group of its latest operand if that is legal and profitable; one that reads only what lies in
memory anyway is *virtual*: it is computed again in each group that needs it, and stored only if someone
needs it as a buffer. Sums over rows leave their group as partial sums, which a `finish` group adds up. In
the end `merge` lets groups share kernels that do not depend on each other. Legality and profit
are functions of their own; each refusal is kept, for `esperc explain`.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import partial

from esper.ir.dims import default_size, evaluate_size
from esper.ir.graph import BlueprintIR, Node, Value
from esper.ir.operator import OPERATORS, Leaf, Pointwise, Reduction
from esper.ir.types import DType
from esper.passes import run_passes
from esper.urza.errors import UnsupportedElementType
from esper.urza.plan.access import access, is_view, with_copies, with_kept_axes
from esper.urza.plan.bytes_read import Reads
from esper.urza.plan.concats import with_concats_first
from esper.urza.plan.eligible import why_outside
from esper.urza.plan.fold_uses import KINDS, Along, along, with_folds
from esper.urza.plan.forms import Form, form_of, is_row
from esper.urza.plan.frames import with_frames
from esper.urza.plan.groups import Group, Kind, Plan, Refusal, parts_of
from esper.urza.plan.launches import Refused, Uses
from esper.urza.plan.merge import Merger
from esper.urza.plan.moments import with_one_pass_moments
from esper.urza.plan.outer_products import with_outer_products
from esper.urza.plan.placed import UNREAD, is_placed
from esper.urza.plan.products import inner_slices
from esper.urza.plan.registers import in_registers
from esper.urza.plan.slices import with_slices_first
from esper.urza.plan.space import Space
from esper.urza.plan.window_uses import WEIGHT_GRADIENTS

MAX_CONE = 24
"""The most nodes that are computed again to save a buffer."""


def make_plan(ir: BlueprintIR) -> Plan:
    """Groups the nodes of a forward or backward graph. Raises `UnsupportedElementType` for float64."""
    if not ir.outputs:  # the backward graph of what has no gradient
        return Plan(ir, (), frozenset(), {}, ())
    prepared = run_passes(ir, "expand,decompose,canonicalize,fold,cse,dce")
    prepared = run_passes(with_concats_first(with_slices_first(with_outer_products(prepared))), "cse,dce")
    prepared = run_passes(with_one_pass_moments(prepared, partial(is_row, prepared)), "dce")
    prepared = with_folds(with_kept_axes(prepared), lambda build, node: form_of(build, node) is not None)
    prepared = with_copies(prepared)
    prepared = run_passes(with_frames(prepared, partial(is_row, prepared)), "cse,dce")
    for node in prepared.nodes:
        for type in node.types:
            if type.dtype is DType.F64:
                raise UnsupportedElementType(node=node.name, dtype=type.dtype, span=node.span)
    return _Planner(prepared).run()


class _Planner:
    def __init__(self, ir: BlueprintIR) -> None:
        self.ir = ir
        self.groups: list[Group] = []
        self.started = 0
        self.owners: dict[str, Group] = {}
        self.virtual: set[str] = set()
        self.finishes: dict[Group, Group] = {}
        self.refusals: list[Refused] = []
        self.position = {node.name: position for position, node in enumerate(ir.nodes)}
        self.reads = {node.name: self._bases(node) for node in ir.nodes}
        self.consumers: dict[str, list[Node]] = {node.name: [] for node in ir.nodes}
        for node in ir.nodes:
            if not is_view(node):
                for base in self.reads[node.name]:
                    self.consumers[base.node].append(node)
        self.kept = set(map(self._base, ir.results))
        self.sizes = {name: default_size(name) for name in ir.symbols}

    def run(self) -> Plan:
        for node in self.ir.nodes:
            lowering = OPERATORS[node.op].lowering
            if isinstance(lowering, Leaf) or is_view(node):
                continue
            if node.op == "matmul":
                self._product(node)
            elif isinstance(lowering, Reduction):
                self._reduction(node)
            elif isinstance(lowering, Pointwise):
                self._pointwise(node)
            elif is_placed(self.ir, node):
                self._placed(node)
            elif node.op in KINDS:
                self._fold(node)
            else:
                self._whole(node)
        for value in sorted(self.kept, key=lambda value: self.position[value.node]):
            self._materialise(value.node)
        for group in parts_of(self.groups):
            group.nodes.sort(key=lambda node: self.position[node.name])
        uses = Uses(self.ir, self.reads, self.consumers, self.owners, self.kept, self.position)
        merger = Merger(uses, self.groups)
        launches = merger.run()
        refusals = [*self.refusals, *merger.refusals]
        named = (Refusal(one.node, _name(merger, one.group), one.reason) for one in refusals)
        return Plan(self.ir, tuple(launches), merger.stored(), self.owners, tuple(dict.fromkeys(named)))

    # --- starting groups ---

    def _group(self, kind: Kind, space: Space) -> Group:
        group = Group(self.started, kind, space)
        self.started += 1
        self.groups.append(group)
        return group

    def _outside(self, node: Node) -> None:
        for base in self.reads[node.name]:
            self._materialise(base.node)
        group = self._group("outside", Space(node.type.shape))
        group.nodes.append(node)
        self.owners[node.name] = group

    def _whole(self, node: Node) -> None:
        """A node with its own template, or a library call."""
        reason = why_outside(self.ir, node)
        if reason is not None:
            self.refusals.append(Refused(node.name, None, reason))
            self._outside(node)
            return
        for base in self.reads[node.name]:
            self._materialise(base.node)
        group = self._group("template", Space(node.type.shape))
        group.along = along(self.ir, node) if "axis" in node.attrs else None
        if node.op in WEIGHT_GRADIENTS:
            group.sums.append(node)
            self._finish(node, group)
        else:
            group.nodes.append(node)
            self.owners[node.name] = group

    def _product(self, node: Node) -> None:
        for base in self.reads[node.name]:
            self._materialise(base.node)
        group = self._group("product", Space(node.type.shape))
        group.nodes.append(node)
        group.accumulated.append(node)
        group.slices = inner_slices(self.ir, node)
        self.owners[node.name] = group
        if group.shares_inner:
            self._finish(node, group)

    def _reduction(self, node: Node) -> None:
        form = form_of(self.ir, node)
        if form is None:
            self._fold(node)
            return
        group = self._home(node, form) if self._is_aligned(node) else None
        if group is None:
            group = self._opened("tile", node)
        if form.rows:
            group.reduces_rows = True
        if form.channel is None:
            group.split = form.split
        else:
            group.channel = form.channel
        if form.rows:
            group.nodes.append(node)
            self.owners[node.name] = group
            return
        group.sums.append(node)
        self._finish(node, group)

    def _opened(self, kind: Kind, node: Node) -> Group:
        """A group over the operand of a reduction, which it computes, or reads where others left it."""
        (base,) = self.reads[node.name]
        group = Group(self.started, kind, Space(self.ir.type(node.operand).shape))
        if self._is_aligned(node):
            self._settle(base.node, group.space)
        group.index = self.started
        if not self._is_aligned(node) or not self._pull(base.node, group):
            self._materialise(base.node)
            group.index = self.started
        self.started += 1
        self.groups.append(group)
        return group

    def _fold(self, node: Node) -> None:
        """A reduction along axes side by side; those of one operand shape share a kernel."""
        axes = along(self.ir, node)
        group = self._fold_home(node, axes)
        if group is None:
            group = self._opened("fold", node)
            group.along = axes
            stays = Space.squeeze(node.type.shape)
            outer = len([size for size in node.type.shape[: axes[0]] if size != 1])
            group.whole = Group(group.index, "finish", stays, along=(outer, outer))
        assert group.whole is not None
        group.sums.append(node)
        group.whole.totals.append(node)
        self.owners[node.name] = group.whole

    def _fold_home(self, node: Node, axes: Along) -> Group | None:
        """The latest fold that the reduction may join."""
        (base,) = self.reads[node.name]
        space = Space(self.ir.type(node.operand).shape)
        aligned = self._is_aligned(node)
        if not aligned and base.node in self.virtual:
            return None
        for group in reversed(self.groups):
            if group.kind != "fold" or group.along != axes or group.space != space:
                continue
            if (aligned and base.node in group) or (base.node not in group and self._pull(base.node, group)):
                return group
        return None

    def _finish(self, node: Node, group: Group) -> None:
        """The group that adds up the partial sums of `node`, which `group` writes."""
        if group not in self.finishes:
            self.finishes[group] = self._group("finish", Space.squeeze(node.type.shape))
        self.finishes[group].totals.append(node)
        self.owners[node.name] = self.finishes[group]

    def _home(self, node: Node, form: Form) -> Group | None:
        """The tile group that the reduction may join with the fewest bytes to read besides.

        The earliest of these: of several that compute a value, that one may store it for the others.
        """
        (base,) = self.reads[node.name]
        space = Space(self.ir.type(node.operand).shape)
        homes: list[tuple[int, Group]] = []
        for group in self.groups:
            if group.kind == "tile" and group.space == space and form.fits(group):
                wanted = self._wanted(base.node, group)
                if wanted is not None:
                    homes.append((self._read_besides(wanted, group), group))
        if not homes:
            return None
        _, home = min(homes, key=lambda found: found[0])
        self._pull(base.node, home)
        return home

    def _read_besides(self, nodes: Collection[Node], group: Group) -> int:
        """Bytes, at default sizes, that `group` does not read yet and would for `nodes`."""
        reads = Reads(self.ir, lambda type: evaluate_size(type.bytes, self.sizes))
        reads.add([*group.nodes, *group.sums], group.__contains__)
        before = sum(reads.bytes().values())
        names = {node.name for node in nodes}
        reads.add(nodes, lambda name: name in names or name in group)
        return sum(reads.bytes().values()) - before

    def _is_aligned(self, node: Node) -> bool:
        """Whether a reduction reads its operand in the shape it was computed in, up to axes of size 1."""
        (operand,) = node.operands
        assert operand is not None
        read = access(self.ir, operand)
        assert read is not None
        space = Space(read.shape)
        return read.is_contiguous and space.frame(self.ir.type(read.base).shape) == space.frame(read.shape)

    # --- nodes that move elements ---

    def _placed(self, node: Node) -> None:
        """Its elements are loads from what its operands left in memory, in each group that needs them."""
        for base in self.reads[node.name]:
            self._materialise(base.node)
        self.virtual.add(node.name)

    # --- pointwise nodes ---

    def _pointwise(self, node: Node) -> None:
        owners = [self.owners[base.node] for base in self.reads[node.name] if self._must_load(base.node)]
        latest = max(owners, key=lambda group: group.index, default=None)
        if latest is not None and latest.kind not in ("outside", "template"):
            reason = self._illegal(latest, node) or self._unprofitable(latest, node)
            if reason is None and self._pull(node.name, latest, joining=True):
                self.owners[node.name] = latest
                return
            self.refusals.append(Refused(node.name, latest, reason or "an operand is read in another shape"))
        self.virtual.add(node.name)
        if len(self._cone(node.name)) > MAX_CONE:
            self._materialise(node.name)

    def _illegal(self, group: Group, node: Node) -> str | None:
        """Why `node` cannot be computed in `group`, or None."""
        frame = group.space.frame(node.type.shape)
        if frame is None:
            return f"its shape does not fit the kernel's [{', '.join(map(str, group.space.shape))}]"
        if not self._storable(group, node):
            return "each program would compute, and store, all of it"
        return None

    def _unprofitable(self, group: Group, node: Node) -> str | None:
        """Why `node` should not be computed in `group`, or None."""
        if group.kind != "product" or not self._reaches_reduction(node):
            return None
        for base in self.reads[node.name]:
            if self.owners.get(base.node) is group:
                if len(self.consumers[base.node]) > 1 or base in self.kept:
                    return "a reduction reads the product again anyway"
                if node.type.bytes != self.ir.type(base).bytes:
                    return "storing it widened would cost more than the reduction's own conversion"
        return None

    def _storable(self, group: Group, node: Node) -> bool:
        """Whether each element of `node` belongs to one program of `group`."""
        frame = group.space.frame(node.type.shape)
        if frame is None:
            return False
        if group.kind == "tile" and group.reduces_rows and frame[:-1] == group.space.shape[:-1]:
            return True
        return group.space.full(frame)

    def _reaches_reduction(self, node: Node) -> bool:
        stack, seen = [node], {node.name}
        while stack:
            for consumer in self.consumers[stack.pop().name]:
                if isinstance(OPERATORS[consumer.op].lowering, Reduction):
                    return True
                if isinstance(OPERATORS[consumer.op].lowering, Pointwise) and consumer.name not in seen:
                    seen.add(consumer.name)
                    stack.append(consumer)
        return False

    # --- where values are ---

    def _must_load(self, name: str) -> bool:
        """Whether `name` is computed by some group and is not virtual."""
        return name in self.owners and name not in self.virtual

    def _cone(self, name: str) -> set[str]:
        """The virtual nodes that computing `name` again means, itself included."""
        found: set[str] = set()
        stack = [name]
        while stack:
            current = stack.pop()
            if current in found:
                continue
            found.add(current)
            if not is_placed(self.ir, self.ir.node(current)):
                stack += [base.node for base in self.reads[current] if base.node in self.virtual]
        return found

    def _pull(self, name: str, group: Group, joining: bool = False) -> bool:
        """Adds `name`, with the virtual nodes it needs, to `group`; False, and nothing done, if it cannot."""
        wanted = self._wanted(name, group, joining)
        if wanted is None:
            return False
        group.nodes += wanted
        for pulled in wanted:
            if pulled.name not in self.owners and self._storable(group, pulled):
                self.owners[pulled.name] = group
        return True

    def _wanted(self, name: str, group: Group, joining: bool = False) -> Collection[Node] | None:
        """What `group` lacks to compute `name`: it and the virtual nodes it needs; None if it cannot be.

        What is neither virtual nor in the group is loaded, so an earlier group must have computed it.
        """
        wanted: dict[str, Node] = {}
        stack = [name]
        while stack:
            current = stack.pop()
            if current in group or current in wanted:
                continue
            if current not in self.virtual and not (joining and current == name):
                owner = self.owners.get(current)
                if owner is not None and owner.index >= group.index:
                    return None
                continue
            node = self.ir.node(current)
            if not self._fits(group, node):
                return None
            wanted[current] = node
            if not is_placed(self.ir, node):
                stack += [base.node for base in self.reads[current]]
        return wanted.values()

    def _fits(self, group: Group, node: Node) -> bool:
        """Whether the group has frames for all that `node` reads, and registers are read in their own."""
        if group.space.frame(node.type.shape) is None:
            return False
        if is_placed(self.ir, node):
            owners = [self.owners.get(base.node) for base in self.reads[node.name]]
            return all(owner is None or owner.index < group.index for owner in owners)
        for operand in node.operands:
            if operand is None:
                continue
            base = self._base(operand)
            if base.node in self.virtual or base.node in group:
                if not in_registers(self.ir, operand, group.space):
                    return False
            elif group.space.frame(self.ir.type(operand).shape) is None:
                return False
        return True

    def _materialise(self, name: str) -> None:
        """Makes sure that some group computes and owns `name`."""
        node = self.ir.node(name)
        if name in self.owners or isinstance(OPERATORS[node.op].lowering, Leaf):
            return
        assert name in self.virtual, name
        if (source := self._source_of_parts(node)) is not None:
            source.joined.append(node)
            self.owners[name] = source
            return
        for group in reversed(self.groups):
            fits = group.kind in ("tile", "fold") and self._storable(group, node)
            if fits and self._shares_a_read(name, group) and self._pull(name, group) and name in self.owners:
                return
        self._settle(name, Space(node.type.shape))
        group = Group(self.started, "tile", Space(node.type.shape))
        if not self._pull(name, group):
            group.nodes.append(node)
        self.started += 1
        self.groups.append(group)
        self.owners[name] = group

    def _source_of_parts(self, node: Node) -> Group | None:
        """The group that holds all operands of a concatenation, and can store them side by side."""
        if node.op != "concat":
            return None
        owners = {self.owners.get(base.node) for base in self.reads[node.name]}
        (source,) = owners if len(owners) == 1 else (None,)
        if source is None or source.kind not in ("tile", "finish", "product"):
            return None
        for operand in node.operands:
            assert operand is not None
            frame = source.space.frame(self.ir.type(operand).shape)
            if frame is None or not source.space.full(frame) or self._base(operand).node not in source:
                return None
            if not in_registers(self.ir, operand, source.space):
                return None
        return source

    def _settle(self, name: str, space: Space) -> None:
        """Materialises the virtual values that computing `name` in `space` would read in another frame.

        What these are made of is no matter of this space: their own kernels compute it.
        """
        stack, seen = [name], {name}
        while stack:
            node = self.ir.node(stack.pop())
            if is_placed(self.ir, node):
                continue
            for operand in node.operands:
                base = None if operand is None else self._base(operand)
                if operand is None or base is None or base.node not in self.virtual or base.node in seen:
                    continue
                if in_registers(self.ir, operand, space):
                    seen.add(base.node)
                    stack.append(base.node)
                else:
                    self._materialise(base.node)
                    self.virtual.discard(base.node)

    def _shares_a_read(self, name: str, group: Group) -> bool:
        loads = {base for node in group.nodes + group.sums for base in self.reads[node.name]}
        cone = {base for member in self._cone(name) for base in self.reads[member]}
        return bool(loads & cone)

    def _base(self, value: Value) -> Value:
        found = access(self.ir, value)
        assert found is not None
        return found.base

    def _bases(self, node: Node) -> tuple[Value, ...]:
        if node.op in UNREAD:
            return ()
        return tuple(dict.fromkeys(self._base(operand) for operand in node.operands if operand is not None))


def _name(merger: Merger, group: Group | None) -> str:
    return "kernels" if group is None else merger.launch_of(group).name
