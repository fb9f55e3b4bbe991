"""Storing once what several kernels compute: by the first of them, where that moves fewer bytes.

The plan computes a pointwise value again in each kernel that needs it, if all it is made of lies in memory.
With k launches that compute a value v, the first of which may store it, let r(l) be the bytes that launch l
reads for v alone. Then storing v is worth

    sum over the others of max(0, r(l) - bytes(v)) - bytes(v)

bytes, and those launches read v for which the term is positive. The value that is worth most is stored
first, until none is worth anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from esper.ir.dims import default_size, evaluate_size
from esper.ir.graph import Node
from esper.ir.operator import OPERATORS, Pointwise
from esper.ir.types import TensorType
from esper.urza.plan.bytes_read import Reads
from esper.urza.plan.groups import Group
from esper.urza.plan.launches import Launches


@dataclass(frozen=True)
class _Store:
    """A value that `host` may store, the parts that then read it, and what that is worth in bytes."""

    node: Node
    host: Group
    readers: tuple[Group, ...]
    worth: int


def store_once(launches: Launches) -> None:
    """Lets parts of `launches` read what another stores, as long as that saves bytes at default sizes."""
    sizes = {name: default_size(name) for name in launches.uses.ir.symbols}
    known: dict[TensorType, int] = {}

    def size(type: TensorType) -> int:
        if type not in known:
            known[type] = evaluate_size(type.bytes, sizes)
        return known[type]

    while (found := _Stores(launches, size).best()) is not None:
        launches.uses.owners[found.node.name] = found.host
        for part in found.readers:
            part.nodes = launches.needed(part, launches.stored(), without=found.node)
        launches.changed()


class _Stores:
    """What could be stored in launches as they are. size: the bytes of a tensor of a type."""

    def __init__(self, launches: Launches, size: Callable[[TensorType], int]) -> None:
        self.launches = launches
        self.size = size
        self.stored = launches.stored()
        self.computing: dict[str, list[Group]] = {}
        for part in (part for one in launches.launches if not one.passes for part in one.parts):
            for node in part.nodes:
                self.computing.setdefault(node.name, []).append(part)
        self._reads: dict[Group, int] = {}

    def best(self) -> _Store | None:
        """What is worth most, the first of these; None if nothing is worth anything."""
        return max(self._stores(), key=lambda one: one.worth, default=None)

    def _stores(self) -> Iterator[_Store]:
        for name, parts in self.computing.items():
            node = self.launches.uses.ir.node(name)
            host = self.launches.uses.owners.get(name)
            if len(parts) > 1 and host in parts and isinstance(OPERATORS[node.op].lowering, Pointwise):
                saved = self._saved(node, host, parts)
                worth = sum(saved.values()) - (0 if node.result() in self.stored else self.size(node.type))
                if worth > 0:
                    yield _Store(node, host, tuple(saved), worth)

    def _saved(self, node: Node, host: Group, parts: Sequence[Group]) -> dict[Group, int]:
        """The parts that would read fewer bytes if they loaded what `host` computes, and how many fewer."""
        home = self.launches.launch_of(host)
        before = self.launches.all_before(home)
        found: dict[Group, int] = {}
        for part in parts:
            launch = self.launches.launch_of(part)
            if launch is home or launch in before:
                continue
            if part not in self._reads:
                self._reads[part] = self._read(part, part.nodes)
            kept = self.launches.needed(part, self.stored, without=node)
            fewer = self._reads[part] - self._read(part, kept)
            if fewer > 0:
                found[part] = fewer
        return found

    def _read(self, part: Group, nodes: Sequence[Node]) -> int:
        """Bytes that `part` reads if it computes `nodes`."""
        reads = Reads(self.launches.uses.ir, self.size)
        reads.add([*nodes, *part.sums], {node.name for node in [*nodes, *part.totals]}.__contains__)
        return sum(reads.bytes().values())
