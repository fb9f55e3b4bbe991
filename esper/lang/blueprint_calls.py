"""Calls of blueprints: arguments to inputs and parameters.

Positional arguments fill the inputs, then the parameters, in the order of the declaration, as with operators.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from esper.errors import EsperError, Span
from esper.ir.graph import Value
from esper.lang.ast import Blueprint, Call, Expression, Input, Name
from esper.lang.calls import Evaluates, Piped
from esper.lang.elsewhere import argument_meant
from esper.lang.errors import (
    DuplicateArgument,
    ExpectedTensor,
    MissingArgument,
    TooManyArguments,
    UnknownArgument,
    WrongArgumentKind,
)
from esper.lang.parameters import KINDS, all_parameters
from esper.lang.values import AnyValue, Poison, Static, describe


@dataclass(slots=True)
class CallArguments:
    """The arguments of one call of `blueprint`. All errors are reported; `are_complete` is false after one.

    tensors: by the names of inputs. parameters: those that are given, as elaboration keeps them.
    places: where each of these is given.
    """

    blueprint: Blueprint
    call: Call
    evaluator: Evaluates
    tensors: dict[str, Value] = field(default_factory=dict)
    parameters: dict[str, Static] = field(default_factory=dict)
    places: dict[str, Span] = field(default_factory=dict)
    are_complete: bool = True
    _given: set[str] = field(default_factory=set)

    def bind(self, piped: Piped | None) -> None:
        """Evaluates the arguments; `piped` is the first of them."""
        if piped is not None:
            self._positional(piped.value, piped.span)
        for argument in self.call.arguments:
            if argument.name is None:
                self._positional(self.evaluator.value(argument.value), argument.span)
                continue
            name = argument.name.text
            value = self._choice_or_value(name, argument.value)
            if name not in self._names:
                suggestion = argument_meant(name, self._names)
                error = UnknownArgument(operator=self.blueprint.name.text, name=name, suggestion=suggestion)
                self._fail(error, argument.name.span)
            else:
                self._take(name, value, argument.span)
        for name in self._inputs:
            if name not in self._given and self.are_complete:
                missing = MissingArgument(operator=self.blueprint.name.text, name=name, doc="a tensor")
                self._fail(missing, self.call.span)

    @property
    def _inputs(self) -> list[str]:
        return [statement.name.text for statement in self.blueprint.body if isinstance(statement, Input)]

    @property
    def _names(self) -> list[str]:
        return [*self._inputs, *(parameter.name.text for parameter in all_parameters(self.blueprint))]

    def _positional(self, value: AnyValue, span: Span) -> None:
        name = next((name for name in self._names if name not in self._given), None)
        if name is None:
            count = len(self._names)
            expected = f"{count} argument{'s' if count != 1 else ''}"
            self._fail(TooManyArguments(operator=self.blueprint.name.text, expected=expected), span)
        else:
            self._take(name, value, span)

    def _choice_or_value(self, name: str, expression: Expression) -> AnyValue:
        """The value of an argument; for a choice, the name of a branch may stand without quotes."""
        is_choice = any(parameter.name.text == name for parameter in self.blueprint.choices)
        if is_choice and isinstance(expression, Name) and expression.text not in self.evaluator.scope:
            return expression.text
        return self.evaluator.value(expression)

    def _take(self, name: str, value: AnyValue, span: Span) -> None:
        is_input, operator = name in self._inputs, self.blueprint.name.text
        if name in self._given:
            self._fail(DuplicateArgument(operator=operator, name=name), span)
            return
        self._given.add(name)
        if isinstance(value, Poison):
            self.are_complete = False
        elif isinstance(value, Value) and is_input:
            self.tensors[name] = value
        elif not isinstance(value, Value) and not is_input:
            self.parameters[name] = value
            self.places[name] = span
        elif is_input:
            where = f"`{name}` of `{operator}`"
            self._fail(ExpectedTensor(where=where, found=describe(value), suggestion=""), span)
        else:
            kind = next(p.kind.text for p in all_parameters(self.blueprint) if p.name.text == name)
            expected = KINDS.get(kind, kind)
            error = WrongArgumentKind(operator=operator, name=name, found="a tensor", expected=expected)
            self._fail(error, span)

    def _fail(self, error: EsperError, span: Span) -> None:
        self.evaluator.report.add(error, span)
        self.are_complete = False
