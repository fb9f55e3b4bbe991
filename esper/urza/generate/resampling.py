"""Where interpolated elements come from, by torch's rule for `align_corners=False`, and where they go to.

Element o of an axis of `out` elements, made of one of `size`, with r = size / out in float32:
nearest: element floor(o r). linear: between the elements around s = max((o + 1/2) r - 1/2, 0).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from esper.ir.dims import Size
from esper.ir.graph import Node
from esper.urza.generate.places import Places, Tap, Text, at_least, below
from esper.urza.plan.access import Access, row_major

if TYPE_CHECKING:
    from esper.urza.generate.writer import Writer


@dataclass(frozen=True, slots=True)
class _Axis:
    """An axis of `size` elements, resampled to `out` elements."""

    places: Places
    size: Size
    out: Size

    @property
    def ratio(self) -> str:
        if isinstance(self.size, int) and isinstance(self.out, int):
            return repr(self.size / self.out)
        return f"tl.div_rn({self._number(self.size)}, {self._number(self.out)})"

    def _number(self, size: Size) -> str:
        return f"{size}.0" if isinstance(size, int) else f"({self.places.size(size)} * 1.0)"

    def nearest(self, at: Text) -> Text:
        """The element that `at` of the result is a copy of."""
        if isinstance(at, int):
            return 0
        last = self.places.size(self.size - 1)
        return self.places.let(
            "near", f"tl.minimum((({at}).to(tl.float32) * {self.ratio}).to(tl.int32), {last})"
        )

    def linear(self, at: Text) -> tuple[Text, Text, str]:
        """The elements on both sides of `at` of the result, and the share of the second."""
        let = self.places.let
        place = f"({at}).to(tl.float32)" if isinstance(at, str) else f"{at}.0"
        source = let("source", f"tl.maximum(({place} + 0.5) * {self.ratio} - 0.5, 0.0)")
        first = let("first", f"{source}.to(tl.int32)")
        second = let("second", f"tl.minimum({first} + 1, {self.places.size(self.size - 1)})")
        return first, second, let("share", f"{source} - {first}.to(tl.float32)")

    def taps(self, mode: object, at: Text) -> list[Tap]:
        if mode == "nearest":
            return [Tap(self.nearest(at))]
        first, second, share = self.linear(at)
        return [Tap(first, weight=f"(1.0 - {share})"), Tap(second, weight=share)]

    def candidates(self, mode: object, at: Text) -> tuple[str, str]:
        """The first element of the result that element `at` may have a share in, and how many follow it.

        One more on each side than there are over the reals: the ratio is rounded.
        """
        size, out = self.places.size(self.size), self.places.size(self.out)
        if mode == "nearest":
            return f"{at} * {out} // {size} - 1", f"({out} + {size} - 1) // {size} + 3"
        return (
            f"tl.maximum(2 * {at} - 1, 0) * {out} // (2 * {size}) - 1",
            f"(2 * {out} + {size} - 1) // {size} + 4",
        )

    def share(self, mode: object, at: Text, of: str) -> Tap:
        """The element `of` of the result, and the share that `at` has in it."""
        inside = at_least(of, 0) + below(of, self.places.size(self.out))
        if mode == "nearest":
            return Tap(of, (*inside, f"({self.nearest(of)} == {at})"))
        first, second, share = self.linear(of)
        weight = f"(tl.where({first} == {at}, 1.0 - {share}, 0.0) + tl.where({second} == {at}, {share}, 0.0))"
        return Tap(of, inside, weight)


def write_interpolate(writer: Writer, node: Node) -> str:
    places = Places(writer, node)
    shape = writer.ir.type(node.operand).shape
    taps = {}
    for axis in range(2, node.type.rank):
        if shape[axis] != node.type.shape[axis]:
            resampled = _Axis(places, shape[axis], node.type.shape[axis])
            taps[axis] = resampled.taps(node.attrs["mode"], places.coordinate(axis))
    return places.sum(node.operand, taps)


def write_interpolate_backward(writer: Writer, node: Node) -> str:
    """A loop over each axis: how many elements have a share depends on the sizes."""
    places, mode = Places(writer, node), node.attrs["mode"]
    shape, out = node.type.shape, writer.ir.type(node.operand).shape
    offset, _ = writer.offset(Access(node.result(), shape, row_major(shape)))
    total = places.let("total", f"({offset}) * 0.0" if offset != "0" else "tl.program_id(0) * 0.0")
    axes = [axis for axis in range(2, node.type.rank) if shape[axis] != out[axis]]
    coordinates = {axis: places.coordinate(axis) for axis in axes}
    starts = {}
    for axis in axes:
        first, count = _Axis(places, shape[axis], out[axis]).candidates(mode, coordinates[axis])
        starts[axis] = places.let("begin", first), places.let("count", count)
    taps: dict[int, Tap] = {}
    for depth, axis in enumerate(axes):
        begin, count = starts[axis]
        tap = writer.unique(f"tap_{axis}")
        writer.lines.append(f"{'    ' * depth}for {tap} in range(0, {count}):")
        mark = len(writer.lines)
        taps[axis] = _Axis(places, shape[axis], out[axis]).share(
            mode, coordinates[axis], places.let("place", f"{begin} + {tap}")
        )
        _indent(writer.lines, mark, depth + 1)
    mark = len(writer.lines)
    value = places.load(node.operand, taps)
    factors = [value, *(tap.weight for tap in taps.values() if tap.weight)]
    if not axes:
        return value
    writer.lines.append(f"{total} += {' * '.join(factors)}")
    _indent(writer.lines, mark, len(axes))
    return total


def _indent(lines: list[str], start: int, depth: int) -> None:
    lines[start:] = [f"{'    ' * depth}{line}" for line in lines[start:]]
