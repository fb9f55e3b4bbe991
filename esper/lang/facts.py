"""Facts: what `require a % b == 0` says of a parameter whose size is not known yet.

`a` becomes `b * (a // b)`: the quotient stays one unknown, and products that hold `a` divide by `b`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import lcm

from esper.errors import EsperError
from esper.ir.dims import Dim, Size
from esper.lang.ast import Binary, Blueprint, Expression, Integer, Let, Name, Require
from esper.lang.diagnostics import Report
from esper.lang.evaluate import Evaluator
from esper.lang.parameters import ParameterValue, bind_parameters
from esper.lang.scope import Scope, What
from esper.lang.values import Static, is_size


def find_facts(
    blueprint: Blueprint, values: Mapping[str, ParameterValue], bound: Mapping[str, Static]
) -> dict[str, Size]:
    """For each parameter of symbolic size that a `require` makes a multiple of something, that product."""
    symbols = {name: size for name, size in bound.items() if isinstance(size, Dim)}
    report = Report(blueprint.span.file)
    scope = Scope()
    bind_parameters(blueprint, values, scope, report, bound)
    evaluator = Evaluator(scope, report)
    divisors: dict[str, Size] = {}
    for statement in blueprint.body:
        if isinstance(statement, Let):
            try:
                scope.bind(statement.name, evaluator.value(statement.value), What.LET)
            except EsperError:
                continue
        if not isinstance(statement, Require):
            continue
        for name, expression in _divisibilities(statement.condition):
            divisor = evaluator.value(expression)
            if name not in symbols or not isinstance(divisor, int | Dim) or not is_size(divisor):
                continue
            if isinstance(divisor, int) and divisor < 1:
                continue
            known = divisors.setdefault(name, divisor)
            if isinstance(known, int) and isinstance(divisor, int):
                divisors[name] = lcm(known, divisor)
    return {name: divisor * (symbols[name] // divisor) for name, divisor in divisors.items()}


def _divisibilities(condition: Expression) -> Iterator[tuple[str, Expression]]:
    """The pairs (a, b) of `a % b == 0`, joined by `and`."""
    pending = [condition]
    while pending:
        match pending.pop():
            case Binary(operator="and", left=left, right=right):
                pending += [right, left]
            case Binary(
                operator="==",
                left=Binary(operator="%", left=Name(text=name), right=divisor),
                right=Integer(value=0),
            ):
                yield name, divisor
            case _:
                pass
