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

    def documented(parameter: Parameter, before: int, after: int) -> Parameter:
        """before: the line in which what stands before it ends; after: that in which the next begins."""
        line, end = parameter.span.line, parameter.span.end_line
        doc = text_above(line) if line != before else ""
        if end in behind and end != after:
            used.add(end)
            doc = f"{doc}\n{behind[end].text}" if doc else behind[end].text
        return replace(parameter, doc=doc) if doc else parameter

    result = []
    for blueprint in blueprints:
        ends = [blueprint.name.span.end_line, *(p.span.end_line for p in blueprint.parameters)]
        begins = [*(p.span.line for p in blueprint.parameters[1:]), 0]
        parameters = tuple(map(documented, blueprint.parameters, ends, begins))
        doc = text_above(blueprint.span.line)
        result.append(replace(blueprint, doc=doc, parameters=parameters))
    for line in (above | behind).values():
        if line.span.line not in used:
            report.add(StrayDocumentation(span=line.span))
    return result
