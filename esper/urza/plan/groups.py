"""What a plan is made of: groups of nodes that run in one kernel, and the values that go through memory.

`esper.urza.plan.planner` makes groups, `esper.urza.plan.merge` lets independent ones share a launch, and
`esper.urza.generate.templates` writes a kernel for each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from esper.ir.graph import BlueprintIR, Node, Value
from esper.urza.plan.access import is_outside
from esper.urza.plan.space import Space
from esper.urza.plan.tiles import MULTIPROCESSORS
from esper.urza.plan.window_uses import weight_grad_parts

Kind = Literal["tile", "product", "fold", "finish", "template", "outside"]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why `node` is not in the kernel of the group called `group`."""

    node: str
    group: str
    reason: str


@dataclass(frozen=True, slots=True)
class Partial:
    """A float32 buffer of partial sums, [parts, width]; its name begins with `#`, as no node's does."""

    name: str
    parts: int
    width: int


@dataclass(eq=False)
class Group:
    """One kernel, or one call of a library.

    nodes: what it computes, in order. split: the axes before it are rows, those after are columns.
    channel: (first, last) axes that are kept by sums over all others. sums: nodes whose partial sums it
    writes; totals: nodes whose partial sums it adds up. slices: how many programs share the inner dimension
    of a product; above 1 the product itself is written as partial sums. accumulated: the products that share
    one accumulator and the additions between them, the last of which it holds in the end. sum_of: the factor
    of which a product writes `sums`; whole: the group that makes something of these where no other program
    has a part of them.
    members: groups of one kind that share this launch, each with programs of its own.
    along: (first, last) axes that a fold reduces, of a space whose other axes stay; `whole` makes something
    of its results.
    passes: what else the programs of a fold do along the same axes, in order: folds and maps, `earlier` of
    which are the groups whose results these programs hold by then.
    beside: totals that programs of their own add up in the launch of a map.
    joined: concatenations whose operands it computes, and stores side by side.
    """

    index: int
    kind: Kind
    space: Space
    nodes: list[Node] = field(default_factory=list)
    split: int | None = None
    channel: tuple[int, int] | None = None
    reduces_rows: bool = False
    sums: list[Node] = field(default_factory=list)
    totals: list[Node] = field(default_factory=list)
    slices: int = 1
    accumulated: list[Node] = field(default_factory=list)
    sum_of: Literal["", "a", "b"] = ""
    whole: Group | None = None
    members: list[Group] = field(default_factory=list)
    along: tuple[int, int] | None = None
    passes: list[Group] = field(default_factory=list)
    earlier: tuple[Group, ...] = ()
    beside: list[Group] = field(default_factory=list)
    joined: list[Node] = field(default_factory=list)

    @property
    def name(self) -> str:
        """A name for people: what it is, after the first operator that the source names."""
        if self.members:
            first = self.members[0]
            return f"{first._what}_{self.index}{first._anchor}_and_{len(self.members) - 1}_more"
        if self.kind == "template":
            (node,) = self.nodes + self.sums
            return f"{node.op}_{self.index}_{node.name.split('.')[0]}"
        return f"{self._what}_{self.index}{(self.passes or [self])[-1]._anchor}"

    @property
    def _what(self) -> str:
        if self.kind == "tile" and self.reduces_rows:
            return "rows"
        if self.kind == "tile" and self.sums:
            return "sums"
        kinds = {"tile": "map", "product": "matmul", "fold": "fold", "finish": "total", "outside": "call"}
        return kinds.get(self.kind, "")

    @property
    def _anchor(self) -> str:
        named = self.totals + self.nodes + self.sums
        chosen = (node for node in named if node.op == "matmul" or is_outside(node))
        anchor = next(chosen, named[-1] if named else None)
        return f"_{anchor.name.replace('.', '_')}" if anchor else ""

    @property
    def parts(self) -> tuple[Group, ...]:
        """The groups that this launch computes: its members or itself, those within and beside it."""
        own = tuple(self.members) or (self,)
        wholes = (group.whole for group in own if group.whole is not None)
        return (*own, *wholes, *(part for one in self.passes for part in one.parts), *self.beside)

    @property
    def products(self) -> list[Node]:
        return [node for node in self.accumulated if node.op == "matmul"]

    @property
    def is_map(self) -> bool:
        """Whether it computes each element for itself."""
        return self.kind == "tile" and not self.reduces_rows and self.split is None and self.channel is None

    @property
    def shares_inner(self) -> bool:
        """Whether it writes a product as partial sums."""
        return self.slices > 1

    @property
    def partials(self) -> tuple[Node, ...]:
        """The nodes of which it writes partial sums."""
        if self.kind == "product":
            shared = tuple(self.accumulated[-1:]) if self.shares_inner else ()
            return shared + (() if self.whole else tuple(self.sums))
        if self.kind == "fold":
            return ()
        return tuple(self.sums)

    def __contains__(self, name: str) -> bool:
        """Whether `name` is at hand in this kernel without a load."""
        return any(node.name == name for one in (self, *self.earlier) for node in [*one.nodes, *one.totals])

    def partial(self, node: Node) -> Partial:
        """The buffer of the partial sums of `node`, one of `partials`."""
        width = node.type.elements
        assert isinstance(width, int)
        return Partial(f"#partials.{node.name}", self._parts_of(width), width)

    def _parts_of(self, width: int) -> int:
        """How many programs share a sum of `width` elements."""
        if self.kind == "product":
            return self.slices
        if self.kind == "template":
            return weight_grad_parts(width)
        if self.reduces_rows:
            return MULTIPROCESSORS
        if self.channel is not None:
            return max(1, min(16, MULTIPROCESSORS // width))
        return 32


@dataclass(frozen=True)
class Plan:
    """Groups in the order in which they run; `stored` are the values that go through memory.

    owners: the group that computes a value, by the name of its node: a member where several share a launch.
    """

    ir: BlueprintIR
    groups: tuple[Group, ...]
    stored: frozenset[Value]
    owners: Mapping[str, Group]
    refusals: tuple[Refusal, ...]

    @cached_property
    def partials(self) -> Mapping[str, Partial]:
        """The buffers of partial sums, by the names of the nodes that they add up to."""
        return {node.name: part.partial(node) for part in parts_of(self.groups) for node in part.partials}


def parts_of(groups: Iterable[Group]) -> tuple[Group, ...]:
    """The parts of all `groups`."""
    return tuple(part for group in groups for part in group.parts)
