"""The symbols of a document: its blueprints, with their parameters, inputs and outputs."""

from __future__ import annotations

from dataclasses import dataclass

from esper.editors.analysis import Analysis
from esper.editors.callees import text_of
from esper.errors import Span
from esper.lang.ast import Blueprint, Input, Output


@dataclass(frozen=True, slots=True)
class Symbol:
    """One symbol. kind: blueprint, parameter, input or output. `name_span` lies within `span`."""

    name: str
    kind: str
    detail: str
    span: Span
    name_span: Span
    children: tuple[Symbol, ...] = ()


def outline(analysis: Analysis) -> list[Symbol]:
    """The blueprints that could be read, in the order of the source."""
    return [_blueprint(analysis, blueprint) for blueprint in analysis.program.blueprints]


def _blueprint(analysis: Analysis, blueprint: Blueprint) -> Symbol:
    children: list[Symbol] = []
    for parameter in blueprint.parameters:
        detail = text_of(analysis.source, parameter).partition(":")[2].strip()
        children.append(Symbol(parameter.name.text, "parameter", detail, parameter.span, parameter.name.span))
    for statement in blueprint.body:
        match statement:
            case Input(name=name, type=type):
                detail = text_of(analysis.source, type)
                children.append(Symbol(name.text, "input", detail, statement.span, name.span))
            case Output(name=None):
                children.append(Symbol("result", "output", "", statement.span, statement.span))
            case Output(name=name) if name is not None:
                children.append(Symbol(name.text, "output", "", statement.span, name.span))
            case _:
                pass
    summary = blueprint.doc.split("\n", 1)[0]
    return Symbol(
        blueprint.name.text, "blueprint", summary, blueprint.span, blueprint.name.span, tuple(children)
    )
