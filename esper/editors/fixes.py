"""Repairs of a document that its diagnostics suggest: `did you mean` as an edit."""

from __future__ import annotations

import re
from dataclasses import dataclass

from esper.editors.analysis import Analysis
from esper.lang import Diagnostic

_QUESTION = re.compile(r"did you mean `([^`]+)`\?")
_FOUND = re.compile(r"`([^`]+)`")


@dataclass(frozen=True, slots=True)
class Fix:
    """Puts `text` in place of what stands from `start` to `end`, in code points."""

    title: str
    diagnostic: Diagnostic
    start: int
    end: int
    text: str


def fixes(analysis: Analysis, start: int, end: int) -> list[Fix]:
    """The fixes for the diagnostics that touch the stretch from `start` to `end`."""
    source = analysis.source
    found: list[Fix] = []
    for diagnostic in analysis.insight.diagnostics:
        span, meant = diagnostic.span, _QUESTION.search(diagnostic.help)
        if meant is None or span.file != source.file:
            continue
        first, last = source.offset(span.line, span.column), source.offset(span.end_line, span.end_column)
        stretch = source.text[first:last]
        for written in _FOUND.findall(diagnostic.message):
            places = [match.start() for match in re.finditer(rf"(?<!\w){re.escape(written)}(?!\w)", stretch)]
            if len(places) == 1 and first <= end and start <= last:
                at = first + places[0]
                title = f"change `{written}` to `{meant[1]}`"
                found.append(Fix(title, diagnostic, at, at + len(written), meant[1]))
                break
    return found
