"""Attaching `##` documentation: to the blueprint or parameter below it, or the parameter before it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from esper.lang.ast import Blueprint, Parameter
from esper.lang.diagnostics import Report
from esper.lang.errors import StrayDocumentation
from esper.lang.source import Documentation


def attach(
    blueprints: Iterable[Blueprint], documentation: Iterable[Documentation], report: Report
) -> list[Blueprint]:
    """`blueprints` with their documentation; a line that belongs to nothing is reported."""
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

    def documented(parameter: Parameter) -> Parameter:
        doc = text_above(parameter.span.line)
        end = parameter.span.end_line
        if end in behind:
            used.add(end)
            doc = f"{doc}\n{behind[end].text}" if doc else behind[end].text
        return replace(parameter, doc=doc) if doc else parameter

    result = [
        replace(
            blueprint,
            doc=text_above(blueprint.span.line),
            parameters=tuple(map(documented, blueprint.parameters)),
        )
        for blueprint in blueprints
    ]
    for line in (above | behind).values():
        if line.span.line not in used:
            report.add(StrayDocumentation(span=line.span))
    return result
