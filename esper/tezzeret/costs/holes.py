"""Sizes in which candidates differ, as *holes*: what is worked out once for holes serves all their numbers.

A hole is a size symbol that no source can hold. It stands for a number above `WRITTEN_OUT`, and different
holes of one part stand for different numbers: equal ones share a hole. Small numbers are written out, as 1
broadcasts, and others are those of kernels and groups. What passes and type rules make of holes is what they
make of the numbers as long as sizes compare alike, and `Apart` says for which numbers they do. What only
numbers decide is left to them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from esper.ir.dims import Atom, Dim, Size, evaluate_size, size_symbols, substitute, symbol
from esper.ir.graph import BlueprintIR, Node, frozen_attrs
from esper.ir.operator import OPERATORS, Attrs, AttrValue, Kind
from esper.ir.types import TensorType

By = Sequence[Size] | Mapping[int, Size]
"""What stands for each hole."""

PREFIX = "?"

WRITTEN_OUT = 7

REMEMBERED = 4096


@lru_cache(maxsize=REMEMBERED)
def hole(index: int) -> Dim:
    return symbol(f"{PREFIX}{index}")


def is_hole(name: str) -> bool:
    """Whether the size symbol `name` is one."""
    return name.startswith(PREFIX)


@lru_cache(maxsize=REMEMBERED)
def holes_of(size: Dim) -> tuple[int, ...]:
    """The holes in `size`, in order."""
    return tuple(sorted(int(name.removeprefix(PREFIX)) for name in size_symbols(size) if is_hole(name)))


def filled(size: Size, by: By) -> Size:
    """`size` with `by[index]` in the place of each hole. Raises `SizeOverflow`."""
    if isinstance(size, int):
        return size
    holes = holes_of(size)
    if not holes:
        return size
    if size is hole(holes[0]):
        return by[holes[0]]
    values: dict[Atom, Size] = {f"{PREFIX}{index}": by[index] for index in holes}
    return substitute(size, values)


def filled_type(type: TensorType, by: By) -> TensorType:
    return TensorType(type.dtype, tuple([filled(size, by) for size in type.shape]))


def filled_attrs(attrs: Attrs, by: By) -> Attrs:
    """But for bodies, which stay as they are."""
    return frozen_attrs({name: _filled_value(value, by) for name, value in attrs.items()})


def _filled_value(value: AttrValue, by: By) -> AttrValue:
    if isinstance(value, tuple):
        return tuple([filled(item, by) if isinstance(item, Dim) else item for item in value])
    return filled(value, by) if isinstance(value, Dim) else value


def is_counted(size: Dim) -> bool:
    """Whether holes alone are in `size`, so that it is a number where they are filled."""
    return len(holes_of(size)) == len(size_symbols(size))


def has_holes(nodes: Iterable[Node]) -> bool:
    sizes = (size for node in nodes for size in sizes_in(node.attrs, node.types))
    return any(isinstance(size, Dim) and holes_of(size) for size in sizes)


def skeleton(type: TensorType) -> tuple[TensorType, tuple[Size, ...]]:
    """`type` with a hole of its own for each size that comes to a large number, and what fills the holes."""
    shape: list[Size] = []
    sizes: list[Size] = []
    for size in type.shape:
        if isinstance(size, int):
            if size > WRITTEN_OUT:
                sizes.append(size)
                size = hole(len(sizes) - 1)
        elif is_counted(size):
            sizes.append(size)
            size = hole(len(sizes) - 1)
        elif holes := holes_of(size):
            sizes += map(hole, holes)
            size = filled(size, {index: hole(len(sizes) - len(holes) + n) for n, index in enumerate(holes)})
        shape.append(size)
    return TensorType(type.dtype, tuple(shape)), tuple(sizes)


def pattern(values: Iterable[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """For each value the number of its hole, or a negative code for the value; and what fills the holes."""
    numbers: dict[int, int] = {}
    codes = [
        numbers.setdefault(value, len(numbers)) if value > WRITTEN_OUT else value - WRITTEN_OUT - 1
        for value in values
    ]
    return tuple(codes), tuple(numbers)


def standing(codes: Iterable[int]) -> list[Size]:
    """The sizes that the codes of a `pattern` stand for."""
    return [hole(code) if code >= 0 else code + WRITTEN_OUT + 1 for code in codes]


def sizes_in(attrs: Attrs, types: Iterable[TensorType]) -> Iterator[Size]:
    """All sizes of a node, attributes that are none left out."""
    for type in types:
        yield from type.shape
    for value in attrs.values():
        if isinstance(value, BlueprintIR):
            for node in value.nodes:
                yield from sizes_in(node.attrs, node.types)
        else:
            yield from (
                item for item in (value if isinstance(value, tuple) else (value,)) if isinstance(item, Dim)
            )


def numbers_in(op: str, attrs: Attrs) -> Iterator[int]:
    """The numbers among the sizes that a node has as attributes."""
    for name, value in attrs.items():
        attribute = OPERATORS[op].attribute(name)
        if attribute is not None and attribute.kind in (Kind.DIM, Kind.DIMS):
            items = value if isinstance(value, tuple) else (value,)
            yield from (item for item in items if isinstance(item, int))


@dataclass(frozen=True, slots=True)
class Apart:
    """For which numbers sizes with holes compare as they do with the numbers in the holes.

    Those under which all of `sizes` are different, and none is one of `others`, which have no holes: then no
    two are equal that were not. bare: whether `sizes` are holes alone, which are different anyway.
    """

    sizes: tuple[Dim, ...]
    others: frozenset[Size]
    bare: bool

    @staticmethod
    def of(sizes: Iterable[Size]) -> Apart:
        others: set[Size] = {0, 1}
        symbolic: dict[Dim, None] = {}
        for size in sizes:
            if isinstance(size, Dim) and holes_of(size):
                symbolic[size] = None
            else:
                others.add(size)
        bare = all(size == hole(holes_of(size)[0]) for size in symbolic)
        return Apart(tuple(symbolic), frozenset(others), bare)

    def holds(self, values: Sequence[int]) -> bool:
        """Raises `SizeOverflow`."""
        if self.bare:
            return self.others.isdisjoint(values)
        found = {filled(size, values) for size in self.sizes}
        return len(found) == len(self.sizes) and self.others.isdisjoint(found)


def counting(size: Size) -> Callable[[Sequence[int]], int]:
    """The number that `size`, all of whose symbols are holes, is for the numbers in them."""
    if isinstance(size, int):
        return lambda values: size
    terms: list[tuple[int, list[int]]] = []
    for monomial, coefficient in size.terms:
        factors: list[int] = []
        for atom, power in monomial:
            if not isinstance(atom, str):
                return _substituting(size)
            factors += [int(atom.removeprefix(PREFIX))] * power
        terms.append((coefficient, factors))

    def count(values: Sequence[int]) -> int:
        total = 0
        for term, factors in terms:
            for index in factors:
                term *= values[index]
            total += term
        return total

    return count


def _substituting(size: Dim) -> Callable[[Sequence[int]], int]:
    holes = holes_of(size)
    return lambda values: evaluate_size(size, {f"{PREFIX}{index}": values[index] for index in holes})
