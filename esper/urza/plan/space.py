"""Iteration spaces: the axes that a kernel runs over, and where an element lies, as Triton text.

A kernel sees its space through a few index variables, each of which runs over some consecutive axes
(`row` over all but the last, `column` over the last). A value's *frame* in a space is its shape with
the space's rank: each axis has the space's size, or 1 where the value is broadcast.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from esper.ir.dims import Size, product
from esper.urza.plan.access import Access

Frame = tuple[Size, ...]
SizeText = Callable[[Size], str]


@dataclass(frozen=True, slots=True)
class Segment:
    """The index variable `name` runs over the axes `first` to `last` (exclusive), row-major.

    of_vectors: a variable that is `name` of the first of each vector of elements side by side, or "".
    """

    name: str
    first: int
    last: int
    of_vectors: str = ""


@dataclass(frozen=True, slots=True)
class Space:
    """Axes, and whether axes of size 1 are left out (then shapes match up to such axes)."""

    shape: tuple[Size, ...]
    squeezed: bool = False

    @staticmethod
    def squeeze(shape: tuple[Size, ...]) -> Space:
        return Space(tuple(size for size in shape if size != 1), squeezed=True)

    def frame(self, shape: Sequence[Size]) -> Frame | None:
        """`shape` in this space, or None if it does not broadcast to it."""
        aligned = self.align(shape, shape)
        if aligned is None or any(s not in (1, own) for s, own in zip(aligned, self.shape, strict=True)):
            return None
        return aligned

    def align(self, shape: Sequence[Size], entries: Sequence[Size]) -> tuple[Size, ...] | None:
        """`entries`, one for each axis of `shape`, at this space's axes; 1 where `shape` has none."""
        if self.squeezed:
            kept = tuple(e for size, e in zip(shape, entries, strict=True) if size != 1)
            return kept if len(kept) == len(self.shape) else None if kept else (1,) * len(self.shape)
        extra = len(shape) - len(self.shape)
        if extra > 0:
            return tuple(entries[extra:]) if all(size == 1 for size in shape[:extra]) else None
        return (1,) * -extra + tuple(entries)

    def full(self, frame: Frame) -> bool:
        return frame == self.shape


def index_text(
    space: Space,
    segments: Sequence[Segment],
    read: Access,
    size_text: SizeText,
    is_whole: Callable[[Size], bool] = lambda size: False,
) -> tuple[str, frozenset[str]]:
    """The offset of `read`'s element in its buffer, and the index variables it uses.

    Axes that lie together both in the space and in the buffer become one term. is_whole: whether a size is a
    number of whole vectors: their elements share the quotient by it.
    """
    strides = space.align(read.shape, read.strides)
    sizes = space.align(read.shape, read.shape)
    assert strides is not None and sizes is not None, (space, read)
    terms: list[str] = []
    used: set[str] = set()
    axis = 0
    while axis < len(sizes):
        if sizes[axis] == 1 or strides[axis] == 0:
            axis += 1
            continue
        end = axis + 1
        while end < len(sizes) and sizes[end] != 1 and strides[end - 1] == strides[end] * sizes[end]:
            end += 1
        for text, step, name in _pieces(space, segments, axis, end, size_text, is_whole):
            terms.append(_times(text, step * strides[end - 1], size_text))
            used.add(name)
        axis = end
    return " + ".join(terms) or "0", frozenset(used)


def _pieces(
    space: Space,
    segments: Sequence[Segment],
    first: int,
    last: int,
    size_text: SizeText,
    is_whole: Callable[[Size], bool],
) -> list[tuple[str, Size, str]]:
    """The coordinate along axes [first, last), as (text, stride, variable) for each segment it touches."""
    exact = next((s for s in segments if (s.first, s.last) == (first, last)), None)
    if exact is not None:
        return [(exact.name, 1, exact.name)]
    found: list[tuple[str, Size, str]] = []
    position = first
    while position < last:
        segment = next(s for s in segments if s.first <= position < s.last)
        end = min(last, segment.last)
        name = text = segment.name
        if end < segment.last:
            within = product(space.shape[end : segment.last])
            name = segment.of_vectors if segment.of_vectors and is_whole(within) else name
            text = f"{name} // {size_text(within)}"
        if position > segment.first:
            text = f"{text} % {size_text(product(space.shape[position:end]))}"
        found.append((text if text == name else f"({text})", product(space.shape[end:last]), name))
        position = end
    return found


def _times(text: str, step: Size, size_text: SizeText) -> str:
    return text if step == 1 else f"{text} * {size_text(step)}"
