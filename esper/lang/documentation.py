"""Attaching `##` documentation: to the blueprint or parameter below it, or the parameter before it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from esper.errors import Span
from esper.lang.ast import Blueprint, Parameter
from esper.lang.diagnostics import Report
from esper.lang.errors import StrayDocumentation
from esper.lang.source import Documentation


def attach(
    blueprints: Iterable[Blueprint],
    documentation: Iterable[Documentation],
    lines: Sequence[str],
    report: Report,
) -> list[Blueprint]:
    """`blueprints` with their documentation; what belongs to nothing is reported. lines: the source's."""
    above = {line.span.line: line for line in documentation if line.alone}
    behind = {line.span.line: line for line in documentation if not line.alone}
    used: set[int] = set()

    def text_above(line: int) -> str:
        lines: list[str] = []
        while line - 1 in above:
            line -= 1
            lines.append(above[line].text)
            used.add(line)
        return "\n".join(reversed(lines))

    def text_behind(span: Span) -> str:
        line = behind.get(span.end_line)
        if line is None or lines[span.end_line - 1][span.end_column - 1 : line.span.column - 1].strip(
            " \t,)"
        ):
            return ""
        used.add(span.end_line)
        return line.text

    def documented(parameter: Parameter, before: int) -> Parameter:
        """before: the line in which what stands before it ends."""
        over = text_above(parameter.span.line) if parameter.span.line != before else ""
        doc = "\n".join(filter(None, (over, text_behind(parameter.span))))
        return replace(parameter, doc=doc) if doc else parameter

    result = []
    for blueprint in blueprints:
        ends = [blueprint.name.span.end_line, *(p.span.end_line for p in blueprint.parameters)]
        parameters = tuple(map(documented, blueprint.parameters, ends))
        doc = text_above(blueprint.span.line)
        result.append(replace(blueprint, doc=doc, parameters=parameters))
    for line in (above | behind).values():
        if line.span.line not in used:
            report.add(StrayDocumentation(span=line.span))
    return result
