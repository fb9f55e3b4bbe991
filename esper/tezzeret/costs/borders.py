"""What the passes would see across the borders of regions, and which regions it joins.

Everything that two regions share has one identity here: a value of the forward pass, its gradient, or what
a region makes of it. A gradient that one region alone gives is what that region gives, and one that several
give is their sum.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from esper.ir.canonical import RESULT_BITS, RESULT_MASK
from esper.ir.types import TensorType
from esper.passes.canonicalize import SEES
from esper.tezzeret.costs.errors import Unforeseen
from esper.tezzeret.costs.figures import Work
from esper.tezzeret.costs.region import Figures, Measured, Place
from esper.tezzeret.costs.wiring import Wiring

Identity = int | tuple[str, int, int]
"""A value, or: "d", region, number of a gradient given; "s", value, 0 for a sum of gradients or, with 1, for
the gradient that comes with an output; "c", key of a constant, 0; "n", region, position of what stays inside
it."""


@dataclass(slots=True)
class Region:
    """positions: of its nodes in the wiring, in order. outside: the values that it reads of others. values:
    what fills the holes of `measured`, and figures: what comes of it. private: bits of the values from
    outside that no other region has to do with."""

    positions: list[int]
    outside: list[int]
    measured: Measured
    values: tuple[int, ...]
    figures: Figures
    private: int

    def value(self, place: Place) -> int:
        """Of a place "x", "r" or "g"."""
        if place[0] == "x":
            return self.outside[place[1]]
        return self.positions[place[1] >> RESULT_BITS] << RESULT_BITS | place[1] & RESULT_MASK

    def place(self, value: int) -> Place:
        """Of a result."""
        return "r", self.positions.index(value >> RESULT_BITS) << RESULT_BITS | value & RESULT_MASK


@dataclass(frozen=True, slots=True)
class Sum:
    """A node that adds two gradients: its numbers, as in `Seen` and in `Figures.keys`, and its work."""

    bare: int
    whole: int
    work: Work


class Border:
    """The borders between `regions`, one of whose nodes each live node of `wiring` is.

    seeds: how many outputs each value is, if it is floating. readers: by value, of the whole wiring.
    givers: of gradients, by value, regions and numbers of values from outside; shared: values of which there
    may be several. sums: of each type, how many sums of gradients there are between regions.
    """

    def __init__(
        self,
        wiring: Wiring,
        regions: Sequence[Region],
        seeds: Mapping[int, int],
        readers: Mapping[int, Sequence[int]],
        sum_of: Callable[[TensorType], Sum],
        keys_of: Callable[[Region], Sequence[int]],
    ) -> None:
        self.wiring, self.regions, self.seeds, self.readers = wiring, regions, seeds, readers
        self.sum_of, self.keys_of = sum_of, keys_of
        self.owner = {position: n for n, region in enumerate(regions) for position in region.positions}
        self.givers: dict[int, list[tuple[int, int]]] = {}
        self.shared = dict.fromkeys(seeds)
        for n, region in enumerate(regions):
            for number in region.measured.gradients:
                value = region.outside[number]
                if value in self.givers:
                    self.givers[value].append((n, number))
                    self.shared[value] = None
                else:
                    self.givers[value] = [(n, number)]
        self.gradients: dict[int, Identity] = {}
        self.leader = list(range(len(regions)))
        self.sums: list[tuple[TensorType, int]] = []
        self.summed = [*self._summed()]

    def merged(self) -> list[tuple[list[int], Region]] | None:
        """The positions of each region after joining, with one region of each; None if none is joined."""
        self._join_across_values()
        self._join_sums()
        if self._meet_twice():
            self._join_duplicates()
        if all(map(int.__eq__, self.leader, range(len(self.leader)))):
            return None
        groups: dict[int, list[int]] = {}
        for n in range(len(self.regions)):
            groups.setdefault(self._leader(n), []).append(n)
        joined = []
        for group in groups.values():
            positions = [position for n in group for position in self.regions[n].positions]
            one = len(group) == 1
            joined.append((positions[:1] if one else positions, self.regions[group[0]]))
        return joined

    def _leader(self, n: int) -> int:
        while self.leader[n] != n:
            n = self.leader[n]
        return n

    def _join(self, one: int, other: int) -> None:
        one, other = self._leader(one), self._leader(other)
        self.leader[max(one, other)] = min(one, other)

    def identity(self, n: int, place: Place) -> Identity:
        kind, index = place
        region = self.regions[n]
        if kind == "x" or kind == "r":
            return region.value(place)
        if kind == "g":
            return self._gradient(region.value(place))
        if kind == "c":
            return "c", index, 0
        if kind == "s":
            return "c", region.figures.scalars[index], 0
        if kind == "d":
            same = region.measured.same.get(place)
            return ("d", n, index) if same is None else self.identity(n, same)
        return "n", n, index

    def _gradient(self, value: int) -> Identity:
        """Of `value`, as those outside of the region that makes it give it."""
        found = self.gradients.get(value)
        if found is None:
            givers = self._givers(value)
            seeds = self.seeds.get(value, 0)
            if seeds + len(givers) > 1:
                found = "s", value, 0
            elif seeds:
                found = "s", value, 1
            elif givers:
                found = self.identity(givers[0][0], ("d", givers[0][1]))
            else:
                raise Unforeseen("a gradient that nothing gives")
            self.gradients[value] = found
        return found

    def _givers(self, value: int) -> list[tuple[int, int]]:
        own = self.owner.get(value >> RESULT_BITS)
        return [giver for giver in self.givers.get(value, ()) if giver[0] != own]

    def _maker(self, identity: Identity) -> tuple[int, str] | None:
        """The region that makes it by an operator of its own, and that operator."""
        if isinstance(identity, int):
            n = self.owner.get(identity >> RESULT_BITS)
            if n is None:
                return None
            op = self.regions[n].measured.makers.get(self.regions[n].place(identity))
        elif identity[0] == "d":
            n = identity[1]
            op = self.regions[n].measured.makers.get(("d", identity[2]))
        else:
            return None
        return None if op is None else (n, op)

    def _join_across_values(self) -> None:
        for n, region in enumerate(self.regions):
            for place, sees in region.measured.reactions:
                made = self._maker(self.identity(n, place))
                if made is not None and made[1] in sees:
                    self._join(n, made[0])
            for place in region.measured.same:
                if place[0] == "r":
                    for reader in self.readers.get(region.value(place), ()):
                        self._join(n, self.owner[reader])

    def _summed(self) -> Iterator[tuple[int, list[tuple[int, int]], int]]:
        """The values whose gradients several give together: with the regions, and of how many outputs."""
        for value in self.shared:
            givers, seeds = self._givers(value), self.seeds.get(value, 0)
            if len(givers) + seeds > 1 and (givers or self._is_asked(value)):
                yield value, givers, seeds

    def _is_asked(self, value: int) -> bool:
        """Whether anything reads the gradient of `value`."""
        n = self.owner.get(value >> RESULT_BITS)
        if n is None:
            return self.wiring.pieces[value >> RESULT_BITS].is_active_leaf
        region = self.regions[n]
        return region.place(value)[1] in region.measured.asked

    def _join_sums(self) -> None:
        """Sums of gradients between regions: `add` reacts to what it reads as it does inside."""
        for value, givers, seeds in self.summed:
            self.sums.append((self.wiring.type(value), len(givers) + seeds - 1))
            made = [self._maker(self.identity(n, ("d", number))) for n, number in givers]
            reacting = [entry[0] for entry in made if entry is not None and entry[1] in SEES["add"]]
            if not reacting:
                continue
            if seeds:
                raise Unforeseen("an output's gradient is added to one that the sum looks behind")
            own = self.owner.get(value >> RESULT_BITS)
            joined = [*reacting, *(n for n, _ in givers)]
            if own is not None and any(n == own for n, _ in self.givers[value]):
                joined.append(own)
            for n in joined[1:]:
                self._join(joined[0], n)

    def _meet_twice(self) -> bool:
        """Whether two nodes of different regions may compute the same from what both see."""
        met: set[tuple[int, tuple[Identity, ...]]] = set()
        count = 0
        for n, region in enumerate(self.regions):
            private = region.private
            for key, commutes, places, read in region.measured.meeting:
                if not private & read:
                    met.add((key, self._operands(n, places, commutes)))
                    count += 1
        for value, givers, seeds in self.summed:
            parts: list[Identity] = [("s", value, 1)] * seeds
            parts += [self.identity(n, ("d", number)) for n, number in givers]
            number = self.sum_of(self.wiring.type(value)).bare
            for index, one in enumerate(parts):  # in whichever order they are added
                for other in parts[index + 1 :]:
                    met.add((number, _in_order((one, other))))
                    count += 1
        return len(met) < count

    def _operands(self, n: int, places: Sequence[Place], commutes: bool) -> tuple[Identity, ...]:
        identities = tuple([self.identity(n, place) for place in places])
        return _in_order(identities) if commutes else identities

    def _join_duplicates(self) -> None:
        """Joins regions that compute the same, unless it is a view that both keep to themselves."""
        same: dict[Identity, Identity] = {}

        def settled(identity: Identity) -> Identity:
            while identity in same:
                identity = same[identity]
            return identity

        first: dict[tuple[int, tuple[Identity, ...]], tuple[int, tuple[Identity, ...], bool]] = {}
        while True:
            found = len(same)
            first = {}
            for n, region in enumerate(self.regions):
                for node, key in zip(region.measured.nodes, self.keys_of(region), strict=True):
                    operands = tuple([settled(self.identity(n, place)) for place in node.operands])
                    if node.node.op == "where" and operands[1] == operands[2]:
                        raise Unforeseen("two branches that turn out to be one")
                    if node.key < 0:
                        continue
                    if node.commutes:
                        operands = _in_order(operands)
                    results = tuple([self.identity(n, place) for place in node.results])
                    is_own = all(place[0] == "n" for place in node.results)
                    m, others, other_is_own = first.setdefault((key, operands), (n, results, is_own))
                    if others == results:
                        continue
                    if m == n:
                        raise Unforeseen("a region whose nodes turn out to be one")
                    if not (node.is_free and is_own and other_is_own):
                        self._join(n, m)
                    pairs = zip([*map(settled, results)], [*map(settled, others)], strict=True)
                    same.update((one, other) for one, other in pairs if one != other)
            if len(same) == found:
                break
        self._refuse_equal_sums(settled, first.keys())

    def _refuse_equal_sums(
        self, settled: Callable[[Identity], Identity], others: Collection[tuple[int, tuple[Identity, ...]]]
    ) -> None:
        """Raises `Unforeseen` where two sums of gradients share two of their parts, or a node adds them."""
        pairs: set[tuple[Identity, ...]] = set()
        for value, givers, seeds in self.summed:
            parts: list[Identity] = [("s", value, 1)] * seeds
            parts += [settled(self.identity(n, ("d", number))) for n, number in givers]
            for index, one in enumerate(parts):
                for other in parts[index + 1 :]:
                    pair = _in_order((one, other))
                    if pair in pairs or (self.sum_of(self.wiring.type(value)).whole, pair) in others:
                        raise Unforeseen("two sums of the same gradients")
                    pairs.add(pair)


def _in_order(identities: tuple[Identity, ...]) -> tuple[Identity, ...]:
    return tuple(sorted(identities, key=lambda identity: (isinstance(identity, tuple), identity)))
