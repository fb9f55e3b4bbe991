"""The arena: one allocation that holds what a program makes for itself, placed by liveness.

A buffer lives from the step that writes it to the last step that reads it; buffers that live at no common
step may lie on the same bytes. What outlives the call (outputs, updates, values saved for the backward pass)
and what library operators return lies elsewhere. Placing intervals in the least memory is NP-hard (dynamic
storage allocation); each buffer in turn takes the tightest gap among those placed before it that live with
it, in several orders, of which the best counts. Sizes are run-time arguments, so this is done for each set of
them, once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from esper.ir.dims import evaluate_size
from esper.urza.generate.writer import Launch, buffer_name
from esper.urza.program import Program

ALIGNMENT = 128
"""In bytes: a whole line of the cache, and more than the widest access needs."""


@dataclass(frozen=True, slots=True)
class Span:
    """The steps at whose time a buffer lives, both included."""

    first: int
    last: int

    def meets(self, other: Span) -> bool:
        """Whether both live at some step."""
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True, slots=True)
class Resident:
    """A buffer of an arena: what it takes, in bytes, and when."""

    name: str
    size: int
    span: Span


@dataclass(frozen=True, slots=True)
class Arena:
    """Where buffers lie. offsets: in bytes, multiples of ALIGNMENT, by name.

    size: of the allocation, in bytes. least: the largest sum of bytes that live at one step, under which no
    placement can go.
    """

    offsets: Mapping[str, int]
    size: int
    least: int


def spans(program: Program) -> dict[str, Span]:
    """When each buffer lives that steps of `program` touch, leaves included."""
    found: dict[str, Span] = {}
    for number, step in enumerate(program.steps):
        if isinstance(step, Launch):
            touched: Iterable[str | None] = step.buffers.values()
        else:
            reads = (buffer_name(read.base) for read in step.operands if read is not None)
            touched = (*reads, *step.results)
        for name in touched:
            if name is not None:
                found[name] = Span(found[name].first if name in found else number, number)
    return found


def residents(program: Program, sizes: Mapping[str, int]) -> tuple[Resident, ...]:
    """The buffers of the program's arena; `sizes` has a number for each size symbol."""
    own = set(program.own_buffers)
    bytes_of = {n: evaluate_size(t.bytes, sizes) for n, t in program.buffers.items() if n in own}
    bytes_of |= {name: 4 * partial.parts * partial.width for name, partial in program.partials.items()}
    lives = spans(program)
    return tuple(Resident(name, size, lives[name]) for name, size in bytes_of.items() if name in lives)


def arena(program: Program, sizes: Mapping[str, int]) -> Arena:
    """The arena of one call of `program`."""
    return place(residents(program, sizes))


def place(buffers: Sequence[Resident]) -> Arena:
    """The smallest of the placements that are tried."""
    least = live_bytes(buffers)
    best: dict[str, int] | None = None
    best_size = 0
    for order in _ORDERS:
        offsets = _placed(sorted(buffers, key=order))
        size = max((offsets[one.name] + _rounded(one.size) for one in buffers), default=0)
        if best is None or size < best_size:
            best, best_size = offsets, size
        if best_size <= _rounded(least):
            break
    assert best is not None
    return Arena(best, best_size, least)


def live_bytes(buffers: Sequence[Resident]) -> int:
    """The largest sum of bytes that live at one step."""
    last = max((one.span.last for one in buffers), default=-1)
    change = [0] * (last + 2)
    for one in buffers:
        change[one.span.first] += one.size
        change[one.span.last + 1] -= one.size
    most = total = 0
    for step in change:
        total += step
        most = max(most, total)
    return most


_ORDERS: tuple[Callable[[Resident], Any], ...] = (
    lambda one: (-one.size, one.span.first, one.name),
    lambda one: (-one.size * (one.span.last - one.span.first + 1), one.span.first, one.name),
    lambda one: (one.span.first - one.span.last, -one.size, one.name),
    lambda one: (one.span.first, -one.size, one.name),
    lambda one: (-one.span.last, -one.size, one.name),
)
"""Largest first, largest area first, longest first, in the order of birth, backwards in that of death."""


def _placed(buffers: Sequence[Resident]) -> dict[str, int]:
    """An offset for each buffer, given in turn: the tightest gap that holds it, else behind all others."""
    offsets: dict[str, int] = {}
    done: list[tuple[int, int, Span]] = []
    for one in buffers:
        size = _rounded(one.size)
        end = 0
        chosen: int | None = None
        tightest = 0
        for start, stop, span in done:
            if not span.meets(one.span):
                continue
            gap = start - end
            if gap >= size and (chosen is None or gap < tightest):
                chosen, tightest = end, gap
            end = max(end, stop)
        offset = end if chosen is None else chosen
        offsets[one.name] = offset
        if size:
            done.append((offset, offset + size, one.span))
            done.sort(key=lambda taken: taken[:2])
    return offsets


def _rounded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
