"""Writing chosen values into a source: other defaults, with comments and layout as they were."""

from __future__ import annotations

from collections.abc import Mapping

from esper.errors import Span
from esper.lang.ast import Blueprint, Choice, Parameter, Precision, expressions_in
from esper.lang.diagnostics import Report
from esper.lang.errors import OutOfDomain, SeveralBlueprints, UnknownBlueprint
from esper.lang.library import reject
from esper.lang.names import did_you_mean
from esper.lang.parameters import KINDS, ParameterValue, conform, inward, require_known, unknown_kind
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
    """`text` with other defaults, from `values`; a chosen branch comes first in its choice.

    name: which blueprint, if there are several. Operators are given by name. precision: f32, bf16 or f16, as
        a `precision` statement.
    Raises `BlueprintRejected` for errors in the syntax, `SeveralBlueprints`, `UnknownBlueprint`,
    `UnknownParameter`, and `WrongParameterKind` and its like for a value that the parameter cannot have.
    """
    source = Source(file, text)
    report = Report(file)
    program = parse(source, report)
    reject(report, {source.file: source})
    blueprint = _chosen(program.blueprints, name, file)
    require_known(blueprint, values)
    edits = _Edits(source)
    for parameter in blueprint.parameters:
        if parameter.name.text not in values:
            continue
        value = _spelled(parameter, values[parameter.name.text])
        if parameter.default is not None:
            edits.replace(parameter.default.span, value)
        else:
            edits.insert(parameter.kind.span.end_line, parameter.kind.span.end_column, f" = {value}")
    choices = [found for found in expressions_in(blueprint.body) if isinstance(found, Choice)]
    for choice in reversed(choices):  # those inside others first
        if choice.name.text in values:
            parameter = next(p for p in blueprint.choices if p.name.text == choice.name.text)
            named = conform(parameter, inward(parameter, values[choice.name.text]))
            best = next((branch for branch in choice.branches if branch.name.text == named), None)
            if best is None:
                listed = ", ".join(branch.name.text for branch in choice.branches)
                raise OutOfDomain(name=choice.name.text, value=named, domain=f"{{{listed}}}", suggestion="")
            edits.swap(choice.branches[0].span, best.span)
    if precision is not None:
        stated = next((found for found in blueprint.body if isinstance(found, Precision)), None)
        if stated is not None:
            edits.replace(stated.dtype.span, precision)
        else:
            first = blueprint.body[0].span
            edits.insert(first.line, first.column, f"precision {precision}\n{' ' * (first.column - 1)}")
    return edits.applied(0, len(text))


class _Edits:
    """Replacements of stretches of a source, by offsets."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.found: list[tuple[int, int, str]] = []

    def insert(self, line: int, column: int, text: str) -> None:
        offset = self.source.offset(line, column)
        self.found.append((offset, offset, text))

    def replace(self, span: Span, text: str) -> None:
        self.found.append((*self._offsets(span), text))

    def swap(self, one: Span, other: Span) -> None:
        """Puts each in the other's place, with the edits inside it."""
        if one == other:
            return
        places = [self._offsets(one), self._offsets(other)]
        texts = [self.applied(*place) for place in places]
        self.found = [
            edit for edit in self.found if not any(s <= edit[0] and edit[1] <= e for s, e in places)
        ]
        self.found += [(*place, text) for place, text in zip(places, reversed(texts), strict=True)]

    def applied(self, start: int, end: int) -> str:
        """The text from `start` to `end` with the edits inside."""
        pieces: list[str] = []
        at = start
        for first, last, text in sorted(edit for edit in self.found if start <= edit[0] and edit[1] <= end):
            pieces += [self.source.text[at:first], text]
            at = last
        return "".join([*pieces, self.source.text[at:end]])

    def _offsets(self, span: Span) -> tuple[int, int]:
        return (
            self.source.offset(span.line, span.column),
            self.source.offset(span.end_line, span.end_column),
        )


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
        raise unknown_kind(parameter.kind.text)
    return shown(conform(parameter, inward(parameter, value)))
