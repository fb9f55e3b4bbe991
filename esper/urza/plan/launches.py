"""Launches and what they need of each other, while groups are merged: who reads, computes and stores what."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

from esper.ir.graph import BlueprintIR, Node, Value
from esper.urza.plan.access import access
from esper.urza.plan.groups import Group
from esper.urza.plan.placed import is_placed

NEEDED = "one needs what the other computes"


@dataclass(frozen=True, slots=True)
class Refused:
    """Why `node` is not in the kernel of `group`, or in any where that is None."""

    node: str
    group: Group | None
    reason: str


@dataclass(frozen=True, slots=True)
class Uses:
    """Who reads and who computes what in a graph.

    reads: the values that a node reads, by its name. consumers: the nodes that read a node, views apart.
    owners: the group that computes a node; changed as groups are merged. kept: what leaves the graph.
    """

    ir: BlueprintIR
    reads: Mapping[str, Sequence[Value]]
    consumers: Mapping[str, Sequence[Node]]
    owners: dict[str, Group]
    kept: Set[Value]
    position: Mapping[str, int]


class Launches:
    """Groups in the order in which they may run; some become parts of others.

    partials: the group that writes the partial sums of a node, by its name. refusals: what may not become
    part of what, and why.
    """

    def __init__(self, uses: Uses, launches: Iterable[Group]) -> None:
        self.uses = uses
        self.launches = list(launches)
        self.partials = {node.name: group for group in self.launches for node in group.partials}
        self.refusals: list[Refused] = []
        self._homes: dict[Group, Group] = {}
        self._before: dict[Group, set[Group]] = {}
        for group in self.launches:
            if group.kind == "fold" and group.whole is not None:
                self._homes[group.whole] = group
                self.partials.update((node.name, group) for node in group.sums)

    def refuse(self, node: Node, group: Group, reason: str) -> None:
        """Notes why `node` is not in the kernel of `group`."""
        self.refusals.append(Refused(node.name, group, reason))

    def base(self, value: Value) -> Value:
        """The value whose buffer `value` is read from."""
        found = access(self.uses.ir, value)
        assert found is not None
        return found.base

    def launch_of(self, group: Group) -> Group:
        """The launch that a group ended in."""
        while group in self._homes:
            group = self._homes[group]
        return group

    def loads(self, part: Group) -> set[Value]:
        """The computed values that a part reads from memory."""
        return {base for base in self.reads(part) if base.node in self.uses.owners}

    def reads(self, part: Group, nodes: Iterable[Node] | None = None) -> set[Value]:
        """The values that a part, or some nodes of it, reads from memory, leaves included."""
        found: set[Value] = set()
        for node in [*part.nodes, *part.sums] if nodes is None else nodes:
            always = node in part.products or is_placed(self.uses.ir, node)
            found.update(b for b in self.uses.reads[node.name] if always or b.node not in part)
        return found

    def writes(self, group: Group, sums: Iterable[Node]) -> None:
        """Notes that `group` writes the partial sums of `sums`."""
        self.partials.update((node.name, group) for node in sums)
        self._before.clear()

    def needs(self, launch: Group) -> set[Group]:
        """The launches whose results `launch` reads."""
        found: set[Group] = set()
        for part in launch.parts:
            found.update(self.launch_of(self.uses.owners[base.node]) for base in self.loads(part))
            found.update(self.launch_of(self.partials[node.name]) for node in part.totals)
        return found - {launch}

    def all_before(self, launch: Group) -> set[Group]:
        """The launches that must run before `launch`."""
        if launch not in self._before:
            found = set(self.needs(launch))
            for other in list(found):
                found |= self.all_before(other)
            self._before[launch] = found
        return self._before[launch]

    def apart(self, one: Group, other: Group) -> bool:
        """Whether neither of two launches needs the other."""
        return one not in self.all_before(other) and other not in self.all_before(one)

    def moved(self, group: Group, home: Group) -> None:
        """Notes that `group` is a launch no longer, but part of `home`."""
        self._homes[group] = home
        self.launches.remove(group)
        self.changed()

    def changed(self) -> None:
        """Notes that some launch reads, or stores, something else."""
        self._before.clear()

    def needed(self, part: Group, stored: Set[Value], without: Node | None = None) -> list[Node]:
        """The nodes of a part that others or its own results need, if it loads the result of `without`.

        stored: as of `stored`.
        """
        ends = [operand for node in [*part.sums, *part.joined] for operand in node.operands if operand]
        wanted = {self.base(operand).node for operand in ends} | {node.name for node in part.accumulated}
        found: list[Node] = []
        for node in reversed(part.nodes):
            leaves = self.uses.owners.get(node.name) is part and not stored.isdisjoint(node.results)
            if node is not without and (node.name in wanted or leaves):
                found.append(node)
                wanted.update(base.node for base in self.uses.reads[node.name])
        return found[::-1]

    def take(self, guest: Group, host: Group) -> None:
        """Gives all nodes of `guest` to `host`."""
        names = {node.name for node in host.nodes}
        host.nodes += [node for node in guest.nodes if node.name not in names]
        host.nodes.sort(key=lambda node: self.uses.position[node.name])
        host.sums += guest.sums
        host.joined += guest.joined
        self.writes(host, guest.sums)
        for name, owner in self.uses.owners.items():
            if owner is guest:
                self.uses.owners[name] = host
        self.moved(guest, host)

    def stored(self) -> frozenset[Value]:
        """What is read by a part that does not compute it, and what leaves the graph."""
        parts = [part for launch in self.launches for part in launch.parts]
        leaving = {value for value in self.uses.kept if value.node in self.uses.owners}
        return frozenset(leaving.union(*map(self.loads, parts)))
