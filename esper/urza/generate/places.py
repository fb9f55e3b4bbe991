"""Where the elements of a node that moves them are, and loads of its operands there.

A rule of `PLACES` says, for each axis along which places differ, which elements of the operand make an
element of the result: its *taps*, whose weighted sum it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product as combinations
from typing import TYPE_CHECKING

from esper.ir.dims import Dim, Size
from esper.ir.graph import Node, Value
from esper.urza.plan.access import Access, access

if TYPE_CHECKING:
    from esper.urza.generate.writer import Writer

Text = str | int
"""An int32 expression in a generated body, or a number that is known."""


@dataclass(frozen=True, slots=True)
class Tap:
    """One element along one axis of an operand.

    place: where. valid: conditions, all of which must hold for it to count. weight: a factor, 1 if None.
    """

    place: Text
    valid: tuple[str, ...] = ()
    weight: str | None = None


Taps = Mapping[int, Sequence[Tap]]
"""The taps along each axis; along other axes an element lies where it is read."""


@dataclass
class Places:
    """One node in one kernel: where its elements are, and how those of its operands are loaded.

    varies: the index variables that a name of the body varies with.
    """

    writer: Writer
    node: Node
    varies: dict[str, frozenset[str]] = field(default_factory=dict)

    def size(self, size: Size) -> Text:
        return size if isinstance(size, int) else self.writer.body_size(size)

    def step(self, size: Size) -> Text:
        """A size that places are multiples of."""
        return size if isinstance(size, int) else self.writer.body_step(size)

    def let(self, name: str, text: str) -> str:
        """A name for `text`, like `name`, in the body."""
        unique = self.writer.unique(name)
        self.writer.lines.append(f"{unique} = {text}")
        self.varies[unique] = self.used(text)
        return unique

    def used(self, *texts: str) -> frozenset[str]:
        """The index variables that `texts` vary with."""
        words = {word for text in texts for word in re.findall(r"\w+", text)}
        segments = self.writer.segments()
        variables = words & {name for one in segments for name in (one.name, one.of_vectors) if name}
        return frozenset(variables.union(*(self.varies.get(word, ()) for word in words)))

    def coordinate(self, axis: int) -> Text:
        """The index along `axis` of the result."""
        shape = self.node.type.shape
        ones: list[Size] = [0] * len(shape)
        ones[axis] = 1
        text, _ = self.writer.offset(Access(self.node.result(), shape, tuple(ones)))
        return 0 if text == "0" else text

    def load(self, operand: Value, taps: Mapping[int, Tap], other: str = "0") -> str:
        """The elements of `operand` at `taps`, `other` where these are not valid. Widened to float32."""
        writer = self.writer
        read = access(writer.ir, operand)
        assert read is not None
        valid = tuple(dict.fromkeys(text for tap in taps.values() for text in tap.valid))
        if NEVER in valid:
            return other
        node = writer.ir.node(read.base.node)
        if node.op == "constant":
            value = writer.operand(operand)
            return f"tl.where({' & '.join(valid)}, {value}, {other})" if valid else value
        shape, strides = list(read.shape), list(read.strides)
        for axis in taps:
            shape[axis], strides[axis] = self.node.type.shape[axis], 0
        rest, _ = writer.offset(Access(read.base, tuple(shape), tuple(strides)))
        terms = [] if rest == "0" else [rest]
        for axis, tap in taps.items():
            terms.append(times(tap.place, self.step(read.strides[axis])))
        terms = [term for term in terms if term != "0"]
        return self.read(read.base, " + ".join(terms), valid, other)

    def read(self, base: Value, offset: str, valid: tuple[str, ...] = (), other: str = "0") -> str:
        """The name of a load at `offset`, which varies with all that its mask varies with."""
        missing = self.used(*valid) - self.used(offset)
        offset = " + ".join([*([offset] if offset else []), *(f"{name} * 0" for name in sorted(missing))])
        name = self.writer.load_at(base, offset, self.used(offset), valid, other)
        self.varies[name] = self.used(offset)
        return name

    def load_strided(self, operand: Value, starts: Mapping[int, Size], steps: Mapping[int, int]) -> str:
        """The elements of `operand` at `start + step * i` along each axis that has a start; widened."""
        read = access(self.writer.ir, operand)
        assert read is not None
        if self.writer.ir.node(read.base.node).op == "constant":
            return self.writer.operand(operand)
        strides = tuple(stride * steps.get(axis, 1) for axis, stride in enumerate(read.strides))
        first: Size = 0
        for axis, start in starts.items():
            first = first + read.strides[axis] * start
        text, _ = self.writer.offset(Access(read.base, self.node.type.shape, strides))
        is_loose = isinstance(first, Dim) and all(self.node.type.shape[axis] == 1 for axis in starts)
        place: Text = self.writer.loose_size(first) if is_loose else self.size(first)
        return self.read(read.base, str(plus(0 if text == "0" else text, place)))

    def sum(self, operand: Value, taps: Taps, other: str = "0") -> str:
        """The sum of the loads at each combination of taps, times their weights."""
        terms = []
        for chosen in combinations(*taps.values()):
            value = self.load(operand, dict(zip(taps, chosen, strict=True)), other)
            weights = [tap.weight for tap in chosen if tap.weight is not None]
            terms.append(" * ".join([value, *weights]))
        return " + ".join(terms)


def plus(text: Text, number: Text) -> Text:
    """The sum, a number where both are known."""
    if isinstance(text, int) and isinstance(number, int):
        return text + number
    if number == 0:
        return text
    if text == 0:
        return number
    if isinstance(number, int) and number < 0:
        return f"({text} - {-number})"
    return f"({text} + {number})"


def minus(text: Text, number: Text) -> Text:
    """The difference."""
    return plus(text, -number) if isinstance(number, int) else f"({text} - {number})"


def times(text: Text, step: Text) -> str:
    """The product."""
    if isinstance(text, int) and isinstance(step, int):
        return str(text * step)
    return str(text) if step == 1 else f"{text} * {step}"


def below(text: Text, bound: Text) -> tuple[str, ...]:
    """The condition text < bound; none where it is known to hold."""
    if isinstance(text, int) and isinstance(bound, int):
        return () if text < bound else (NEVER,)
    return (f"({text} < {bound})",)


def at_least(text: Text, bound: Text) -> tuple[str, ...]:
    """The condition text >= bound; none where it is known to hold."""
    if isinstance(text, int) and isinstance(bound, int):
        return () if text >= bound else (NEVER,)
    return (f"({text} >= {bound})",)


NEVER = "False"
"""A condition that is known not to hold."""
