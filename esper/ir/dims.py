"""Sizes of tensor axes: integers, or small polynomials over size symbols.

A `Dim` is a sum of integer-weighted monomials whose atoms are symbols (`N`) or floor divisions
(`(H - 1)//2`). It is kept in one normal form, so equality of forms is equality of sizes wherever
the form can show it. A result without symbols is a plain `int`. Every symbol stands for a size >= 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Union

from esper.ir.errors import SizeOverflow, UnboundSize

Size = Union[int, "Dim"]
Atom = Union[str, "Quotient"]
Monomial = tuple[tuple[Atom, int], ...]

MAX_TERMS = 64
MAX_DEGREE = 16
MAX_COEFFICIENT = 2**63
MAX_QUOTIENT = 512  # characters, which bounds how deep divisions nest

REMEMBERED = 4096
"""So many products and sums are kept: a compile asks thousands of times for strides of a few shapes."""

DEFAULT_BATCH = 32
DEFAULT_SIZE = 64
DEFAULT_AXIS = 32


@dataclass(frozen=True, slots=True)
class Quotient:
    """The floor division `numerator // denominator`, where it does not divide out."""

    numerator: Dim
    denominator: Size

    def __str__(self) -> str:
        return self.written("//")

    def written(self, operator: str) -> str:
        """Numerator and denominator with `operator` between them."""
        return f"{_atomic(self.numerator)}{operator}{_atomic(self.denominator)}"


class Dim:
    """A polynomial over size symbols; immutable, hashable, printed in its normal form."""

    __slots__ = ("_hash", "_text", "terms")

    terms: tuple[tuple[Monomial, int], ...]

    def __init__(self, terms: tuple[tuple[Monomial, int], ...]) -> None:
        self.terms = terms
        self._hash = hash(terms)
        self._text: str | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Dim) and self.terms == other.terms

    def __hash__(self) -> int:
        return self._hash

    def __add__(self, other: Size) -> Size:
        return _added(self, other)

    def __mul__(self, other: Size) -> Size:
        return _multiplied(self, other)

    def __neg__(self) -> Size:
        return self * -1

    def __sub__(self, other: Size) -> Size:
        return self + -1 * other

    def __rsub__(self, other: int) -> Size:
        return -1 * self + other

    __radd__ = __add__
    __rmul__ = __mul__

    def __floordiv__(self, other: Size) -> Size:
        return _divide(self, other)

    def __rfloordiv__(self, other: int) -> Size:
        return _divide(other, self)

    def __mod__(self, other: Size) -> Size:
        return self - other * _divide(self, other)

    def __rmod__(self, other: int) -> Size:
        return other - self * _divide(other, self)

    def __str__(self) -> str:
        if self._text is None:
            self._text = _print_terms(self.terms)
        return self._text

    def __repr__(self) -> str:
        return f"Dim({self!s})"


def symbol(name: str) -> Dim:
    """The size that `name` stands for."""
    return as_size(name)


def as_size(atom: Atom) -> Dim:
    """A symbol or quotient alone."""
    return Dim(((((atom, 1),), 1),))


def quotients_in(size: Dim) -> list[Quotient]:
    """The quotients that `size` is a sum of products of, not those inside of them."""
    return [atom for monomial, _ in size.terms for atom, _ in monomial if isinstance(atom, Quotient)]


def remainder(quotient: Quotient) -> Size:
    """Of the division: zero where the denominator divides the numerator."""
    return quotient.numerator - quotient.denominator * as_size(quotient)


def default_size(name: str) -> int:
    """What a size symbol is taken for unless someone says: N 32, an axis of a `...` 32, any other 64."""
    if name == "N":
        return DEFAULT_BATCH
    return DEFAULT_AXIS if "." in name else DEFAULT_SIZE


def product(sizes: Iterable[Size]) -> Size:
    """The number of elements of a shape."""
    result: Size = 1
    for size in sizes:
        result = result * size
    return result


def floor_divide(numerator: Size, denominator: Size) -> Size:
    """`numerator // denominator` for any mix of integers and polynomials."""
    return _divide(numerator, denominator)


def simplicity(size: Size) -> tuple[bool, int, str]:
    """A key that sorts numbers first, then symbols, then what is made of them."""
    text = str(size)
    return isinstance(size, Dim), len(text), text


def size_symbols(size: Size) -> frozenset[str]:
    """The names of the symbols in `size`."""
    if isinstance(size, int):
        return frozenset()
    found: set[str] = set()
    for monomial, _ in size.terms:
        for atom, _power in monomial:
            if isinstance(atom, str):
                found.add(atom)
            else:
                found |= size_symbols(atom.numerator) | size_symbols(atom.denominator)
    return frozenset(found)


def substitute(size: Size, values: Mapping[str, Size] | Mapping[Atom, Size]) -> Size:
    """`size` with the atoms of `values` replaced by their sizes there; other symbols stay."""
    if isinstance(size, int):
        return size
    known: Mapping[Any, Size] = values

    def value_of(atom: Atom) -> Size:
        if atom in known:
            return known[atom]
        if isinstance(atom, str):
            return symbol(atom)
        return _divide(substitute(atom.numerator, values), substitute(atom.denominator, values))

    return _evaluate(size, value_of)


def evaluate_size(size: Size, values: Mapping[str, int]) -> int:
    """The integer that `size` is under `values`. Raises `UnboundSize` for a symbol without a value."""
    result = substitute(size, values)
    if isinstance(result, Dim):
        raise UnboundSize(name=min(size_symbols(result)), size=str(size))
    return result


def _evaluate(size: Dim, value_of: Callable[[Atom], Size]) -> Size:
    total: Size = 0
    for monomial, coefficient in size.terms:
        term: Size = coefficient
        for atom, power in monomial:
            value = value_of(atom)
            for _ in range(power):
                term = term * value
        total = total + term
    return total


@lru_cache(maxsize=REMEMBERED)
def _added(left: Dim, right: Size) -> Size:
    sums = dict(left.terms)
    for monomial, coefficient in _terms(right):
        sums[monomial] = sums.get(monomial, 0) + coefficient
    return _normal(sums)


@lru_cache(maxsize=REMEMBERED)
def _multiplied(left: Dim, right: Size) -> Size:
    products: dict[Monomial, int] = {}
    for monomial, a in left.terms:
        for other, b in _terms(right):
            merged = _merge(monomial, other)
            products[merged] = products.get(merged, 0) + a * b
    return _normal(products)


def _terms(size: Size) -> tuple[tuple[Monomial, int], ...]:
    return size.terms if isinstance(size, Dim) else ((((), size),) if size else ())


def _normal(sums: dict[Monomial, int]) -> Size:
    kept = {monomial: coefficient for monomial, coefficient in sums.items() if coefficient}
    if not kept:
        return 0
    if len(kept) == 1 and () in kept:
        return kept[()]
    degree = max(sum(power for _, power in monomial) for monomial in kept)
    if len(kept) > MAX_TERMS or degree > MAX_DEGREE or max(map(abs, kept.values())) >= MAX_COEFFICIENT:
        raise SizeOverflow(terms=MAX_TERMS, degree=MAX_DEGREE)
    return Dim(tuple(sorted(kept.items(), key=_order)))


def _order(term: tuple[Monomial, int]) -> tuple[int, list[tuple[str, int]]]:
    monomial, _ = term
    return -sum(power for _, power in monomial), [(str(atom), power) for atom, power in monomial]


def _merge(left: Monomial, right: Monomial) -> Monomial:
    powers: dict[Atom, int] = dict(left)
    for atom, power in right:
        powers[atom] = powers.get(atom, 0) + power
    return tuple(sorted(powers.items(), key=lambda item: str(item[0])))


def _divide(numerator: Size, denominator: Size) -> Size:
    """Floor division: terms that the denominator divides leave the quotient, the rest stays an atom."""
    if isinstance(numerator, int) and isinstance(denominator, int):
        if denominator == 0:
            raise ZeroDivisionError("a size was divided by zero")
        return numerator // denominator
    if denominator == 0:
        raise ZeroDivisionError("a size was divided by zero")
    if denominator == 1 or numerator == 0:
        return numerator
    if numerator == denominator:
        return 1
    divisor = _terms(denominator)
    if len(divisor) != 1:
        exact_quotient = _divide_exactly(_terms(numerator), divisor)
        return _quotient(numerator, denominator) if exact_quotient is None else exact_quotient
    whole: dict[Monomial, int] = {}
    rest: dict[Monomial, int] = {}
    for monomial, coefficient in _terms(numerator):
        exact = _divide_term(monomial, coefficient, *divisor[0])
        if exact is None:
            rest[monomial] = coefficient
        else:
            whole[exact[0]] = whole.get(exact[0], 0) + exact[1]
    remainder = _normal(rest)
    if isinstance(remainder, int) and isinstance(denominator, int):
        return _normal(whole) + remainder // denominator
    if remainder == 0:
        return _normal(whole)
    return _normal(whole) + _quotient(remainder, denominator)


def _divide_exactly(
    numerator: Iterable[tuple[Monomial, int]], divisor: tuple[tuple[Monomial, int], ...]
) -> Size | None:
    """The polynomial that times `divisor` is `numerator`, by long division; None if there is none."""
    rest = dict(numerator)
    atoms = sorted({atom for monomial, _ in (*rest.items(), *divisor) for atom, _ in monomial}, key=str)

    def rank(monomial: Monomial) -> tuple[int, ...]:
        powers = dict(monomial)
        return sum(powers.values()), *(powers.get(atom, 0) for atom in atoms)

    leading, factor = max(divisor, key=lambda term: rank(term[0]))
    found: dict[Monomial, int] = {}
    while rest and len(found) < MAX_TERMS:
        first = max(rest, key=rank)
        term = _divide_term(first, rest[first], leading, factor)
        if term is None:
            return None
        monomial, coefficient = term
        found[monomial] = coefficient
        for other, weight in divisor:
            product = _merge(monomial, other)
            rest[product] = rest.get(product, 0) - coefficient * weight
            if not rest[product]:
                del rest[product]
    return None if rest else _normal(found)


def _divide_term(
    monomial: Monomial, coefficient: int, by: Monomial, factor: int
) -> tuple[Monomial, int] | None:
    if coefficient % factor:
        return None
    powers = dict(monomial)
    for atom, power in by:
        if powers.get(atom, 0) < power:
            return None
        powers[atom] -= power
    left = tuple((atom, power) for atom, power in powers.items() if power)
    return left, coefficient // factor


def bounded(size: Size) -> Size:
    """`size`, read from a file. Raises `SizeOverflow` for an integer beyond 64 bits."""
    if isinstance(size, int) and abs(size) >= MAX_COEFFICIENT:
        raise SizeOverflow(terms=MAX_TERMS, degree=MAX_DEGREE)
    return size


def _quotient(numerator: Size, denominator: Size) -> Size:
    if len(str(numerator)) + len(str(denominator)) > MAX_QUOTIENT:
        raise SizeOverflow(terms=MAX_TERMS, degree=MAX_DEGREE)
    if isinstance(numerator, int):
        numerator = Dim((((), numerator),))
    return Dim(((((Quotient(numerator, denominator), 1),), 1),))


def _atomic(size: Size) -> str:
    text = str(size)
    return text if text.replace("_", "").replace(".", "").isalnum() else f"({text})"


def _print_terms(terms: tuple[tuple[Monomial, int], ...]) -> str:
    pieces: list[str] = []
    for monomial, coefficient in terms:
        factors = [str(atom) for atom, power in monomial for _ in range(power)]
        if len(factors) > 1 or coefficient != 1:  # `-(a//b)` is not `-a//b`
            factors = [f"({factor})" if "//" in factor else factor for factor in factors]
        if abs(coefficient) != 1 or not factors:
            factors.insert(0, str(abs(coefficient)))
        text = "*".join(factors)
        if not pieces:
            pieces.append(text if coefficient > 0 else f"-{text}")
        else:
            pieces.append(f" + {text}" if coefficient > 0 else f" - {text}")
    return "".join(pieces)
