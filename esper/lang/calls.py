"""Calls of operators: arguments to operands and attributes.

Positional arguments fill the tensor inputs, then the attributes, in the order of the operator's entry; an
input of any number of tensors takes all that are left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from esper.errors import EsperError, Span
from esper.ir.dims import Dim
from esper.ir.graph import Value
from esper.ir.operator import OPERATORS, REQUIRED, Attribute, AttrValue, Input, Kind, Operator, Role
from esper.ir.types import DType
from esper.lang.ast import Argument, Call, Expression, Name, Sizes, names_in
from esper.lang.construction import Graph, Operands
from esper.lang.diagnostics import Report
from esper.lang.elsewhere import argument_meant, element_type_meant
from esper.lang.errors import (
    DuplicateArgument,
    ExpectedTensor,
    MissingArgument,
    TooManyArguments,
    UnknownArgument,
    UnknownElementType,
    WrongArgumentKind,
)
from esper.lang.scope import Scope
from esper.lang.sizes import MAX_SIZE
from esper.lang.values import AnyValue, Poison, Static, Unknown, describe, is_size

_KINDS = {
    Kind.DIM: "a size of at least 1",
    Kind.INT: "an integer",
    Kind.FLOAT: "a number",
    Kind.BOOL: "true or false",
    Kind.STRING: "a name or text",
    Kind.DTYPE: "an element type",
    Kind.DIMS: "a list such as [1, 2]",
}


class Evaluates(Protocol):
    """What argument binding asks of the evaluator."""

    scope: Scope
    report: Report
    graph: Graph | None

    def value(self, expression: Expression) -> AnyValue: ...


@dataclass(frozen=True, slots=True)
class Piped:
    """The value that stands before `|>`, and where."""

    value: AnyValue
    span: Span


class Arguments:
    """The arguments of one call, bound to the inputs and attributes of its operator.

    All arguments are evaluated and all errors reported; `are_complete` is false if there was one.
    `others` are the tensors of a variadic input after its first, `open` the numbers that only a check lacks.
    """

    def __init__(
        self, operator: Operator | None, call: Call, piped: Piped | None, evaluator: Evaluates
    ) -> None:
        self.are_complete = True
        self._has_unknown = False
        self.tensors: dict[str, Value | float] = {}
        self.others: list[Value | float] = []
        self.attributes: dict[str, AttrValue] = {}
        self.open: dict[str, Dim | Unknown] = {}
        self._places: dict[str, Span] = {}
        self._call = call
        self._evaluator = evaluator
        self._callee = operator
        self._piped = piped

    def bind(self) -> None:
        """Evaluates the arguments. Not part of construction: CPython 3.12 counts each constructor that is
        under way against a C stack of its own, which nested calls would use up."""
        operator, call, piped, evaluator = self._callee, self._call, self._piped, self._evaluator
        if operator is None:
            for argument in call.arguments:
                if isinstance(argument.value, Sizes):  # of tensors, perhaps
                    evaluator.scope.mark_read(names_in(argument.value))
                elif not isinstance(argument.value, Name) or argument.value.text in evaluator.scope:
                    evaluator.value(argument.value)
            self.are_complete = False
            return
        self._operator = operator
        self._inputs = [i for i in operator.inputs if i.role is Role.TENSOR]
        # One that makes weights reads their sizes from its tensors.
        makes_weights = any(i.role in (Role.PARAM, Role.BUFFER) for i in operator.inputs)
        self._takes_numbers = len(self._inputs) > 1 and not makes_weights
        self._attributes = [a for a in operator.attributes if not (operator.random and a.name == "offset")]
        if piped is not None:
            self._try_positional(None, piped)
        for argument in call.arguments:
            self._try_positional(argument, None) if argument.name is None else self._named(
                argument, argument.name
            )
        if not self._has_unknown:  # a misspelt name is not a missing argument, too
            self._require_all()

    @property
    def operands(self) -> Operands:
        """What was bound. Only if it is complete."""
        return Operands(self.tensors, self.others, self.attributes, self.open, self._places)

    def _fail(self, error: EsperError, span: Span) -> None:
        self._evaluator.report.add(error, span)
        self.are_complete = False

    def _is_given(self, name: str) -> bool:
        return name in self.tensors or name in self.attributes

    def _try_positional(self, argument: Argument | None, piped: Piped | None) -> None:
        slots: list[Input | Attribute] = [*self._inputs, *self._attributes]
        slot = next((s for s in slots if not self._is_given(s.name) or _is_variadic(s)), None)
        if slot is None:
            count = len(slots)
            expected = f"{count} argument{'s' if count != 1 else ''}"
            span = argument.span if argument is not None else self._call.span
            self._fail(TooManyArguments(operator=self._operator.name, expected=expected), span)
        else:
            self._bind(slot, argument, piped)

    def _named(self, argument: Argument, name: Name) -> None:
        slots: list[Input | Attribute] = [*self._inputs, *self._attributes]
        slot = next((s for s in slots if s.name == name.text), None)
        if slot is None:
            known = [s.name for s in slots]
            suggestion = argument_meant(name.text, known)
            error = UnknownArgument(operator=self._operator.name, name=name.text, suggestion=suggestion)
            self._fail(error, name.span)
            self._has_unknown = True
            self._evaluator.value(argument.value)
        elif self._is_given(name.text):
            self._fail(DuplicateArgument(operator=self._operator.name, name=name.text), name.span)
        else:
            self._bind(slot, argument, None)

    def _bind(self, slot: Input | Attribute, argument: Argument | None, piped: Piped | None) -> None:
        span = argument.span if argument is not None else (piped.span if piped else self._call.span)
        try:
            if isinstance(slot, Attribute):
                self.attributes[slot.name] = self._attribute(slot, argument, piped)
            elif slot.name in self.tensors:
                self.others.append(self._tensor(slot, argument, piped))
                self._places.pop(slot.name, None)  # the operator's name for them stands for several
            else:
                self.tensors[slot.name] = self._tensor(slot, argument, piped)
                self._places[slot.name] = span if argument is None else argument.value.span
        except EsperError as error:
            self._fail(error, span)
            self._mark(slot)
        except _Poisoned:
            self.are_complete = False
            self._mark(slot)

    def _mark(self, slot: Input | Attribute) -> None:
        """Counts the slot as filled, so that one error does not make a second one."""
        if isinstance(slot, Attribute):
            self.attributes[slot.name] = 0
        else:
            self.tensors.setdefault(slot.name, 0.0)

    def _given(self, argument: Argument | None, piped: Piped | None) -> AnyValue:
        if piped is not None:
            return piped.value
        assert argument is not None
        return self._evaluator.value(argument.value)

    def _tensor(self, slot: Input, argument: Argument | None, piped: Piped | None) -> Value | float:
        value = self._given(argument, piped)
        if isinstance(value, Poison):
            raise _Poisoned
        if isinstance(value, Value):
            return value
        if isinstance(value, int | float) and not isinstance(value, bool) and self._takes_numbers:
            return float(value)
        suggestion = "arguments after the tensors are named" if slot.variadic else ""
        raise ExpectedTensor(
            where=f"`{slot.name}` of `{self._operator.name}`", found=describe(value), suggestion=suggestion
        )

    def _attribute(self, slot: Attribute, argument: Argument | None, piped: Piped | None) -> AttrValue:
        name = argument.value if argument is not None and isinstance(argument.value, Name) else None
        if slot.kind is Kind.DTYPE and name is not None:
            is_bound = name.text in self._evaluator.scope and name.text not in DType._value2member_map_
            if is_bound and isinstance(self._evaluator.scope.read(name), Poison):
                raise _Poisoned
            return element_type(name, self._evaluator.scope)
        if slot.kind is Kind.STRING and name is not None and name.text not in self._evaluator.scope:
            return self._choice(slot, name.text)
        value = self._given(argument, piped)
        if isinstance(value, Poison):
            raise _Poisoned
        if isinstance(value, str) and slot.kind is Kind.STRING:
            return self._choice(slot, value)
        converted = None if isinstance(value, Value) else self._converted(slot, value)
        if converted is None:
            is_fraction = slot.kind in (Kind.DIM, Kind.INT) and isinstance(value, float | Unknown)
            raise WrongArgumentKind(
                operator=self._operator.name,
                name=slot.name,
                found=describe(value),
                expected=_expected(slot, value),
                suggestion="`/` makes a fraction; `//` divides whole numbers" if is_fraction else None,
            )
        return converted

    def _choice(self, slot: Attribute, text: str) -> str:
        choices = slot.choices
        if slot.name == "init":
            initialisers = OPERATORS["param"].attribute("init")
            choices = initialisers.choices if initialisers is not None else ()
        if choices and text not in choices:
            raise WrongArgumentKind(
                operator=self._operator.name,
                name=slot.name,
                found=f"`{text}`",
                expected=f"one of {', '.join(choices)}",
            )
        return text

    def _converted(self, slot: Attribute, value: Static) -> AttrValue | None:
        match slot.kind:
            case Kind.DIM if (
                isinstance(value, int | Dim)
                and is_size(value)
                and (isinstance(value, Dim) or 1 <= value <= MAX_SIZE)
            ):
                graph = self._evaluator.graph
                assert graph is not None
                graph.note_size(value)
                return value
            case Kind.INT if isinstance(value, int) and not isinstance(value, bool):
                return value
            case Kind.FLOAT if isinstance(value, int | float) and not isinstance(value, bool):
                return None if slot.positive and value <= 0 else float(value)
            case Kind.BOOL if isinstance(value, bool):
                return value
            case Kind.DIMS if isinstance(value, tuple):
                return value
            case Kind.DIMS if isinstance(value, int | Dim) and is_size(value):
                return (value,)
            case Kind.INT | Kind.FLOAT if isinstance(value, Dim | Unknown):
                return self._left_open(slot, value)
            case Kind.BOOL if isinstance(value, Unknown):
                return self._left_open(slot, value)
            case _:
                return None

    def _left_open(self, slot: Attribute, value: Dim | Unknown) -> AttrValue:
        """Notes a number that only a check lacks, in whose place nothing is read. Raises `Undecided`."""
        graph = self._evaluator.graph
        assert graph is not None
        graph.leave_open(value)
        self.open[slot.name] = value
        return False

    def _require_all(self) -> None:
        for slot in self._inputs:
            if not slot.optional and not slot.variadic and not self._is_given(slot.name):
                doc = slot.doc or "a tensor"
                self._fail(
                    MissingArgument(operator=self._operator.name, name=slot.name, doc=doc), self._call.span
                )
        for attribute in self._attributes:
            if attribute.default is REQUIRED and not self._is_given(attribute.name):
                doc = attribute.doc or _KINDS[attribute.kind]
                self._fail(
                    MissingArgument(operator=self._operator.name, name=attribute.name, doc=doc),
                    self._call.span,
                )


def _expected(slot: Attribute, value: AnyValue) -> str:
    """What `slot` takes in the place of `value`."""
    if slot.kind is Kind.DIM and isinstance(value, int) and value > MAX_SIZE:
        return f"a size of at most {MAX_SIZE}"
    return "a number above 0" if slot.positive else _KINDS[slot.kind]


def _is_variadic(slot: Input | Attribute) -> bool:
    return isinstance(slot, Input) and slot.variadic


class _Poisoned(Exception):
    """An argument holds an error that was already reported."""


def element_type(name: Name, scope: Scope) -> DType:
    """The element type that `name` spells, or a parameter holds. Raises `UnknownElementType`."""
    if name.text in scope and isinstance(held := scope.read(name), DType):
        return held
    known = [dtype.value for dtype in DType]
    if name.text not in known:
        raise UnknownElementType(
            name=name.text,
            expected=", ".join(known),
            suggestion=element_type_meant(name.text, known),
            span=name.span,
        )
    return DType(name.text)
