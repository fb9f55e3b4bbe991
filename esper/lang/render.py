"""Showing diagnostics: as text with the line and a caret, as JSON, as SARIF 2.1.0, as GitHub annotations."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from importlib.resources.abc import Traversable
from unicodedata import combining, east_asian_width
from urllib.parse import quote

from esper.errors import Span
from esper.lang.diagnostics import Diagnostic
from esper.lang.source import Source
from esper.resources import explanations

SCHEMA_VERSION = 1
SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
MAX_LINE = 160

_UNSEEN = (
    *range(0x80, 0xA0),
    0x61C,
    *range(0x200B, 0x2010),
    *range(0x2028, 0x202F),
    *range(0x2060, 0x2070),
    0xFEFF,
)
_VISIBLE = {code: 0x2400 + code for code in range(0x20) if chr(code) not in "\t\n"}
_VISIBLE |= {0x7F: 0x2421} | dict.fromkeys(_UNSEEN, 0xFFFD)
"""One visible character for each that would steer a terminal, or turn the direction of a line."""


def as_text(diagnostics: Iterable[Diagnostic], sources: Mapping[str, Source]) -> str:
    """One block a diagnostic: `FILE:LINE:COLUMN: severity[CODE]: message`, the line, carets, the way out."""
    return "".join(_block(diagnostic, sources) for diagnostic in diagnostics)


def _block(diagnostic: Diagnostic, sources: Mapping[str, Source]) -> str:
    span = diagnostic.span
    lines = [f"{_place(span)}: {diagnostic.severity}[{diagnostic.code}]: {diagnostic.message}"]
    lines += _excerpt(span, sources)
    if diagnostic.help:
        lines.append(f"  help: {diagnostic.help}")
    for note in diagnostic.notes:
        lines.append(f"{_place(note.span)}: note: {note.message}")
        lines += _excerpt(note.span, sources)
    return "\n".join(lines).translate(_VISIBLE) + "\n"


def _place(span: Span) -> str:
    return f"{span.file}:{span.line}:{span.column}"


def _excerpt(span: Span, sources: Mapping[str, Source]) -> list[str]:
    """The first line of `span` with carets under it; long lines are shown around the place."""
    source = sources.get(span.file)
    if source is None or span.line > len(source.lines) or not source.text:
        return []
    line = source.lines[span.line - 1]
    start = span.column - 1
    end = span.end_column - 1 if span.end_line == span.line else len(line.rstrip())
    skipped = max(0, start - MAX_LINE // 2) if len(line) > MAX_LINE else 0
    line, start, end = line[skipped : skipped + MAX_LINE], start - skipped, min(end - skipped, MAX_LINE)
    indent = "".join("\t" if character == "\t" else " " * _width(character) for character in line[:start])
    return [f"  {line}", f"  {indent}{'^' * max(1, sum(map(_width, line[start:end])))}"]


def _width(character: str) -> int:
    """How many columns of a terminal `character` takes."""
    return 0 if combining(character) else 2 if east_asian_width(character) in "WF" else 1


def as_records(diagnostics: Iterable[Diagnostic]) -> list[dict[str, object]]:
    """Plain dictionaries with the fields of the JSON form."""
    return [
        {
            "code": diagnostic.code,
            "severity": diagnostic.severity,
            "message": diagnostic.message,
            "file": diagnostic.span.file,
            "line": diagnostic.span.line,
            "column": diagnostic.span.column,
            "end_line": diagnostic.span.end_line,
            "end_column": diagnostic.span.end_column,
            "help": diagnostic.help,
        }
        for diagnostic in diagnostics
    ]


def as_json(diagnostics: Iterable[Diagnostic]) -> str:
    """One JSON document."""
    return (
        json.dumps({"schema_version": SCHEMA_VERSION, "diagnostics": as_records(diagnostics)}, indent=2)
        + "\n"
    )


def as_sarif(diagnostics: Iterable[Diagnostic], version: str) -> str:
    """A SARIF 2.1.0 log with one run."""
    found, pages = list(diagnostics), explanations()
    rules = {code: index for index, code in enumerate(sorted({diagnostic.code for diagnostic in found}))}
    driver = {
        "name": "esperc",
        "version": version,
        "rules": [_sarif_rule(code, pages.get(code)) for code in rules],
    }
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "results": [_sarif_result(diagnostic, rules[diagnostic.code]) for diagnostic in found],
    }
    return json.dumps({"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2) + "\n"


def _sarif_rule(code: str, page: Traversable | None) -> dict[str, object]:
    """What a code means, by the first line of its page: `# E0101: a name that is none`."""
    if page is None:
        return {"id": code}
    title = page.read_text(encoding="utf-8").partition("\n")[0].partition(": ")[2]
    help = {"text": f"`esperc explain {code}` tells more"}
    return {"id": code, "shortDescription": {"text": title}, "help": help}


def _sarif_result(diagnostic: Diagnostic, rule: int) -> dict[str, object]:
    help = f"\n{diagnostic.help}" if diagnostic.help else ""
    return {
        "ruleId": diagnostic.code,
        "ruleIndex": rule,
        "level": diagnostic.severity,
        "message": {"text": diagnostic.message + help},
        "locations": [_sarif_location(diagnostic.span)],
        "relatedLocations": [
            {**_sarif_location(note.span), "message": {"text": note.message}}
            for note in dict.fromkeys(diagnostic.notes)
        ],
    }


def _sarif_location(span: Span) -> dict[str, object]:
    region = {
        "startLine": span.line,
        "startColumn": span.column,
        "endLine": span.end_line,
        "endColumn": span.end_column,
    }
    uri = quote(span.file.replace(os.sep, "/"), errors="surrogateescape")  # a name need not be UTF-8
    return {"physicalLocation": {"artifactLocation": {"uri": uri}, "region": region}}


def as_github(diagnostics: Iterable[Diagnostic]) -> str:
    """One workflow command a diagnostic."""
    return "".join(
        f"::{diagnostic.severity} file={_property(diagnostic.span.file)},line={diagnostic.span.line},"
        f"col={diagnostic.span.column},endLine={diagnostic.span.end_line},endColumn={diagnostic.span.end_column},"
        f"title={diagnostic.code}::{_data(diagnostic.message)}\n"
        for diagnostic in diagnostics
    )


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
