"""What follows a fold in its own launch: programs that have whole stretches of an axis go along them again.

A softmax finds the greatest element of each stretch, then a sum, then computes each element; a norm finds
two sums, then computes each element. Every step needs all of the one before, but of the same stretch alone,
which is the same program's. So the later steps become `passes` of the fold: what earlier ones found stays in
registers, and what they read is likely to be in a cache still. What an earlier pass computed of each element
is computed again.
"""

from __future__ import annotations

from collections.abc import Iterable

from esper.ir.dims import Size, product
from esper.ir.graph import Node
from esper.urza.plan.groups import Group
from esper.urza.plan.launches import NEEDED, Launches
from esper.urza.plan.placed import is_placed
from esper.urza.plan.registers import in_registers
from esper.urza.plan.tiles import MULTIPROCESSORS


class FoldPasses(Launches):
    """Launches some of which become passes of folds."""

    def follow_folds(self) -> None:
        """Gives each fold the launches over its space that need its results, as far as they may be there."""
        for host in [one for one in self.launches if one.kind == "fold"]:
            found: Group | None = host
            while found is not None and host in self.launches:
                found = next((one for one in self.launches if self._may_follow(one, host)), None)
                if found is not None:
                    self._append(host, found)

    def _may_follow(self, guest: Group, host: Group) -> bool:
        if host not in self.needs(guest) or guest.space != host.space or not _goes_along(guest, host):
            return False
        reason = self._no_pass(guest, host)
        if reason is not None:
            self.refuse((guest.sums + guest.nodes)[-1], host, reason)
        return reason is None

    def _no_pass(self, guest: Group, host: Group) -> str | None:
        """Why `guest`, which needs the fold `host`, cannot or should not be a pass of it, or None."""
        if any(host in self.all_before(other) for other in self.needs(guest) - {host}):
            return NEEDED
        if not self._is_at_hand(guest, host):
            return "it reads in another shape what other programs compute"
        programs = _programs(host)
        if isinstance(programs, int) and programs < MULTIPROCESSORS:
            return f"no more than {programs} programs would compute all of it"
        return None

    def _is_at_hand(self, guest: Group, host: Group) -> bool:
        """Whether the programs of `host` hold what `guest` reads of it, or can compute it again."""
        for part in guest.parts:
            computed = {
                base for base in self.loads(part) if self.launch_of(self.uses.owners[base.node]) is host
            }
            for node in [*part.nodes, *part.sums]:
                own = computed.intersection(self.uses.reads[node.name])
                if own and is_placed(self.uses.ir, node):
                    return False
                operands = (one for one in node.operands if one is not None and self.base(one) in own)
                if not all(in_registers(self.uses.ir, one, part.space) for one in operands):
                    return False
        return True

    def _append(self, host: Group, guest: Group) -> None:
        """Makes `guest`, with passes of its own, the last of `host`."""
        before = _along(host)
        earlier = tuple(one.whole for one in before if one.whole is not None)
        for run in _along(guest):
            run.passes = []
            run.along = host.along
            again = [node for one in before for node in self._again(one, run)]
            run.nodes += [node for node in dict.fromkeys(again) if node.name not in run]
            run.nodes.sort(key=lambda node: self.uses.position[node.name])
            for part in run.parts:
                part.earlier = (*earlier, *part.earlier)
            host.passes.append(run)
        self.moved(guest, host)

    def _again(self, part: Group, run: Group) -> Iterable[Node]:
        """The nodes of an earlier pass that `run` computes again, since it reads what they make."""
        wanted = {base.node for base in self.loads(run)}
        for node in reversed(part.nodes):
            if node.name in wanted:
                wanted.update(base.node for base in self.uses.reads[node.name])
                yield node


def _along(host: Group) -> tuple[Group, ...]:
    return (host, *host.passes)


def _goes_along(guest: Group, host: Group) -> bool:
    """Whether a launch is a fold along the axes of `host`, or computes each element for itself."""
    if guest.kind == "fold":
        return guest.along == host.along
    return guest.is_map and not guest.members


def _programs(host: Group) -> Size:
    """How many stretches there are, at most a program each."""
    assert host.along is not None
    first, last = host.along
    return product(host.space.shape[:first] + host.space.shape[last:])
