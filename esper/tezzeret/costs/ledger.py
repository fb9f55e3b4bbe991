"""The figures of a graph as sums over its regions, each measured once however many candidates hold it.

The cleaned joint graph of a whole is that of its parts, side by side, unless the passes see across a border:
a rule looks behind an operand that another part makes (`SEES`), two parts compute the same, or one hands a
value on as it is. Parts between which that can happen are taken together as one region, and the borders are
looked at again, until nothing is seen across any. Where that does not settle it, `Unforeseen` says so, and
the caller counts the whole. The figures are those of `quantities` to the last digit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from esper.ir.canonical import RESULT_BITS, RESULT_MASK
from esper.ir.dims import evaluate_size
from esper.ir.operator import OPERATORS, Site
from esper.ir.types import TensorType
from esper.tezzeret.costs.borders import Border, Region
from esper.tezzeret.costs.errors import Unforeseen
from esper.tezzeret.costs.figures import Device, Quantities, Work
from esper.tezzeret.costs.region import ACTIVE, INACTIVE, Key, Measured, measured
from esper.tezzeret.costs.wiring import Piece, Pieces, Wiring

MAX_ROUNDS = 12
"""Of merging regions."""


@dataclass(slots=True)
class Ledger:
    """What is known of pieces and regions at `sizes`, the values of all size symbols."""

    table: Pieces
    sizes: Mapping[str, int]
    regions: dict[Key, Measured] = field(default_factory=dict)
    keys: dict[object, int] = field(default_factory=dict)
    _seconds: dict[tuple[int, str], tuple[float, ...]] = field(default_factory=dict)
    _bytes: dict[int, int] = field(default_factory=dict)
    _elements: dict[int, int] = field(default_factory=dict)
    _sums: dict[TensorType, tuple[int, Work]] = field(default_factory=dict)

    def figures(self, wiring: Wiring, devices: Iterable[Device]) -> list[Quantities]:
        """As `counted`, which is the full road. Raises `Unforeseen`, and what passes raise."""
        regions, sums = _Settled(self, wiring).regions()
        kept = _kept(self, wiring, regions)
        flops = moved = 0
        for region in regions:
            flops += region.measured.flops
            moved += region.measured.bytes
        for type, count in sums:
            work = self.sum_of(type)[1]
            flops += work.flops * count
            moved += work.bytes * count
        params = weights = 0
        for piece in wiring.pieces:
            if piece.op == "param":
                params += self.elements_of(piece)
                weights += self.bytes_of(piece)
        found = []
        for device in devices:
            seconds: list[float] = []
            for region in regions:
                seconds += self._seconds_of(region.measured, device)
            for type, count in sums:
                seconds += [self.sum_of(type)[1].seconds(device)] * count
            found.append(Quantities(params, flops, moved, weights + kept, math.fsum(seconds)))
        return found

    def measure(self, key: Key, pieces: Sequence[Piece], outside: Sequence[TensorType]) -> Measured:
        found = self.regions.get(key)
        if found is None:
            found = self.regions[key] = measured(key, pieces, outside, self.sizes, self.keys)
        return found

    def sum_of(self, type: TensorType) -> tuple[int, Work]:
        """The number of a node that adds two gradients of `type`, as in `Measured`, and its work."""
        found = self._sums.get(type)
        if found is None:
            entry = OPERATORS["add"]
            assert entry.cost is not None
            cost = entry.cost(Site(entry, (type, type), {}, (type,)))
            work = Work(
                evaluate_size(cost.flops, self.sizes), evaluate_size(cost.read + cost.written, self.sizes)
            )
            number = self.keys.setdefault(("add", (), (type,)), len(self.keys))
            found = self._sums[type] = number, work
        return found

    def bytes_of(self, piece: Piece) -> int:
        """Of the first result."""
        found = self._bytes.get(piece.number)
        if found is None:
            found = self._bytes[piece.number] = evaluate_size(piece.types[0].bytes, self.sizes)
        return found

    def elements_of(self, piece: Piece) -> int:
        found = self._elements.get(piece.number)
        if found is None:
            found = self._elements[piece.number] = evaluate_size(piece.types[0].elements, self.sizes)
        return found

    def _seconds_of(self, region: Measured, device: Device) -> tuple[float, ...]:
        key = id(region), device.name
        found = self._seconds.get(key)
        if found is None:
            found = self._seconds[key] = tuple([work.seconds(device) for work in region.work])
        return found


class _Settled:
    """The regions of one wiring.

    alive: nodes that a result needs. active: those that a gradient may go back to.
    contributors: by value, the nodes that give it a gradient.
    """

    def __init__(self, ledger: Ledger, wiring: Wiring) -> None:
        self.ledger = ledger
        self.wiring = wiring
        self.fixed: dict[int, int] = {}
        self.readers: dict[int, list[int]] = {}
        self.alive = self._alive()
        self.active = self._active()
        self.seeds: dict[int, int] = {}
        for value in wiring.outputs:
            if wiring.type(value).dtype.is_floating:
                self.seeds[value] = self.seeds.get(value, 0) + 1
        self.contributors: dict[int, list[int]] = {}
        self.leaving = {*wiring.outputs, *wiring.updates.values()}

    def regions(self) -> tuple[list[Region], list[tuple[TensorType, int]]]:
        """The regions, and of gradients from several of them, how many times which type is added."""
        regions = self._singles()
        for _ in range(MAX_ROUNDS):
            border = Border(self.wiring, regions, self.seeds, self.readers, self.ledger.sum_of)
            groups = border.merged()
            if groups is None:
                return regions, border.sums
            regions = [region if len(group) == 1 else self._region(sorted(group)) for group, region in groups]
        raise Unforeseen("regions that do not settle")

    def _alive(self) -> list[int]:
        """Positions of the nodes other than leaves that a result needs, in order."""
        wiring = self.wiring
        pieces, operands, readers = wiring.pieces, wiring.operands, self.readers
        seen: set[int] = set()
        stack = [value >> RESULT_BITS for value in (*wiring.outputs, *wiring.updates.values())]
        while stack:
            position = stack.pop()
            if position in seen:
                continue
            seen.add(position)
            for value in operands[position]:
                if value is not None:
                    readers.setdefault(value, []).append(position)
                    stack.append(value >> RESULT_BITS)
        fixed: dict[int, int] = {}
        for position in sorted(seen):
            piece = pieces[position]
            if piece.is_fixed:
                self.fixed[position] = fixed.setdefault(piece.number, position)
        return [position for position in sorted(seen) if not pieces[position].is_leaf]

    def _active(self) -> set[int]:
        pieces, operands = self.wiring.pieces, self.wiring.operands
        active = {position for position, piece in enumerate(pieces) if piece.is_active_leaf}
        for position in self.alive:
            if True not in pieces[position].floats:
                continue
            for value in operands[position]:
                if value is None or value >> RESULT_BITS not in active:
                    continue
                if pieces[value >> RESULT_BITS].floats[value & RESULT_MASK]:
                    active.add(position)
                    break
        return active

    def _singles(self) -> list[Region]:
        """Each node by itself."""
        regions: list[Region] = []
        for position in reversed(self.alive):
            region = self._region([position])
            regions.append(region)
            for number in region.measured.gradients:
                self.contributors.setdefault(region.outside[number], []).append(position)
        return regions[::-1]

    def _region(self, positions: list[int]) -> Region:
        """positions: of its nodes, in order."""
        pieces, operands, fixed, active = self.wiring.pieces, self.wiring.operands, self.fixed, self.active
        inside = {position: index for index, position in enumerate(positions)}
        outside: dict[int, int] = {}
        kinds: list[int] = []
        described = []
        gradients: list[int] = []
        for position in positions:
            codes: list[int | None] = []
            for value in operands[position]:
                if value is None:
                    codes.append(None)
                    continue
                maker = value >> RESULT_BITS
                if maker in inside:
                    codes.append(inside[maker] << RESULT_BITS | value & RESULT_MASK)
                    continue
                if maker in fixed:
                    value = fixed[maker] << RESULT_BITS
                number = outside.get(value)
                if number is None:
                    number = outside[value] = len(outside)
                    piece = pieces[maker]
                    if piece.is_fixed:
                        kinds.append(piece.number)
                    elif maker in active and piece.floats[value & RESULT_MASK]:
                        kinds.append(ACTIVE)
                    else:
                        kinds.append(INACTIVE)
                codes.append(-1 - number)
            used = graded = 0
            piece = pieces[position]
            for index in range(len(piece.types)):
                value = position << RESULT_BITS | index
                if value in self.leaving or self._is_elsewhere(self.readers.get(value), inside):
                    used |= 1 << index
                    if value in self.seeds or self._is_elsewhere(self.contributors.get(value), inside):
                        graded |= 1 << index
            described.append((piece.number, tuple(codes), used, graded))
            gradients += [
                len(described) - 1 << RESULT_BITS | i for i in range(len(piece.types)) if graded >> i & 1
            ]
        key: Key = tuple(described), tuple(kinds)
        found = self.ledger.regions.get(key)
        if found is None:
            involved = [pieces[position] for position in positions]
            involved += [pieces[value >> RESULT_BITS] for value in outside]
            found = self.ledger.measure(key, involved, [self.wiring.type(value) for value in outside])
        if len(found.asked) < len(gradients) and self._gives_in_vain(positions, gradients, found):
            raise Unforeseen("a gradient that an operator does not read")
        return Region(positions, [*outside], found)

    def _is_elsewhere(self, positions: Sequence[int] | None, inside: Mapping[int, int]) -> bool:
        return positions is not None and not all(map(inside.__contains__, positions))

    def _gives_in_vain(self, positions: Sequence[int], gradients: Sequence[int], found: Measured) -> bool:
        """Whether some node computes a gradient that the region has no use for, which cleaning would drop."""
        unread = (index for index in gradients if index not in found.asked)
        values = (positions[index >> RESULT_BITS] << RESULT_BITS | index & RESULT_MASK for index in unread)
        return any(self.contributors.get(value) for value in values)


def _kept(ledger: Ledger, wiring: Wiring, regions: Sequence[Region]) -> int:
    """As `kept_bytes`."""
    owner = {position: region for region in regions for position in region.positions}
    kept: dict[object, int] = {}
    for region in regions:
        for place, size in region.measured.kept:
            base: object
            if place[0] == "n":
                base = id(region), place[1]
            else:
                base = _viewed(region, place, owner)
                if isinstance(base, int):
                    maker = wiring.pieces[base >> RESULT_BITS]
                    if maker.is_leaf and base >> RESULT_BITS not in wiring.updates:
                        continue
            kept[base] = size
    return sum(kept.values())


def _viewed(region: Region, place: tuple[str, int], owner: Mapping[int, Region]) -> object:
    """The value that the value at `place` is a view of, or a key of one that stays inside a region."""
    while True:
        if place[0] == "n":
            return id(region), place[1]
        value = region.value(place)
        found = owner.get(value >> RESULT_BITS)
        if found is None:
            return value
        inner = found.place(value)
        further = found.measured.views.get(inner) or found.measured.same.get(inner)
        if further is None:
            return value
        region, place = found, further
