"""Evaluating expressions: static values by arithmetic, tensors by adding nodes to a graph.

Each error is reported where it stands and its expression becomes poison, so that the rest is still
checked. Recursion is as deep as the syntax tree nests, which the parser bounds; chains are loops.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Protocol

from esper.errors import EsperError, Span
from esper.ir.dims import Dim, Size
from esper.ir.graph import Value
from esper.ir.operator import OPERATORS, Operator
from esper.ir.types import DType
from esper.lang import static
from esper.lang.ast import (
    Binary,
    Call,
    Choice,
    Expression,
    Integer,
    Name,
    Pipeline,
    Real,
    Sizes,
    Spread,
    Text,
    Truth,
    Unary,
    left_spine,
    names_in,
)
from esper.lang.calls import Arguments, Piped
from esper.lang.construction import Graph
from esper.lang.diagnostics import Note, Report
from esper.lang.elsewhere import VERY_CLOSE, operator_meant, value_meant
from esper.lang.errors import (
    BadShape,
    BranchesDiffer,
    DuplicateBranch,
    ExpectedStatic,
    ExpectedTensor,
    NotAnOperator,
    OperandKind,
    OperandKinds,
    PowerOfTensor,
    TooFewResults,
    UnknownName,
    UnknownOperator,
)
from esper.lang.names import closest
from esper.lang.scope import Scope
from esper.lang.values import POISON, AnyValue, OperatorName, Poison, Static, Unknown, describe, is_size

_TENSOR_OPERATORS = {"+": "add", "-": "sub", "*": "mul", "/": "div", "@": "matmul"}


class CallsBlueprints(Protocol):
    """What a call of a blueprint asks of whoever elaborates blueprints."""

    @property
    def names(self) -> Collection[str]: ...
    def declaration(self, name: str) -> Span | None:
        """Where the blueprint is declared that `name` calls, if one is called so."""

    def call(
        self, call: Call, piped: Piped | None, evaluator: Evaluator
    ) -> tuple[AnyValue, ...] | Poison | None:
        """The outputs of a blueprint, its graph added to the caller's; None if none is called so."""


@dataclass(slots=True)
class Evaluator:
    """Evaluates in `scope`; without a `graph` (defaults, domains) a call is an error."""

    scope: Scope
    report: Report
    graph: Graph | None = None
    blueprints: CallsBlueprints | None = None
    checks_all: bool = False
    """Whether branches that are not chosen are evaluated for their errors."""
    _choices: dict[str, Choice] = field(default_factory=dict)

    def results(self, expression: Expression, count: int) -> tuple[AnyValue, ...]:
        """The first `count` results of a call, for as many names; poison for each after an error."""
        poisoned = (POISON,) * count
        try:
            found = self._results(expression)
            if isinstance(found, Poison):
                return poisoned
            if len(found) < count:
                what = "one value" if len(found) == 1 else f"{len(found)} results"
                is_call = isinstance(expression, Call | Pipeline)
                suggestion = "" if is_call else "only a call has several results"
                declared = self._declared(expression)
                raise TooFewResults(count=count, what=what, suggestion=suggestion, notes=declared)
            return found[:count]
        except EsperError as error:
            self.report.add(error, expression.span)
            return poisoned

    def _declared(self, expression: Expression) -> tuple[Note, ...]:
        """Where the blueprint is declared that `expression` calls, last of all."""
        call = expression.steps[-1] if isinstance(expression, Pipeline) else expression
        if self.blueprints is None or not isinstance(call, Call):
            return ()
        place = self.blueprints.declaration(call.function.text)
        return () if place is None else (Note("declared here", place),)

    def value(self, expression: Expression) -> AnyValue:
        """The value of `expression`; poison after an error, which was reported."""
        try:
            return self._value(expression)
        except EsperError as error:
            self.report.add(error, expression.span)
            return POISON

    def static(self, expression: Expression, expected: str) -> Static | Poison:
        """The value of an expression that has to be static."""
        value = self.value(expression)
        if isinstance(value, Value):
            self.report.add(ExpectedStatic(where="this", expected=expected, span=expression.span))
            return POISON
        return value

    def tensor(self, expression: Expression, where: str) -> Value | None:
        """The value of an expression that has to be a tensor; None after an error."""
        value = self.value(expression)
        if isinstance(value, Value | Poison):
            return value if isinstance(value, Value) else None
        suggestion = "bind static values with `let`" if where.startswith("`") else ""
        self.report.add(
            ExpectedTensor(where=where, found=describe(value), suggestion=suggestion, span=expression.span)
        )
        return None

    def _value(self, expression: Expression) -> AnyValue:
        match expression:
            case Integer(value=integer):
                return integer
            case Real(value=real):
                return real
            case Text(value=text):
                return text
            case Truth(value=truth):
                return truth
            case Name():
                return self._name(expression)
            case Sizes():
                return self._sizes(expression)
            case Unary():
                return self._unary(expression)
            case Binary():
                return self._chain(expression)
            case Call() | Pipeline():
                found = self._results(expression)
                return found if isinstance(found, Poison) else found[0]
            case Choice():
                return self._choice(expression)

    def _results(self, expression: Expression) -> tuple[AnyValue, ...] | Poison:
        """All results of a call, or of the last call of a pipeline; else the one value."""
        match expression:
            case Call():
                return self._call(expression, None)
            case Pipeline():
                return self._pipeline(expression)
            case _:
                return (self._value(expression),)

    def _choice(self, choice: Choice) -> AnyValue:
        """The value of the branch that the parameter names."""
        found = self.scope.read(choice.name)
        names = [branch.name.text for branch in choice.branches]
        first = self._choices.setdefault(choice.name.text, choice)
        expected = [branch.name.text for branch in first.branches]
        if names != expected:
            self.scope.mark_read(name for branch in choice.branches for name in names_in(branch.value))
            raise BranchesDiffer(
                name=choice.name.text,
                found=", ".join(names),
                expected=", ".join(expected),
                span=choice.name.span,
                notes=(Note("first here", first.name.span),),
            )
        self._report_repeated_branches(choice)
        values: dict[str, AnyValue] = {}
        for branch in choice.branches:
            if self.checks_all or branch.name.text == found:
                values[branch.name.text] = self.value(branch.value)
            else:
                self.scope.mark_read(names_in(branch.value))
        return values[found] if isinstance(found, str) and found in values else POISON

    def _report_repeated_branches(self, choice: Choice) -> None:
        first: dict[str, Name] = {}
        for branch in choice.branches:
            name = branch.name
            earlier = first.setdefault(name.text, name)
            if earlier is not name:
                error = DuplicateBranch(name=choice.name.text, branch=name.text)
                self.report.add(error, name.span, [Note("first here", earlier.span)])

    def _name(self, name: Name) -> AnyValue:
        if name.text in self.scope:
            return self.scope.read(name)
        operator = OPERATORS.get(name.text)
        if operator is not None and operator.in_language:
            return OperatorName(name.text)
        if name.text in DType._value2member_map_:
            return DType(name.text)
        self.scope.refuse_later(name)
        bound = ["true", "false", *(known for known, _ in self.scope)]
        suggestion = value_meant(name.text, bound, language_operators())
        raise UnknownName(name=name.text, suggestion=suggestion, span=name.span)

    def _sizes(self, expression: Sizes) -> AnyValue:
        sizes: list[Size] = []
        is_poisoned = False
        for item in expression.items:
            value = self._spread(item) if isinstance(item, Spread) else self.value(item)
            if isinstance(value, tuple):
                if not isinstance(item, Spread):
                    raise BadShape(
                        reason="a list inside a list", suggestion="`...name` inserts one", span=item.span
                    )
                sizes.extend(value)
            elif isinstance(value, int | Dim) and is_size(value):
                sizes.append(value)
            elif isinstance(value, Poison):
                is_poisoned = True
            else:
                way_out = "several tensors stand without brackets: `concat(x, y, axis=1)`"
                suggestion = way_out if isinstance(value, Value) else ""
                reason = f"{describe(value)} in a list of sizes"
                raise BadShape(reason=reason, suggestion=suggestion, span=item.span)
        return POISON if is_poisoned else tuple(sizes)

    def _spread(self, spread: Spread) -> AnyValue:
        value = self.scope.read(spread.name)
        if not isinstance(value, tuple | Poison):
            suggestion = f"`{spread.name.text}` alone is one size"
            raise BadShape(
                reason=f"`...` before {describe(value)}, expected a list of sizes",
                suggestion=suggestion if is_size(value) else "",
                span=spread.span,
            )
        return value

    def _unary(self, expression: Unary) -> AnyValue:
        value = self.value(expression.operand)
        if isinstance(value, Poison):
            return POISON
        if isinstance(value, Value):
            if expression.operator == "not" or self.graph is None:
                suggestion = _INSTEAD.get(expression.operator, "")
                raise OperandKind(operator=expression.operator, operand="a tensor", suggestion=suggestion)
            places = [expression.operand.span]
            return self.graph.op("neg", value, span=expression.span, places=places)
        return static.negate(value) if expression.operator == "-" else static.invert(value)

    def _chain(self, expression: Binary) -> AnyValue:
        first, steps = left_spine(expression)
        value = self.value(first)
        for step in steps:
            is_remark = step.operator == "//" and isinstance(step.right, Name)
            right = self._divisor(step.right) if is_remark else self.value(step.right)
            try:
                value = self._binary(step, value, right)
            except EsperError as error:
                self.report.add(error, step.place)
                value = POISON
        return value

    def _divisor(self, name: Expression) -> AnyValue:
        """The value of a name after `//`, which starts a comment in many languages."""
        assert isinstance(name, Name)
        try:
            return self._name(name)
        except UnknownName as error:
            is_far = closest(name.text, (known for known, _ in self.scope), VERY_CLOSE) is None
            remark = UnknownName(name=name.text, suggestion=_REMARK, span=name.span)
            self.report.add(remark if is_far else error)
            return POISON

    def _binary(self, step: Binary, left: AnyValue, right: AnyValue) -> AnyValue:
        if isinstance(left, Poison) or isinstance(right, Poison):
            return POISON
        if not isinstance(left, Value) and not isinstance(right, Value):
            return static.apply(step.operator, left, right)
        if self.graph is None or (step.operator not in _TENSOR_OPERATORS and step.operator != "**"):
            raise OperandKinds(
                operator=step.operator,
                left=describe(left),
                right=describe(right),
                suggestion=_INSTEAD.get(step.operator, ""),
            )
        if step.operator == "**":
            return self._power(step, left, right)
        operands = [self._operand(step, left), self._operand(step, right)]
        places = [step.left.span, step.right.span]
        return self.graph.op(_TENSOR_OPERATORS[step.operator], *operands, span=step.span, places=places)

    def _operand(self, step: Binary, value: Value | Static) -> Value | float:
        """A tensor, or a number that becomes a constant; one that only a check lacks changes no type."""
        assert self.graph is not None
        if isinstance(value, Value):
            return value
        if (
            step.operator == "@"
            or isinstance(value, bool)
            or not (is_size(value) or isinstance(value, float | Unknown))
        ):
            raise OperandKinds(operator=step.operator, left="a tensor", right=describe(value), suggestion="")
        if isinstance(value, int | float):
            return float(value)
        self.graph.leave_open(value)
        return 1.0

    def _power(self, step: Binary, base: Value | Static, exponent: Value | Static) -> Value | Poison:
        """Powers as products and roots: the exponents that have a gradient everywhere they have a value."""
        assert self.graph is not None
        if not isinstance(base, Value) or isinstance(exponent, Value):
            found = describe(base), describe(exponent)
            raise OperandKinds(operator="**", left=found[0], right=found[1], suggestion=_POWER)
        span, places = step.span, [step.left.span] * 2
        if isinstance(exponent, Dim | Unknown):
            self.graph.leave_open(exponent)
            return self.graph.op("mul", base, base, span=span, places=places)  # of the type of every power
        if isinstance(exponent, int) and not isinstance(exponent, bool) and 1 <= exponent <= static.MAX_POWER:
            value: Value | Poison = base
            for _ in range(exponent - 1):
                value = (
                    value
                    if isinstance(value, Poison)
                    else self.graph.op("mul", value, base, span=span, places=places)
                )
            return value
        if exponent == -1:
            return self.graph.op("div", 1.0, base, span=span, places=[step.right.span, *places])
        if exponent in (0.5, -0.5):
            return self.graph.op("sqrt" if exponent == 0.5 else "rsqrt", base, span=span, places=places)
        raise PowerOfTensor(exponent=describe(exponent))

    def _pipeline(self, expression: Pipeline) -> tuple[AnyValue, ...] | Poison:
        value = self.value(expression.source)
        span = expression.source.span
        found: tuple[AnyValue, ...] | Poison = (value,)
        for step in expression.steps:
            try:
                found = self._call(step, Piped(value, span))
            except EsperError as error:
                self.report.add(error, step.span)
                found = POISON
            value = found if isinstance(found, Poison) else found[0]
            span = step.span
        return found

    def _call(self, call: Call, piped: Piped | None) -> tuple[AnyValue, ...] | Poison:
        if self.graph is None:
            raise ExpectedStatic(where="the result of a call", expected="a static value", span=call.span)
        if self.blueprints is not None and call.function.text not in self.scope:
            outputs = self.blueprints.call(call, piped, self)
            if outputs is not None:
                if not isinstance(outputs, Poison):
                    self.scope.note(call.function, outputs)
                return outputs
        operator = None
        try:
            operator = self._operator(call.function)
        except EsperError as error:
            self.report.add(error, call.span)
        arguments = Arguments(operator, call, piped, self)
        arguments.bind()
        if operator is None or not arguments.are_complete:
            return POISON
        results = self.graph.call(operator, arguments.operands, call.span)
        if not isinstance(results, Poison):
            self.scope.note(call.function, results)
        return results

    def _operator(self, name: Name) -> Operator | None:
        """The operator that `name` calls: of an `op` parameter, else of the table. None if poisoned."""
        is_callable = name.text in OPERATORS and OPERATORS[name.text].in_language
        if name.text in self.scope:
            value = self.scope.read(name)
            if isinstance(value, OperatorName):
                return OPERATORS[value.name]
            if isinstance(value, Poison):
                return None
            if not is_callable:
                raise NotAnOperator(name=name.text, what=describe(value), suggestion="", span=name.span)
        if not is_callable:
            callable_names = [known for known, bound in self.scope if isinstance(bound.value, OperatorName)]
            blueprints = [] if self.blueprints is None else self.blueprints.names
            known = [*language_operators(), *callable_names, *blueprints]
            suggestion = operator_meant(name.text, known, "`esperc templates` shows blueprints that use most")
            raise UnknownOperator(name=name.text, suggestion=suggestion, span=name.span)
        return OPERATORS[name.text]


_REMARK = "`//` divides whole numbers, and a comment starts with `#`: `# a remark`"
_INSTEAD = {
    ">": "`greater(x, y)` compares tensors",
    "<": "`less(x, y)` compares tensors",
    ">=": "`greater_equal(x, y)` compares tensors",
    "<=": "`less_equal(x, y)` compares tensors",
    "==": "`equal(x, y)` compares tensors",
    "!=": "`not_equal(x, y)` compares tensors",
    "//": "of tensors, `floor(x / y)` is the whole part of a quotient",
    "%": "of tensors, `remainder(x, y)` is the rest of a division",
    "and": "of tensors, `logical_and(x, y)` holds where both do",
    "or": "of tensors, `logical_or(x, y)` holds where one does",
    "not": "of tensors, `logical_not(x)` holds where the other does not",
}
_POWER = "`pow(x, y)` takes tensors and numbers on both sides"


def language_operators() -> list[str]:
    """The names of the operators that a blueprint may call."""
    return [name for name, operator in OPERATORS.items() if operator.in_language]
