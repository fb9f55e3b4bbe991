"""Writing chosen values into a source: other defaults, with comments and layout as they were."""

from __future__ import annotations

from collections.abc import Mapping

from esper.errors import Span
from esper.lang.ast import Blueprint, Input, Parameter
from esper.lang.diagnostics import Report
from esper.lang.errors import SeveralBlueprints, UnknownBlueprint, UnknownKind
from esper.lang.library import reject
from esper.lang.names import did_you_mean
from esper.lang.parameters import KINDS, ParameterValue, conform, inward, require_known
from esper.lang.parse import parse
from esper.lang.source import Source
from esper.lang.values import shown


def rewrite_defaults(
    text: str,
    values: Mapping[str, ParameterValue],
    *,
    name: str | None = None,
    file: str = "<source>",
    precision: str | None = None,
) -> str:
    """`text` with the defaults of the parameters in `values` replaced.

    name: which blueprint, if there are several. Operators are given by name. precision: f32, bf16 or f16, the
        dtype of the inputs declared f32.
    Raises `BlueprintRejected` for errors in the syntax, `SeveralBlueprints`, `UnknownBlueprint`,
    `UnknownParameter`, and `WrongParameterKind` and its like for a value that the parameter cannot have.
    """
    source = Source(file, text)
    report = Report(file)
    program = parse(source, report)
    reject(report, source)
    blueprint = _chosen(program.blueprints, name, file)
    require_known(blueprint, values)
    edits: list[tuple[int, int, str]] = []

    def replace(span: Span, replacement: str) -> None:
        start, end = source.offset(span.line, span.column), source.offset(span.end_line, span.end_column)
        edits.append((start, end, replacement))

    for parameter in blueprint.parameters:
        if parameter.name.text not in values:
            continue
        value = _spelled(parameter, values[parameter.name.text])
        if parameter.default is not None:
            replace(parameter.default.span, value)
        else:
            kind = parameter.kind.span
            end = source.offset(kind.end_line, kind.end_column)
            edits.append((end, end, f" = {value}"))
    for statement in blueprint.body:
        if precision is not None and isinstance(statement, Input) and statement.type.dtype.text == "f32":
            replace(statement.type.dtype.span, precision)
    for start, end, value in sorted(edits, reverse=True):
        text = text[:start] + value + text[end:]
    return text


def _chosen(blueprints: tuple[Blueprint, ...], name: str | None, file: str) -> Blueprint:
    names = [blueprint.name.text for blueprint in blueprints]
    if name is None:
        if len(names) > 1:
            raise SeveralBlueprints(where=f"`{file}`", names=", ".join(names))
        return blueprints[0]
    if name not in names:
        suggestion = did_you_mean(name, names, f"it has {', '.join(names)}")
        raise UnknownBlueprint(name=name, where=f"`{file}`", suggestion=suggestion)
    return blueprints[names.index(name)]


def _spelled(parameter: Parameter, value: ParameterValue) -> str:
    """How a source writes `value`; raises what `conform` and `inward` raise for one of another kind."""
    if parameter.kind.text not in KINDS:
        raise UnknownKind(name=parameter.kind.text, suggestion=did_you_mean(parameter.kind.text, KINDS))
    return shown(conform(parameter, inward(parameter, value)))
