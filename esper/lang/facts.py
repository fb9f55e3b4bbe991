"""Facts: what the `require` statements and domains of a blueprint say of sizes that are not known yet.

An equation of sizes is solved for one of its unknowns, a symbol or a quotient. `width % heads == 0`, which is
`width - heads*(width//heads) = 0`, makes `width` the product `heads*(width//heads)`: the quotient stays one
unknown, and what holds `width` divides by `heads`. Where an equation has no such solution, its symbols are
doubted: only some of their values come up, and a check must not refuse what those may mend.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import gcd

from esper.errors import EsperError
from esper.ir.dims import (
    Atom,
    Dim,
    Quotient,
    Size,
    as_size,
    floor_divide,
    quotients_in,
    remainder,
    size_symbols,
    substitute,
    symbol,
)
from esper.lang.ast import Binary, Blueprint, Expression, Let, Require, subexpressions
from esper.lang.diagnostics import Report
from esper.lang.evaluate import Evaluator
from esper.lang.inequality import bounds
from esper.lang.parameters import ParameterValue, bind_parameters, common_divisors
from esper.lang.scope import Scope, What
from esper.lang.values import Static, Unknown, is_size


@dataclass(slots=True)
class Facts:
    """What is known of `symbols`.

    solved: a symbol or quotient, and what it is; of one that stands in its own size, a fixed point.
    doubted: the symbols of equations without a solution.
    """

    symbols: frozenset[str]
    solved: dict[Atom, Size] = field(default_factory=dict)
    doubted: set[str] = field(default_factory=set)

    @property
    def count(self) -> int:
        """Grows with all that is learned."""
        return len(self.solved) + len(self.doubted)

    def learn(self, one: Size, other: Size) -> None:
        """That two sizes are equal."""
        difference = self.of(one - other)
        if not isinstance(difference, Dim) or not size_symbols(difference) <= self.symbols:
            return
        for atom, size in _solutions(difference):
            try:
                self.solved = {a: substitute(s, {atom: size}) for a, s in self.solved.items()} | {atom: size}
            except EsperError:  # too large a polynomial
                continue
            return
        self.doubted |= size_symbols(difference)

    def of(self, size: Size) -> Size:
        """`size` by what is solved."""
        return substitute(size, self.solved)

    def spelling(self) -> dict[str, str]:
        """How the sizes of symbols print, and the symbols: what holds others comes first."""
        found = {str(s): a for a, s in self.solved.items() if isinstance(a, str) and isinstance(s, Dim)}
        return dict(sorted(found.items(), key=lambda item: -len(item[0])))


def learn_facts(
    facts: Facts, blueprint: Blueprint, values: Mapping[str, ParameterValue], bound: Mapping[str, Static]
) -> None:
    """Adds what the statements of `blueprint` require of the symbols in the values of its parameters.

    values: as a Python caller gives them; bound: as elaboration keeps them.
    """
    report = Report(blueprint.span.file)
    scope = Scope()
    bind_parameters(blueprint, values, scope, report, bound)
    evaluator = Evaluator(scope, report)
    for name, step in common_divisors(blueprint, evaluator):
        size = bound.get(name)
        if isinstance(size, Dim):
            facts.learn(size, size // step * step)
    for statement in blueprint.body:
        try:
            match statement:
                case Let():
                    scope.bind(statement.name, evaluator.value(statement.value), What.LET)
                case Require(condition=condition):
                    for conjunct in _conjuncts(condition):
                        _learn_condition(facts, conjunct, evaluator)
        except (EsperError, ZeroDivisionError):  # elaboration says so
            continue


def _conjuncts(condition: Expression) -> Iterator[Expression]:
    pending = [condition]
    while pending:
        match pending.pop():
            case Binary(operator="and", left=left, right=right):
                pending += [right, left]
            case conjunct:
                yield conjunct


def _learn_condition(facts: Facts, condition: Expression, evaluator: Evaluator) -> None:
    """What one condition says, if it says that sizes are equal, alone or among other words."""
    if isinstance(condition, Binary) and condition.operator == "==":
        one, other = evaluator.value(condition.left), evaluator.value(condition.right)
        if isinstance(one, int | Dim) and isinstance(other, int | Dim) and is_size(one) and is_size(other):
            facts.learn(one, other)
            return
    if any(isinstance(e, Binary) and e.operator in ("==", "!=") for e in subexpressions(condition)):
        value = evaluator.value(condition)
        if isinstance(value, Unknown):
            facts.doubted |= value.symbols


def _solutions(zero: Dim) -> Iterator[tuple[Atom, Size]]:
    """What makes `zero` that, as one unknown and its size; a size that holds the unknown is a fixed point."""
    for quotient in quotients_in(zero):
        found = _multiple(zero, quotient)
        if found is not None:
            yield found
    lone = [(monomial[0][0], weight) for monomial, weight in zero.terms if _is_lone(monomial)]
    for atom, weight in sorted(lone, key=lambda item: isinstance(item[0], Quotient)):
        if abs(weight) == 1:
            size = as_size(atom) - zero * weight
            itself: dict[Atom, Size] = {atom: size}
            if substitute(size, itself) == size and bounds(size)[1] >= 1:
                yield atom, size


def _multiple(zero: Dim, quotient: Quotient) -> tuple[Atom, Size] | None:
    """Of `n - d*(n//d) = 0`: n is c times one unknown, which is a multiple of d / gcd(c, d)."""
    numerator, divisor = quotient.numerator, quotient.denominator
    if bounds(divisor)[0] < 1 or remainder(quotient) not in (zero, -zero):
        return None
    ((monomial, weight), *others) = numerator.terms
    if others or not _is_lone(monomial):
        return None
    if weight != 1:
        if not isinstance(divisor, int):
            return None
        divisor //= gcd(weight, divisor)
    atom = monomial[0][0]
    if isinstance(atom, Quotient):  # (n//d)//m is n//(d*m)
        return atom, divisor * floor_divide(atom.numerator, divisor * atom.denominator)
    return atom, divisor * floor_divide(symbol(atom), divisor)


def _is_lone(monomial: tuple[tuple[Atom, int], ...]) -> bool:
    return len(monomial) == 1 and monomial[0][1] == 1
