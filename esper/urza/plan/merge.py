"""Sharing kernels: what the planner grouped along the flow of values may also be merged across it.

Six rules, in this order. Products whose results are only added become terms of one product. The sum of a
product's factor along its inner dimension (the gradient of a bias) is taken from the product's own tiles.
A pointwise or row kernel joins another over the same space that reads the same tensor. What needs a fold and
goes along the same axes becomes a pass of it (`fold_passes`). Products that share a factor stand
side by side in one launch. Totals of partial sums wait until something needs one of them, and are finished
together, beside a map that runs by then if there is one. Groups may share a kernel where neither needs what
the other makes, be it by way of others; whether they should is asked apart, and each refusal is kept.
"""

from __future__ import annotations

from collections.abc import Sequence

from esper.ir.graph import BlueprintIR, Node, Value
from esper.urza.plan.access import access
from esper.urza.plan.fold_passes import FoldPasses
from esper.urza.plan.groups import Group
from esper.urza.plan.launches import NEEDED
from esper.urza.plan.placed import is_placed
from esper.urza.plan.products import product_sizes, shared_slices
from esper.urza.plan.registers import in_registers
from esper.urza.plan.space import Space
from esper.urza.plan.store_once import store_once

MOST_TENSORS = 12
"""The most tensors of its whole space that a kernel reads and writes after it was merged with another."""


class Merger(FoldPasses):
    """Merges launches, groups in the order in which they may run, in place."""

    def run(self) -> list[Group]:
        """The launches in the order in which they run, numbered."""
        self._add_up_products()
        self._sum_factors()
        self._merge_tiles()
        self.follow_folds()
        store_once(self)
        self._put_products_side_by_side()
        ordered = self._ordered()
        for index, launch in enumerate(ordered):
            for group in (launch, *launch.parts):
                group.index = index
        return ordered

    # --- terms of one product ---

    def _add_up_products(self) -> None:
        for launch in list(self.launches):
            while launch.kind == "product" and (found := self._term(launch)) is not None:
                total, other = found
                launch.accumulated[:] = [*other.accumulated, *launch.accumulated, total]
                self.take(other, launch)

    def _term(self, launch: Group) -> tuple[Node, Group] | None:
        """The node that adds another product to this one, and that product's group."""
        held = launch.accumulated[-1]
        for node in launch.nodes:
            if node.op != "add" or held.result() not in node.operands:
                continue
            for value in node.operands:
                owner = None if value is None else self.uses.owners.get(value.node)
                if value is None or owner is None or owner is launch or owner.kind != "product":
                    continue
                reason = self._no_term(launch, owner, node, value)
                if reason is None:
                    return node, owner
                self.refuse(node, owner, reason)
        return None

    def _no_term(self, launch: Group, other: Group, total: Node, value: Value) -> str | None:
        """Why the products of two groups that `total` adds up cannot share an accumulator, or None."""
        held, ir = launch.accumulated[-1], self.uses.ir
        if value != other.accumulated[-1].result() or len(other.nodes) > len(other.accumulated):
            return "more is done to the product before it is added"
        if not (total.type == held.type == ir.type(value)):
            return "the sum has another type or shape"
        if any(
            len(self.uses.consumers[one]) > 1 or Value(one) in self.uses.kept
            for one in (held.name, value.node)
        ):
            return "others read the product"
        mine, others = launch.products[0], other.products[0]
        if _form(ir, mine) != _form(ir, others) or launch.shares_inner or other.shares_inner:
            return "the products are read or split in different ways"
        return None

    # --- sums of a product's factor ---

    def _sum_factors(self) -> None:
        for group in list(self.launches):
            if self._is_pile(group):
                self._take_apart(group)
        for group in list(self.launches):
            if group.kind != "tile" or not group.sums or group.channel is not None:
                continue
            found = [(node, self._product_that_reads(node)) for node in group.sums]
            if not any(products for _, products in found):
                continue
            reason = "its kernel adds up others anyway" if group.reduces_rows or len(found) > 1 else None
            ((node, products), *_) = found
            finish = self.uses.owners[node.name]
            free = [one for one in products if self._before_finish(one, finish)]
            if reason is None and not free:
                reason = NEEDED
            if reason is not None:
                for node, products in found:
                    for product in products[:1]:
                        self.refuse(node, product, reason)
                continue
            self._move_sum(node, group, free[0], finish)

    def _is_pile(self, group: Group) -> bool:
        """Whether sums have nothing but a space in common, and products that read each."""
        if group.kind != "tile" or group.nodes or group.reduces_rows or group.channel is not None:
            return False
        reads = [self.reads(group, [node]) for node in group.sums]
        return (
            len(set[Value]().union(*reads)) == len(reads)
            and not any(self.uses.owners[node.name].nodes for node in group.sums)
            and all(self._product_that_reads(node) for node in group.sums)
        )

    def _take_apart(self, group: Group) -> None:
        """Gives all sums of a group but the first groups of their own, and so their totals."""
        for node in group.sums[1:]:
            finish = self.uses.owners[node.name]
            apart = Group(group.index, "tile", group.space, split=group.split, sums=[node])
            total = Group(finish.index, "finish", Space.squeeze(node.type.shape), totals=[node])
            group.sums.remove(node)
            finish.totals.remove(node)
            self.uses.owners[node.name] = total
            self.launches.insert(self.launches.index(group) + 1, apart)
            self.launches.insert(self.launches.index(finish) + 1, total)
            self.writes(apart, [node])

    def _product_that_reads(self, node: Node) -> list[Group]:
        """The products with a free factor whose sum along the inner dimension `node` is."""
        return [group for group in self.launches if self._summed_factor(group, node) and not group.sums]

    def _summed_factor(self, group: Group, node: Node) -> str:
        """Which factor of a product `node` sums along the inner dimension: "a", "b", or "" for none."""
        if group.kind != "product" or len(group.products) != 1:
            return ""
        (product,), (summed,) = group.products, node.operands
        batch, m, n, _ = product_sizes(self.uses.ir, product)
        a, b = product.operands
        width = node.type.elements
        if batch or summed is None or a is None or b is None:
            return ""
        bases = [_whole(self.uses.ir, value) for value in (a, b, summed)]
        if bases[2] is None:
            return ""
        if bases[0] == bases[2] and product.attrs["transpose_a"] and width == m:
            return "a"
        return "b" if bases[1] == bases[2] and not product.attrs["transpose_b"] and width == n else ""

    def _before_finish(self, product: Group, finish: Group) -> bool:
        """Whether a product can run before a group that finishes sums."""
        return self.launch_of(finish) not in self.all_before(product)

    def _move_sum(self, node: Node, group: Group, product: Group, finish: Group) -> None:
        factor = self._summed_factor(product, node)
        product.sum_of = "a" if factor == "a" else "b"
        group.sums.remove(node)
        product.sums.append(node)
        group.split = None
        self.writes(product, [node])
        self._prune(group)
        if not product.shares_inner and product not in self.all_before(product) | self.needs(finish) - {
            product
        }:
            product.whole = finish
            self.moved(finish, product)

    def _prune(self, group: Group) -> None:
        """Leaves out of a group what nobody needs of it, or the group."""
        group.nodes = self.needed(group, self.stored())
        if not group.nodes:
            self.launches.remove(group)

    # --- kernels over one space ---

    def _merge_tiles(self) -> None:
        for guest in list(self.launches):
            if guest.kind != "tile":
                continue
            hosts = [(len(self._shared(guest, host)), host) for host in self.launches if host is not guest]
            for shared, host in sorted(hosts, key=lambda pair: -pair[0]):
                if not shared:
                    break
                reason = self._illegal(guest, host) or self._unprofitable(guest, host)
                if reason is None:
                    _widen(host, guest)
                    self.take(guest, host)
                    break
                self.refuse((guest.sums + guest.nodes)[-1], host, reason)

    def _whole_reads(self, group: Group) -> set[Value]:
        """The tensors of its whole space that a group reads element by element.

        Of a node that moves elements its result counts: two that read the same places read the same.
        """
        nodes = [node for node in [*group.nodes, *group.sums] if node not in group.accumulated]
        moves = [node for node in nodes if is_placed(self.uses.ir, node)]
        found = {node.result() for node in moves} | self.reads(group, [n for n in nodes if n not in moves])
        frames = ((base, group.space.frame(self.uses.ir.type(base).shape)) for base in found)
        return {base for base, frame in frames if frame is not None and group.space.full(frame)}

    def _shared(self, guest: Group, host: Group) -> set[Value]:
        if host.kind not in ("tile", "product") or host.space != guest.space:
            return set()
        return self._whole_reads(guest) & self._whole_reads(host)

    def _illegal(self, guest: Group, host: Group) -> str | None:
        """Why two groups over one space cannot be one kernel, or None."""
        if host.kind == "product" and (guest.sums or guest.reduces_rows):
            return "a program of the product has no whole rows"
        if host.shares_inner:
            return "a program of the product has a part of each sum"
        if not _same_axes(guest, host):
            return "they reduce along different axes"
        if not self._read_alike(guest, host):
            return "one reads in another shape what the other computes too"
        return None if self.apart(guest, host) else NEEDED

    def _read_alike(self, guest: Group, host: Group) -> bool:
        """Whether what both compute together is read in the frame in which it is computed."""
        ir = self.uses.ir
        operands = (
            operand
            for group in (guest, host)
            for node in [*group.nodes, *group.sums]
            if node not in group.products and not is_placed(ir, node)
            for operand in node.operands
            if operand is not None
        )
        computed = {node.name for node in [*guest.nodes, *host.nodes]}
        return all(
            in_registers(ir, operand, host.space)
            for operand in operands
            if (found := access(ir, operand)) is not None and found.base.node in computed
        )

    def _unprofitable(self, guest: Group, host: Group) -> str | None:
        """Why two groups over one space should not be one kernel, or None."""
        reads = self._whole_reads(guest) | self._whole_reads(host)
        if host.kind == "product" and reads != self._whole_reads(host):
            return "the product's epilogue would wait for what only this reads"
        stored = self.stored()
        writes = {
            value
            for group in (guest, host)
            for node in group.nodes
            if self.uses.owners.get(node.name) is group
            for value in node.results
            if value in stored
        }
        if len(reads) + len(writes) > MOST_TENSORS:
            return f"it would hold {len(reads) + len(writes)} tensors at once, above {MOST_TENSORS}"
        return None

    # --- products side by side ---

    def _put_products_side_by_side(self) -> None:
        rows: list[list[Group]] = []
        for group in [one for one in self.launches if one.kind == "product"]:
            home = next((row for row in rows if self._may_join(group, row)), None)
            if home is None:
                rows.append([group])
            else:
                home.append(group)
        for row in rows:
            if len(row) > 1:
                self._beside(row)
                slices = shared_slices(self.uses.ir, [one.products[0] for one in row])
                for one in row:
                    one.slices = slices if one.shares_inner else 1

    def _may_join(self, group: Group, row: Sequence[Group]) -> bool:
        """Whether a product shares the launch of those in `row`.

        They read a factor together, or have a part of the inner dimension each and wait for the same.
        """
        factors = set.intersection(*(self._factors(one) for one in (group, *row)))
        together = group.shares_inner and all(self.needs(one) == self.needs(group) for one in row)
        one, other = (_form(self.uses.ir, found.products[0]) for found in (group, row[0]))
        if not (factors or together) or one != other:
            return False
        reason = self._not_beside(group, row)
        if reason is not None:
            self.refuse(group.accumulated[-1], row[0], reason)
        return reason is None

    def _not_beside(self, group: Group, row: Sequence[Group]) -> str | None:
        """Why a product cannot share the launch of those in `row`, or None."""
        ir = self.uses.ir
        inner = {product_sizes(ir, node)[3] for one in (group, *row) for node in one.products}
        if len(inner) > 1 or any(len(one.products) > 1 for one in (group, *row)):
            return "their inner dimensions differ"
        if len({one.shares_inner for one in (group, *row)}) > 1:
            return "one is split along the inner dimension, the other is not"
        if len({one.sum_of for one in (group, *row)} - {""}) > 1:
            return "they sum different factors"
        return None if all(self.apart(group, one) for one in row) else NEEDED

    def _factors(self, group: Group) -> set[tuple[int, Value]]:
        """The factors of a group's products, with their places."""
        pairs = (pair for node in group.products for pair in enumerate(node.operands))
        return {(place, base) for place, value in pairs if value and (base := _whole(self.uses.ir, value))}

    def _beside(self, members: Sequence[Group]) -> Group:
        """A launch with the programs of all `members`, in the place of the last."""
        launch = Group(members[0].index, members[0].kind, members[0].space, members=list(members))
        self.launches.insert(self.launches.index(members[-1]) + 1, launch)
        for member in members:
            self.moved(member, launch)
        return launch

    # --- order ---

    def _ordered(self) -> list[Group]:
        """Launches as they came, as far as they can; totals when nothing else can run, all that are ready."""
        ordered: list[Group] = []
        waiting = list(self.launches)
        while waiting:
            ready = [one for one in waiting if self.needs(one) <= set(ordered)]
            chosen = next((one for one in ready if one.kind != "finish"), None)
            if chosen is None:
                waiting = [one for one in waiting if one not in ready]
                if not self._put_beside_a_map(ready, ordered):
                    ordered.append(ready[0] if len(ready) == 1 else self._beside(ready))
            else:
                waiting.remove(chosen)
                ordered.append(chosen)
        return ordered

    def _put_beside_a_map(self, totals: Sequence[Group], ordered: Sequence[Group]) -> bool:
        """Whether the totals went into the launch of a map that runs after all that they need."""
        needed = {launch for total in totals for launch in self.needs(total)}
        for launch in reversed(ordered):
            if launch in needed:
                return False
            if launch.is_map and not launch.members:
                for total in totals:
                    launch.beside.append(total)
                    self.moved(total, launch)
                return True
        return False


def _form(ir: BlueprintIR, node: Node) -> tuple[object, ...]:
    """What must be equal for two products to be computed by the same instructions."""
    a, b = (ir.type(operand) for operand in node.operands if operand is not None)
    batched = bool(product_sizes(ir, node)[0])
    return node if batched else None, node.attrs["transpose_a"], node.attrs["transpose_b"], a.dtype, b.dtype


def _whole(ir: BlueprintIR, value: Value) -> Value | None:
    """The buffer that `value` reads whole and in order, or None."""
    found = access(ir, value)
    return found.base if found is not None and found.is_contiguous else None


def _same_axes(one: Group, other: Group) -> bool:
    """Whether the reductions of two groups over a space can be in one kernel."""
    last = len(one.space.shape) - 1
    splits = {group.split for group in (one, other)} - {None}
    channels = {group.channel for group in (one, other)} - {None}
    rows = one.reduces_rows or other.reduces_rows
    return len(splits) + len(channels) < 2 and (not rows or splits == {last})


def _widen(host: Group, guest: Group) -> None:
    """Makes `host` reduce what `guest` does."""
    host.split = guest.split if host.split is None else host.split
    host.channel = guest.channel if host.channel is None else host.channel
    host.reduces_rows |= guest.reduces_rows
