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

from esper.errors import EsperError
from esper.ir.canonical import RESULT_BITS, RESULT_MASK
from esper.ir.dims import evaluate_size
from esper.ir.graph import Node
from esper.ir.operator import OPERATORS, Site
from esper.ir.types import TensorType
from esper.tezzeret.costs.borders import Border, Region, Sum
from esper.tezzeret.costs.errors import Unforeseen
from esper.tezzeret.costs.figures import Device, Quantities, Work
from esper.tezzeret.costs.holes import hole, pattern, standing
from esper.tezzeret.costs.region import (
    ACTIVE,
    INACTIVE,
    Figures,
    Key,
    Measured,
    bare,
    measured,
    number_of,
    whole,
)
from esper.tezzeret.costs.wiring import Piece, Pieces, Wiring

MAX_ROUNDS = 12
"""Of merging regions."""


@dataclass(slots=True)
class Ledger:
    """What is known of pieces and regions at `sizes`, the values of all size symbols but holes.

    regions: None for one that takes the numbers in its holes; by_numbers: those, with the numbers.
    """

    table: Pieces
    sizes: Mapping[str, int]
    regions: dict[Key, Measured | None] = field(default_factory=dict)
    by_numbers: dict[tuple[Key, tuple[int, ...]], Measured] = field(default_factory=dict)
    keys: dict[object, int] = field(default_factory=dict)
    _weights: dict[tuple[int, tuple[int, ...]], tuple[int, int]] = field(default_factory=dict)
    _sums: dict[TensorType, Sum] = field(default_factory=dict)

    def figures(self, wiring: Wiring, devices: Iterable[Device]) -> list[Quantities]:
        """As `counted`, which is the full road. Raises `Unforeseen`, and what passes raise."""
        regions, sums = _Settled(self, wiring).regions()
        kept = _kept(wiring, regions)
        flops = moved = 0
        for region in regions:
            flops += region.figures.flops
            moved += region.figures.bytes
        for type, count in sums:
            work = self.sum_of(type).work
            flops += work.flops * count
            moved += work.bytes * count
        params = weights = 0
        for piece, values in zip(wiring.pieces, wiring.fills, strict=True):
            if piece.op == "param":
                found = self._weights.get((piece.number, values)) or self._weight(piece, values)
                params += found[0]
                weights += found[1]
        quantities = []
        for device in devices:
            seconds: list[float] = []
            for region in regions:
                seconds += region.figures.seconds.get(device.name) or _seconds(region.figures, device)
            for type, count in sums:
                seconds += [self.sum_of(type).work.seconds(device)] * count
            quantities.append(Quantities(params, flops, moved, weights + kept, math.fsum(seconds)))
        return quantities

    @property
    def measured(self) -> int:
        """How many regions were measured."""
        return len(self.regions) + len(self.by_numbers)

    def measure(
        self, key: Key, pieces: Sequence[Piece], fills: Sequence[tuple[int, ...]], values: tuple[int, ...]
    ) -> tuple[Measured, Figures]:
        """pieces: as in `measured`. fills: of the region's nodes. values: the numbers in them, in order."""
        if key not in self.regions:
            self.regions[key] = self._general(key, pieces, fills)
        found = self.regions[key]
        figures = None if found is None else found.figures(values, self.keys)
        if found is None or figures is None:
            if not values:
                raise Unforeseen("a region whose work is nothing")
            exact = key, values
            if exact not in self.by_numbers:
                self.by_numbers[exact] = measured(key, pieces, fills, self.sizes, self.keys)
            found = self.by_numbers[exact]
            figures = found.figures((), self.keys)
            if figures is None:
                raise Unforeseen("a region whose work is nothing")
        return found, figures

    def _general(
        self, key: Key, pieces: Sequence[Piece], fills: Sequence[tuple[int, ...]]
    ) -> Measured | None:
        """For all numbers that make this key."""
        codes = key[2]
        if not any(fills):
            return measured(key, pieces, fills, self.sizes, self.keys)
        sizes = iter(standing(codes) if codes else map(hole, range(len(fills[0]))))
        by = [[next(sizes) for _ in own] for own in fills]
        try:
            return measured(key, pieces, by, self.sizes, self.keys)
        except (EsperError, Unforeseen, ArithmeticError):
            return None

    def keys_of(self, region: Region) -> Sequence[int]:
        """As `Figures.keys`."""
        found = region.figures.keys
        if found is None:
            found = region.figures.keys = tuple(
                [
                    node.key if node.key < 0 else number_of(whole(node.node, region.values), self.keys)
                    for node in region.measured.nodes
                ]
            )
        return found

    def sum_of(self, type: TensorType) -> Sum:
        """A node that adds two gradients of `type`."""
        found = self._sums.get(type)
        if found is None:
            entry = OPERATORS["add"]
            assert entry.cost is not None
            cost = entry.cost(Site(entry, (type, type), {}, (type,)))
            work = Work(
                evaluate_size(cost.flops, self.sizes), evaluate_size(cost.read + cost.written, self.sizes)
            )
            node = Node("sum", "add", (), {}, (type,))
            numbers = number_of(bare(node), self.keys), number_of(whole(node), self.keys)
            found = self._sums[type] = Sum(*numbers, work)
        return found

    def _weight(self, piece: Piece, values: tuple[int, ...]) -> tuple[int, int]:
        """Elements and bytes."""
        type = piece.types_at(values)[0]
        found = evaluate_size(type.elements, self.sizes), evaluate_size(type.bytes, self.sizes)
        self._weights[piece.number, values] = found
        return found


def _seconds(figures: Figures, device: Device) -> tuple[float, ...]:
    found = figures.seconds[device.name] = tuple([work.seconds(device) for work in figures.work])
    return found


class _Settled:
    """The regions of one wiring.

    alive: nodes that a result needs. active: values that a gradient may go back to.
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
            border = Border(
                self.wiring, regions, self.seeds, self.readers, self.ledger.sum_of, self.ledger.keys_of
            )
            groups = border.merged()
            if groups is None:
                return regions, border.sums
            regions = [region if len(group) == 1 else self._region(sorted(group)) for group, region in groups]
        raise Unforeseen("regions that do not settle")

    def _alive(self) -> list[int]:
        """Positions of the nodes other than leaves that a result needs, in order."""
        wiring = self.wiring
        pieces, operands, readers = wiring.pieces, wiring.operands, self.readers
        needed = bytearray(len(pieces))
        for value in (*wiring.outputs, *wiring.updates.values()):
            needed[value >> RESULT_BITS] = 1
        alive: list[int] = []
        fixed: dict[int, int] = {}
        for position in range(len(pieces) - 1, -1, -1):
            if not needed[position]:
                continue
            piece = pieces[position]
            if piece.is_leaf:
                if piece.is_fixed:  # the first of those that are alike stands for all
                    fixed[piece.number] = position
                continue
            alive.append(position)
            for operand in operands[position]:
                if operand is not None:
                    needed[operand >> RESULT_BITS] = 1
                    if operand in readers:
                        readers[operand].append(position)
                    else:
                        readers[operand] = [position]
        for number, first in fixed.items():
            self.fixed |= {p: first for p, piece in enumerate(pieces) if needed[p] and piece.number == number}
        return alive[::-1]

    def _active(self) -> set[int]:
        pieces, operands = self.wiring.pieces, self.wiring.operands
        active = {position << RESULT_BITS for position, piece in enumerate(pieces) if piece.is_active_leaf}
        for position in self.alive:
            floats = pieces[position].floats
            if floats == (True,):
                if not active.isdisjoint(operands[position]):
                    active.add(position << RESULT_BITS)
            elif True in floats and not active.isdisjoint(operands[position]):
                active.update([position << RESULT_BITS | n for n, is_float in enumerate(floats) if is_float])
        return active

    def _singles(self) -> list[Region]:
        """Each node by itself."""
        regions: list[Region] = []
        for position in reversed(self.alive):
            region = self._single(position) or self._region([position])
            regions.append(region)
            for number in region.measured.gradients:
                self.contributors.setdefault(region.outside[number], []).append(position)
        return regions[::-1]

    def _single(self, position: int) -> Region | None:
        """As `_region` for one node that was met before; None where it takes a closer look."""
        piece, values = self.wiring.pieces[position], self.wiring.fills[position]
        active, readers, contributors = self.active, self.readers, self.contributors
        outside = [value for value in self.wiring.operands[position] if value is not None]
        if len(outside) > len({*outside}) or not self.fixed.keys().isdisjoint(
            [value >> RESULT_BITS for value in outside]
        ):
            return None
        used = graded = 0
        value, bit = position << RESULT_BITS, 1
        for _ in piece.types:
            if value in readers or value in self.leaving:
                used |= bit
                if value in contributors or value in self.seeds:
                    graded |= bit
            value, bit = value + 1, bit << 1
        kinds = tuple([ACTIVE if value in active else INACTIVE for value in outside])
        found = self.ledger.regions.get((((piece.number, piece.codes, used, graded),), kinds, ()))
        figures = None if found is None else found.filled.get(values)
        if found is None or figures is None or len(found.asked) < graded.bit_count():
            return None
        return Region([position], outside, found, values, figures, self._private(outside))

    def _private(self, outside: Sequence[int]) -> int:
        """Bits of those that are leaves with one reader."""
        pieces, readers = self.wiring.pieces, self.readers
        found = 0
        for number, value in enumerate(outside):
            if pieces[value >> RESULT_BITS].is_leaf and len(readers.get(value, ())) == 1:
                found |= 1 << number
        return found

    def _region(self, positions: list[int]) -> Region:
        """positions: of its nodes, in order."""
        pieces, operands, fixed, active = self.wiring.pieces, self.wiring.operands, self.fixed, self.active
        readers, contributors = self.readers, self.contributors
        inside = {position: index for index, position in enumerate(positions)}
        outside: dict[int, int] = {}
        kinds: list[int] = []
        described: list[tuple[int, tuple[int | None, ...], int, int]] = []
        gradients: list[int] = []
        for position in positions:
            operand_codes: list[int | None] = []
            for value in operands[position]:
                if value is None:
                    operand_codes.append(None)
                    continue
                maker = value >> RESULT_BITS
                if maker in inside:
                    operand_codes.append(inside[maker] << RESULT_BITS | value & RESULT_MASK)
                    continue
                if maker in fixed:
                    value = fixed[maker] << RESULT_BITS
                number = outside.get(value)
                if number is None:
                    number = outside[value] = len(outside)
                    if maker in fixed:
                        kinds.append(pieces[maker].number)
                    else:
                        kinds.append(ACTIVE if value in active else INACTIVE)
                operand_codes.append(-1 - number)
            used = graded = 0
            piece = pieces[position]
            value, bit = position << RESULT_BITS, 1
            for _ in piece.types:
                if value in self.leaving or (value in readers and self._is_elsewhere(readers[value], inside)):
                    used |= bit
                    givers = contributors.get(value)
                    if value in self.seeds or (givers is not None and self._is_elsewhere(givers, inside)):
                        graded |= bit
                        gradients.append(len(described) << RESULT_BITS | value & RESULT_MASK)
                value, bit = value + 1, bit << 1
            described.append((piece.number, tuple(operand_codes), used, graded))
        fills = self.wiring.fills
        codes: tuple[int, ...] = ()
        if len(positions) == 1:
            values = fills[position]
        else:
            codes, values = pattern([value for position in positions for value in fills[position]])
        key: Key = tuple(described), tuple(kinds), codes
        found = self.ledger.regions.get(key)
        figures = None if found is None else found.filled.get(values)
        if found is None or figures is None:
            involved = [pieces[position] for position in positions]
            involved += [
                pieces[value >> RESULT_BITS] for value, kind in zip(outside, kinds, strict=True) if kind >= 0
            ]
            own = [fills[position] for position in positions]
            found, figures = self.ledger.measure(key, involved, own, values)
        if len(found.asked) < len(gradients) and self._gives_in_vain(positions, gradients, found):
            raise Unforeseen("a gradient that an operator does not read")
        private = self._private([*outside]) if len(positions) == 1 else 0
        return Region(positions, [*outside], found, values, figures, private)

    def _is_elsewhere(self, positions: Sequence[int], inside: Mapping[int, int]) -> bool:
        if len(inside) == 1:
            return True  # a node does not read itself
        return not all(map(inside.__contains__, positions))

    def _gives_in_vain(self, positions: Sequence[int], gradients: Sequence[int], found: Measured) -> bool:
        """Whether some node computes a gradient that the region has no use for, which cleaning would drop."""
        unread = (index for index in gradients if index not in found.asked)
        values = (positions[index >> RESULT_BITS] << RESULT_BITS | index & RESULT_MASK for index in unread)
        return any(self.contributors.get(value) for value in values)


def _kept(wiring: Wiring, regions: Sequence[Region]) -> int:
    """As `kept_bytes`."""
    owner = {position: region for region in regions for position in region.positions}
    kept: dict[object, int] = {}
    for region in regions:
        for (place, _), size in zip(region.measured.kept, region.figures.kept, strict=True):
            base = (id(region), place[1]) if place[0] == "n" else _viewed(region, place, owner)
            if isinstance(base, int):
                position = base >> RESULT_BITS
                if position not in owner and position not in wiring.updates:
                    continue  # a leaf
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
        views, same = found.measured.views, found.measured.same
        if not views and not same:
            return value
        inner = found.place(value)
        further = views.get(inner) or same.get(inner)
        if further is None:
            return value
        region, place = found, further
