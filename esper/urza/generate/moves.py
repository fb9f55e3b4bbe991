"""Where elements of slices, padded, joined, turned and rolled tensors come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from esper.ir.dims import Dim, Size
from esper.ir.graph import Node, Value
from esper.ops.axes import integers_of
from esper.ops.rules import attribute_integer, attribute_number
from esper.urza.generate.literals import literal
from esper.urza.generate.places import Places, Tap, Text, at_least, below, minus, plus, times
from esper.urza.plan.placed import padding
from esper.urza.plan.slices import bounds_of

if TYPE_CHECKING:
    from esper.urza.generate.writer import Writer


def write_slice(writer: Writer, node: Node) -> str:
    """Elements `start + step * i`."""
    bounds = bounds_of(node, writer.ir.type(node.operand).shape)
    starts = {axis: start for axis, (start, _, _) in bounds.items()}
    steps = {axis: step for axis, (_, _, step) in bounds.items()}
    return Places(writer, node).load_strided(node.operand, starts, steps)


def write_slice_backward(writer: Writer, node: Node) -> str:
    """The elements that a slice names; zeros between, before and after them."""
    places = Places(writer, node)
    taps = {}
    for axis, (start, stop, step) in bounds_of(node, node.type.shape).items():
        at = places.coordinate(axis)
        past = minus(at, places.size(start))
        valid = at_least(past, 0) if start != 0 else ()
        if stop != node.type.shape[axis]:
            valid += below(at, places.size(stop))
        if step != 1 and not isinstance(past, int):
            valid += (f"({past} % {step} == 0)",)
        taps[axis] = [Tap(past if step == 1 else f"{past} // {step}", valid)]
    return places.sum(node.operand, taps)


def write_flip(writer: Writer, node: Node) -> str:
    """From the last element of each axis backwards."""
    shape = node.type.shape
    axes = [axis % len(shape) for axis in integers_of(node.attrs["axes"])]
    starts = {axis: shape[axis] - 1 for axis in axes}
    return Places(writer, node).load_strided(node.operand, starts, dict.fromkeys(axes, -1))


def write_roll(writer: Writer, node: Node) -> str:
    """The element that `shift` before it, counted round each axis."""
    places = Places(writer, node)
    shape = node.type.shape
    shifts: dict[int, Size] = {}
    for axis, shift in zip(integers_of(node.attrs["axes"]), _sizes(node, "shifts"), strict=True):
        shifts[axis % len(shape)] = shifts.get(axis % len(shape), 0) + shift
    known: dict[int, tuple[int, int]] = {}
    taps: dict[int, Tap] = {}
    for axis, shift in shifts.items():
        size, at = shape[axis], places.coordinate(axis)
        if isinstance(size, int) and isinstance(shift, int):
            if shift % size:
                known[axis] = size, shift % size
        else:
            bound = places.size(size)
            back = plus(at, f"({bound} - remainder({places.size(shift)}, {bound}))")
            taps[axis] = Tap(f"({back} % {bound})")
    return _rolled(places, node.operand, known, taps)


def _rolled(places: Places, x: Value, left: Mapping[int, tuple[int, int]], taps: Mapping[int, Tap]) -> str:
    """What comes from the other end of an axis, or what does not: lanes read side by side in both."""
    if not left:
        return places.load(x, taps)
    axis, (size, shift) = next(iter(left.items()))
    rest = {other: value for other, value in left.items() if other != axis}
    at = places.coordinate(axis)
    wraps = Tap(plus(at, size - shift), below(at, shift))
    stays = Tap(minus(at, shift), at_least(at, shift))
    found = [_rolled(places, x, rest, {**taps, axis: tap}) for tap in (wraps, stays)]
    return f"tl.where({at} < {shift}, {found[0]}, {found[1]})"


def write_concat(writer: Writer, node: Node) -> str:
    """Each operand where its part of the axis is."""
    places = Places(writer, node)
    axis = attribute_integer(node.attrs, "axis") % node.type.rank
    at = places.coordinate(axis)
    start: Size = 0
    found = ""
    for operand in reversed([operand for operand in node.operands if operand is not None]):
        size = writer.ir.type(operand).shape[axis]
        first = node.type.shape[axis] - start - size
        within = at_least(at, places.size(first)) if first != 0 else ()
        before_end = below(at, places.size(first + size)) if start != 0 else ()
        value = places.load(operand, {axis: Tap(minus(at, places.size(first)), within + before_end)})
        found = f"tl.where({before_end[0]}, {value}, {found})" if found and before_end else found or value
        start = start + size
    return found


def write_pad(writer: Writer, node: Node) -> str:
    places = Places(writer, node)
    mode, shape = node.attrs["mode"], writer.ir.type(node.operand).shape
    taps = {}
    for axis, before, after in padding(node):
        at, size = minus(places.coordinate(axis), before), places.size(shape[axis])
        taps[axis] = [_PADDED[str(mode)](at, size, before, after)]
    other = attribute_number(node.attrs, "value") if mode == "constant" else 0
    return places.sum(node.operand, taps, literal(other))


def _pad_constant(at: Text, size: Text, before: int, after: int) -> Tap:
    return Tap(at, (at_least(at, 0) if before else ()) + (below(at, size) if after else ()))


def _pad_reflect(at: Text, size: Text, before: int, after: int) -> Tap:
    """Once round a mirror is enough: padding is shorter than the axis."""
    far = minus(times(minus(size, 1), 2), at)
    place = f"tl.abs({at})" if before and not isinstance(at, int) else abs(at) if isinstance(at, int) else at
    return Tap(f"tl.minimum({place}, {far})" if after else place)


def _pad_replicate(at: Text, size: Text, before: int, after: int) -> Tap:
    place = f"tl.maximum({at}, 0)" if before else at
    return Tap(f"tl.minimum({place}, {minus(size, 1)})" if after else place)


def _pad_circular(at: Text, size: Text, before: int, after: int) -> Tap:
    return Tap(f"(({at} + {size}) % {size})")


_PADDED: Mapping[str, Callable[[Text, Text, int, int], Tap]] = {
    "constant": _pad_constant,
    "reflect": _pad_reflect,
    "replicate": _pad_replicate,
    "circular": _pad_circular,
}
"""Where an element comes from that lies at `at` of an axis of `size`, counted without what is before it."""


def write_pad_backward(writer: Writer, node: Node) -> str:
    places = Places(writer, node)
    mode = str(node.attrs["mode"])
    taps = {}
    for axis, before, after in padding(node):
        at, size = places.coordinate(axis), places.size(node.type.shape[axis])
        taps[axis] = [Tap(plus(at, before)), *_copies(mode, at, size, before, after)]
    return places.sum(node.operand, taps)


def _copies(mode: str, at: Text, size: Text, before: int, after: int) -> list[Tap]:
    """Where else the element at `at` of an axis was copied to, in the padded axis."""
    last = minus(size, 1)
    found = []
    match mode:
        case "reflect":
            if before:
                found.append(Tap(minus(before, at), at_least(at, 1) + below(at, before + 1)))
            if after:
                mirrored = minus(plus(times(last, 2), before), at)
                found.append(Tap(mirrored, below(at, last) + at_least(at, minus(last, after))))
        case "replicate":
            found += [Tap(place, below(at, 1)) for place in range(before)]
            found += [Tap(plus(size, before + place), at_least(at, last)) for place in range(after)]
        case "circular":
            if before:
                found.append(Tap(minus(plus(at, before), size), at_least(at, minus(size, before))))
            if after:
                found.append(Tap(plus(plus(at, before), size), below(at, after)))
    return found


def _sizes(node: Node, name: str) -> tuple[Size, ...]:
    value = node.attrs[name]
    assert isinstance(value, tuple)
    return tuple(size for size in value if isinstance(size, int | Dim))
