"""Intervals made finite: the values of a rate at which what a blueprint costs can differ.

A number from an interval, such as a share that is dropped, changes no shape: what it costs is the same for
all values but those at which a pass drops or merges something. These are 0, 1 and -1 and the numbers that the
source has elsewhere. So a blueprint is counted for all values of an interval by counting it at these and at
one other, where each place that reads the parameter hands it to an operator, or computes once with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from esper.ir.operator import OPERATORS
from esper.lang import Interval
from esper.lang.ast import (
    Binary,
    Binding,
    Call,
    Constraint,
    Expression,
    If,
    Input,
    Integer,
    Let,
    Name,
    Output,
    Pipeline,
    Real,
    Repeat,
    Require,
    Spread,
    Statement,
    Unary,
    declared_in,
    names_in,
    parts_of,
    written_of,
)
from esper.lang.library import Loaded
from esper.lang.parameters import all_parameters
from esper.tezzeret.space import Domain, Point, Space
from esper.tezzeret.space.domains import STEPS

NEUTRAL = (-1.0, 0.0, 1.0)
"""The constants that passes look for."""


def finite(space: Space, loaded: Loaded, origin: Point) -> tuple[Space, bool]:
    """`space` with a few values in place of each interval, that of `origin` among them.

    And whether no other value can cost anything else: what holds for all its points then holds for all of
    `space`.
    """
    if not any(isinstance(domain, Interval) for domain in space.domains.values()):
        return space, True
    reads = _Reads(loaded)
    domains: dict[str, Domain] = {}
    is_whole = True
    for name, domain in space.domains.items():
        domains[name] = domain
        if not isinstance(domain, Interval):
            continue
        is_whole &= reads.is_rate(name)
        kept = {origin[name], domain.low, (domain.low + domain.high) / 2, *reads.special(name, space)}
        if not reads.is_rate(name):
            width = domain.high - domain.low
            kept |= {domain.low + width * step / STEPS for step in range(STEPS + 1)}
        domains[name] = tuple(sorted(float(v) for v in kept if not isinstance(v, str) and v in domain))
    return replace(space, domains=domains), is_whole


class _Reads:
    """Where a blueprint reads its parameters."""

    def __init__(self, loaded: Loaded) -> None:
        blueprint = loaded.blueprint
        self.parameters = {one.name.text: one for one in all_parameters(blueprint)}
        self.tensors = {name.text for name in declared_in(blueprint)} - self.parameters.keys()
        self.tensors -= set(_static_names(blueprint.body))
        self.numbers: set[float] = set(NEUTRAL)
        self.barred: set[str] = set()
        self.computed: set[str] = set()
        for parameter in self.parameters.values():
            for expression in written_of(parameter):
                self._collect(expression)
                self.barred |= {name.text for name in names_in(expression)}
        self._statements(blueprint.body)

    def is_rate(self, name: str) -> bool:
        """Whether `name` is read only by operators, or by one arithmetic operation before them."""
        return name not in self.barred

    def special(self, name: str, space: Space) -> set[float]:
        """Where `name`, or what is computed with it, may come to a number that passes look for."""
        if name not in self.computed:
            return self.numbers
        others = {
            float(value)
            for domain in space.domains.values()
            if not isinstance(domain, Interval)
            for value in domain
            if not isinstance(value, str)
        } | self.numbers
        found = set(self.numbers)
        for one in self.numbers:
            for other in others:
                found |= {one * other, one + other, other - one, one - other}
                if one:
                    found.add(other / one)
        return found

    def _statements(self, statements: Sequence[Statement]) -> None:
        for statement in statements:
            match statement:
                case Binding(value=value) | Output(value=value):
                    self._expression(value)
                case Repeat(count=count, body=body):
                    self._bar(count)
                    self._statements(body)
                case If(condition=condition, body=body, otherwise=otherwise):
                    self._bar(condition)
                    self._statements((*body, *otherwise))
                case Let(value=value):
                    self._bar(value)
                case Input(type=type):
                    self._bar(type.shape)
                case Require(condition=expression) | Constraint(bound=expression):
                    self._bar(expression)
                case _:
                    pass

    def _bar(self, expression: Expression) -> None:
        self._collect(expression)
        self.barred |= {name.text for name in names_in(expression)}

    def _collect(self, expression: Expression) -> None:
        pending: list[Expression | Spread] = [expression]
        while pending:
            node = pending.pop()
            if isinstance(node, Integer | Real):
                self.numbers.add(float(node.value))
            if not isinstance(node, Spread):
                pending += parts_of(node)

    def _expression(self, expression: Expression) -> None:
        """An expression that makes a tensor."""
        self._collect(expression)
        pending: list[Expression | Spread] = [expression]
        while pending:
            node = pending.pop()
            if isinstance(node, Spread | Name):
                continue
            if isinstance(node, Call) and node.function.text not in OPERATORS.keys() | self.parameters.keys():
                self.barred |= {name.text for name in names_in(node)}  # another blueprint
                continue
            for part in parts_of(node):
                if isinstance(part, Binary) and not self._is_tensor(part):
                    self._scalar(part)
                elif isinstance(part, Unary) and not self._is_tensor(part):
                    self.barred |= {name.text for name in names_in(part)}
                else:
                    pending.append(part)

    def _scalar(self, node: Binary) -> None:
        """One operation on numbers; what is computed on is a parameter or a literal, or it is barred."""
        self.computed |= {name.text for name in names_in(node)}
        for part in (node.left, node.right):
            if not isinstance(part, Name | Integer | Real):
                self.barred |= {name.text for name in names_in(node)}

    def _is_tensor(self, expression: Expression) -> bool:
        pending: list[Expression | Spread] = [expression]
        while pending:
            node = pending.pop()
            if isinstance(node, Call | Pipeline):
                return True
            if isinstance(node, Name) and node.text in self.tensors:
                return True
            if not isinstance(node, Spread):
                pending += parts_of(node)
        return False


def _static_names(statements: Sequence[Statement]) -> Iterator[str]:
    for statement in statements:
        match statement:
            case Let(name=name):
                yield name.text
            case Repeat(index=index, body=body):
                if index is not None:
                    yield index.text
                yield from _static_names(body)
            case If(body=body, otherwise=otherwise):
                yield from _static_names((*body, *otherwise))
            case _:
                pass
