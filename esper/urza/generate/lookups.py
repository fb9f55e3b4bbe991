"""Where elements that indices name are: loads whose places are loaded first.

An index outside its axis reads nothing, and makes NaN of a floating element.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from esper.ir.dims import Size
from esper.ir.graph import Node, Value
from esper.ir.types import DType
from esper.ops.rules import attribute_integer
from esper.urza.generate.places import Places, Tap, at_least, below, times
from esper.urza.plan.access import Access, access

if TYPE_CHECKING:
    from esper.urza.generate.writer import Writer


def write_gather(writer: Writer, node: Node) -> str:
    places = Places(writer, node)
    x, indices = _both(node)
    axis = attribute_integer(node.attrs, "axis") % node.type.rank
    tap = _named(places, places.load(indices, {}), writer.ir.type(x).shape[axis])
    return places.load(x, {axis: tap}, _outside(node))


def write_gather_backward(writer: Writer, node: Node) -> str:
    """The sum of what was read at this place, which every index is compared with."""
    places = Places(writer, node)
    g, indices = _both(node)
    axis = attribute_integer(node.attrs, "axis") % node.type.rank
    count = writer.ir.type(g).shape[axis]
    assert isinstance(count, int)
    at = places.coordinate(axis)
    terms = []
    for number in range(count):
        index = places.load(indices, {axis: Tap(number)})
        terms.append(f"tl.where({index} == {at}, {places.load(g, {axis: Tap(number)})}, 0.0)")
    return " + ".join(terms)


def write_embedding(writer: Writer, node: Node) -> str:
    places = Places(writer, node)
    indices, weight = _both(node)
    read = access(writer.ir, weight)
    assert read is not None
    if writer.ir.node(read.base.node).op == "constant":
        return writer.operand(weight)
    tap = _named(places, _along_rows(places, indices), read.shape[0])
    lead = node.type.rank - 1
    features = Access(read.base, (*[1] * lead, read.shape[1]), (*[0] * lead, read.strides[1]))
    rest, _ = writer.offset(features)
    terms = [times(tap.place, places.size(read.strides[0])), *([] if rest == "0" else [rest])]
    return places.read(read.base, " + ".join(terms), tap.valid, _outside(node))


def write_one_hot(writer: Writer, node: Node) -> str:
    places = Places(writer, node)
    (indices,) = node.operands
    assert indices is not None
    found = f"({_along_rows(places, indices)} == {places.coordinate(node.type.rank - 1)})"
    if node.type.dtype is DType.BOOL:
        return found
    one, zero = ("1.0", "0.0") if node.type.dtype.is_floating else ("1", "0")
    return f"tl.where({found}, {one}, {zero})"


def _along_rows(places: Places, indices: Value) -> str:
    """The indices, of which each is for all of the result's last axis."""
    read = access(places.writer.ir, indices)
    assert read is not None
    if places.writer.ir.node(read.base.node).op == "constant":
        return places.writer.operand(indices)
    text, _ = places.writer.offset(Access(read.base, (*read.shape, 1), (*read.strides, 0)))
    return places.read(read.base, text)


def _named(places: Places, index: str, size: Size) -> Tap:
    """The tap that the loaded `index` names, along an axis of `size`."""
    bound = places.size(size)
    place = places.let("place", f"({index}).to(tl.int32)")
    return Tap(place, at_least(place, 0) + below(place, bound))


def _outside(node: Node) -> str:
    return 'float("nan")' if node.type.dtype.is_floating else "0"


def _both(node: Node) -> tuple[Value, Value]:
    first, second = node.operands
    assert first is not None and second is not None
    return first, second
