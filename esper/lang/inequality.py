"""Bounds of sizes, and proofs that two of them differ: whatever numbers their symbols stand for.

The difference is a polynomial over symbols and floor divisions. It is shown never to be zero by its bounds,
by a common divisor of all its coefficients that does not divide its constant, or, in one symbol, by the
rational root theorem: an integer root divides the last coefficient. What is not shown may be equal.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from functools import lru_cache

from esper.ir.dims import Dim, Monomial, Quotient, Size, evaluate_size, size_symbols

LARGEST_FACTORED = 10**12

Polynomial = Mapping[Monomial, Fraction]
"""A sum of monomials in symbols alone; the empty one is zero."""


@lru_cache(4096)
def never_equal(one: Size, other: Size, least: int = 1) -> bool:
    """Whether it is proved that `one` and `other` differ, each symbol being `least` or more."""
    difference = one - other
    if isinstance(difference, int):
        return difference != 0
    low, high = bounds(difference, least)
    return low > 0 or high < 0 or _has_constant_of_its_own(difference) or _has_no_root(difference, least)


@lru_cache(4096)
def bounds(size: Size, least: int = 1) -> tuple[float, float]:
    """Integers, or infinite, between which `size` lies, each symbol being `least` or more.

    For c >= 1, a quotient n // c is at most n / c and at least (n - c + 1) / c, and at least 0 where n is.
    Each of these makes `size` a polynomial in symbols alone, which is least where they are, if every
    coefficient is positive once they are counted from there.
    """
    if isinstance(size, int):
        return size, size
    low, high = -math.inf, math.inf
    for is_tight in (True, False):
        below, above = _relaxed(size, True, is_tight, least), _relaxed(size, False, is_tight, least)
        least_below = None if below is None else _minimum(below, least)
        least_above = None if above is None else _minimum({m: -c for m, c in above.items()}, least)
        if least_below is not None:
            low = max(low, math.ceil(least_below))
        if least_above is not None:
            high = min(high, math.floor(-least_above))
    return low, high


def _relaxed(size: Size, is_below: bool, is_tight: bool, least: int) -> Polynomial | None:
    """A polynomial without quotients, nowhere above `size` or nowhere below it; None if none is found."""
    if isinstance(size, int):
        return {(): Fraction(size)}
    total: dict[Monomial, Fraction] = {}
    for monomial, coefficient in size.terms:
        quotients = [(atom, power) for atom, power in monomial if isinstance(atom, Quotient)]
        symbols = tuple((atom, power) for atom, power in monomial if isinstance(atom, str))
        factor: Polynomial | None = {(): Fraction(1)}
        if quotients:
            is_factor_below = is_below == (coefficient > 0)
            (first, power), *others = quotients
            if not others and power == 1:
                factor = _relaxed_quotient(first, is_factor_below, is_tight, least)
            else:
                is_positive = all(_is_nonnegative(atom, least) for atom, _ in quotients)
                factor = {} if is_factor_below and is_positive else None
        if factor is None:
            return None
        for other, weight in factor.items():
            product = _merged(symbols, other)
            total[product] = total.get(product, Fraction(0)) + coefficient * weight
    return total


def _relaxed_quotient(quotient: Quotient, is_below: bool, is_tight: bool, least: int) -> Polynomial | None:
    numerator, divisor = quotient.numerator, quotient.denominator
    if bounds(divisor, least)[0] < 1:
        return None
    if is_below and not (is_tight and isinstance(divisor, int)):
        return {} if _is_nonnegative(quotient, least) else None
    relaxed = _relaxed(numerator, is_below, is_tight, least)
    if relaxed is None:
        return None
    if not isinstance(divisor, int):  # at most n / 1
        return relaxed if bounds(numerator, least)[0] >= 0 else None
    found = {monomial: weight / divisor for monomial, weight in relaxed.items()}
    if is_below:
        found[()] = found.get((), Fraction(0)) - Fraction(divisor - 1, divisor)
    return found


def _is_nonnegative(atom: object, least: int) -> bool:
    return not isinstance(atom, Quotient) or (
        bounds(atom.numerator, least)[0] >= 0 and bounds(atom.denominator, least)[0] >= 1
    )


def _merged(left: Monomial, right: Monomial) -> Monomial:
    powers = dict(left)
    for atom, power in right:
        powers[atom] = powers.get(atom, 0) + power
    return tuple(sorted(powers.items(), key=lambda item: str(item[0])))


def _minimum(polynomial: Polynomial, least: int) -> Fraction | None:
    """What the polynomial is at least, a symbol being `least` + s with s >= 0; None if a term in s falls."""
    shifted: dict[Monomial, Fraction] = {}
    for monomial, coefficient in polynomial.items():
        expanded: dict[Monomial, Fraction] = {(): coefficient}
        for atom, power in monomial:
            expanded = {
                _merged(left, ((atom, exponent),) if exponent else ()): weight
                * math.comb(power, exponent)
                * least ** (power - exponent)
                for left, weight in expanded.items()
                for exponent in range(power + 1)
            }
        for product, weight in expanded.items():
            shifted[product] = shifted.get(product, Fraction(0)) + weight
    constant = shifted.pop((), Fraction(0))
    return None if any(weight < 0 for weight in shifted.values()) else constant


def _has_constant_of_its_own(size: Dim) -> bool:
    """Whether all coefficients have a divisor in common that the constant has not."""
    terms = dict(size.terms)
    constant = terms.pop((), 0)
    return constant % math.gcd(*terms.values()) != 0


def _has_no_root(size: Dim, least: int) -> bool:
    """Whether a polynomial in one symbol, without quotients, is zero for no size of at least `least`."""
    names = size_symbols(size)
    if len(names) != 1 or {atom for monomial, _ in size.terms for atom, _ in monomial} != names:
        return False
    (name,) = names
    degrees = {sum(power for _, power in monomial): abs(weight) for monomial, weight in size.terms}
    last = degrees[min(degrees)]
    if last > LARGEST_FACTORED:
        return False
    small = [factor for factor in range(1, math.isqrt(last) + 1) if last % factor == 0]
    roots = {*small, *(last // factor for factor in small)}
    return not any(root >= least and evaluate_size(size, {name: root}) == 0 for root in roots)
