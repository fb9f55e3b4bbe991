"""What can be called, in one shape: operators of the table and blueprints, with their arguments."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

from esper.errors import Span
from esper.ir.operator import OPERATORS, REQUIRED, Attribute, Kind, Operator, Role
from esper.ir.types import DType
from esper.lang import Source
from esper.lang.ast import Blueprint, Domain, Input, Name, Output, Parameter, Text
from esper.lang.evaluate import language_operators
from esper.lang.parameters import KINDS, all_parameters
from esper.lang.units import Definition, Unit
from esper.lang.values import shown

_KINDS = {Kind.DIM: "size", Kind.DIMS: "list of sizes"}
DTYPES = tuple(dtype.value for dtype in DType)
TRUTHS = ("true", "false")


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument. kind: `tensor`, or what static value it takes. values: what it may be, if that is a list.

    default: as the source would write it; None where it has to be given.
    """

    name: str
    kind: str
    doc: str = ""
    default: str | None = None
    values: tuple[str, ...] = ()
    span: Span | None = None

    @property
    def is_tensor(self) -> bool:
        return self.kind == "tensor"


@dataclass(frozen=True, slots=True)
class Callee:
    """Something that a call names. `span` is where a blueprint's name stands; an operator has none."""

    name: str
    doc: str
    arguments: tuple[Argument, ...]
    results: tuple[str, ...]
    span: Span | None = None

    @property
    def signature(self) -> str:
        """For example `dropout(x, p=0.5) -> result`."""
        arguments = [a.name if a.default is None else f"{a.name}={a.default}" for a in self.arguments]
        return f"{self.name}({', '.join(arguments)}) -> {', '.join(self.results)}"

    @property
    def summary(self) -> str:
        """The first sentence of the documentation."""
        return re.split(r"(?<=[.:;])\s", self.doc, maxsplit=1)[0]

    def argument(self, name: str) -> Argument | None:
        return next((argument for argument in self.arguments if argument.name == name), None)


def operator_callee(entry: Operator) -> Callee:
    """What a blueprint's source may write of an operator: tensors, then static arguments."""
    tensors = [
        Argument(f"{i.name}…" if i.variadic else i.name, "tensor", i.doc, "…" if i.optional else None)
        for i in entry.inputs
        if i.role is Role.TENSOR
    ]
    attributes = [_attribute(a) for a in entry.attributes if not (entry.random and a.name == "offset")]
    results = tuple(f"{name}…" if entry.variadic_results else name for name in entry.results)
    return Callee(entry.name, entry.doc, (*tensors, *attributes), results)


def _attribute(attribute: Attribute) -> Argument:
    values = attribute.choices
    if attribute.name == "init" and not values:
        initialisers = OPERATORS["param"].attribute("init")
        values = initialisers.choices if initialisers is not None else ()
    if attribute.kind is Kind.DTYPE:
        values = DTYPES
    if attribute.kind is Kind.BOOL:
        values = TRUTHS
    kind = _KINDS.get(attribute.kind, attribute.kind.value)
    return Argument(attribute.name, kind, attribute.doc, _default(attribute), values)


def _default(attribute: Attribute) -> str | None:
    value = attribute.default
    if value is REQUIRED:
        return None
    if isinstance(value, str):
        return value or "…"
    if isinstance(value, bool | int | float | DType):
        return shown(value)
    return "…" if not value else f"[{', '.join(map(str, value))}]" if isinstance(value, tuple) else str(value)


def blueprint_callee(definition: Definition) -> Callee:
    """A blueprint as its callers see it: inputs, then parameters."""
    blueprint, source = definition.blueprint, definition.unit.source
    inputs = [
        Argument(
            statement.name.text,
            "tensor",
            f"an input, `{text_of(source, statement.type)}`",
            span=statement.name.span,
        )
        for statement in blueprint.body
        if isinstance(statement, Input)
    ]
    parameters = [parameter_argument(source, parameter) for parameter in all_parameters(blueprint)]
    results = [
        "result" if statement.name is None else statement.name.text
        for statement in blueprint.body
        if isinstance(statement, Output)
    ]
    arguments = (*inputs, *parameters)
    return Callee(blueprint.name.text, blueprint.doc, arguments, tuple(results), blueprint.name.span)


def parameter_argument(source: Source, parameter: Parameter) -> Argument:
    kind = parameter.kind.text
    values: tuple[str, ...] = {"bool": TRUTHS, "dtype": DTYPES}.get(kind, ())
    choices = parameter.domain.choices if isinstance(parameter.domain, Domain) else ()
    if kind == "choice":
        values = tuple(choice.value for choice in choices if isinstance(choice, Text))
    elif kind in ("op", "dtype") and choices:
        values = tuple(choice.text for choice in choices if isinstance(choice, Name))
    elif kind == "op":
        values = tuple(language_operators())
    default = None if parameter.default is None else text_of(source, parameter.default)
    if kind == "choice":
        default = values[0] if values else None
    return Argument(parameter.name.text, kind, parameter.doc, default, values, parameter.name.span)


def kind_text(kind: str) -> str:
    """What a parameter of `kind` holds, or the kind of an operator's argument itself."""
    return KINDS.get(kind, kind)


class Spanned(Protocol):
    """A part of the syntax tree."""

    @property
    def span(self) -> Span: ...


def text_of(source: Source, node: Spanned) -> str:
    """The source of a part of the syntax tree, on one line."""
    start = source.offset(node.span.line, node.span.column)
    end = source.offset(node.span.end_line, node.span.end_column)
    return re.sub(r"\s+", " ", source.text[start:end])


def named_callee(unit: Unit, blueprint: Blueprint | None, name: str) -> Callee | None:
    """What a call of `name` in `blueprint` calls: a blueprint, an operator, or that of an `op` parameter."""
    parameter = next((p for p in blueprint.parameters if p.name.text == name), None) if blueprint else None
    if parameter is not None and parameter.kind.text == "op":
        default = parameter.default
        entry = OPERATORS.get(default.text) if isinstance(default, Name) else None
        return operator_callee(entry) if entry is not None and entry.in_language else None
    if name in unit.callable:
        return blueprint_callee(unit.callable[name])
    entry = OPERATORS.get(name)
    return operator_callee(entry) if entry is not None and entry.in_language else None
