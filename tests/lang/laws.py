"""What holds for any bytes that somebody takes for a blueprint file.

Reading, parsing, elaboration, layout and rendering end, in bounded time, with diagnostics that point into the
text. Hypothesis draws inputs for this law in `test_mutations.py`, and `python -m benchmarks.fuzz_language`
feeds it those that a coverage-guided fuzzer makes.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from types import FrameType
from typing import Any

from esper.ir.text import print_ir
from esper.lang import (
    Diagnostic,
    Program,
    as_github,
    as_json,
    as_sarif,
    as_text,
    format_source,
    parse_source,
    statements,
)
from esper.lang.diagnostics import Report
from esper.lang.elaborate import elaborate
from esper.lang.nesting import deep_recursion
from esper.lang.settings import Settings
from esper.lang.source import Source, decode_source
from esper.lang.units import source_unit

FILE = "nowhere/input.esp"  # a folder that is not there, so that no mutated import finds a file
SECONDS = 2.0
STATEMENTS = 2000  # elaborated in all, in place of the limit that a text which repeats for ever reaches late


class TooSlow(Exception):
    """One input took more than its share of processor time."""


@contextmanager
def processor_time(seconds: float) -> Iterator[None]:
    """Raises `TooSlow` where the block computes longer; time that other processes take does not count."""

    def ring(_signal: int, _frame: FrameType | None) -> None:
        raise TooSlow(f"more than {seconds} s of processor time")

    before = signal.signal(signal.SIGVTALRM, ring)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


@contextmanager
def few_statements() -> Iterator[None]:
    """Elaboration gives up after `STATEMENTS`, as it does after a hundred times as many otherwise."""
    before = statements.MAX_STATEMENTS
    statements.MAX_STATEMENTS = STATEMENTS
    try:
        yield
    finally:
        statements.MAX_STATEMENTS = before


def meaning(node: Any) -> Any:
    """A syntax tree without its places."""
    if isinstance(node, tuple):
        return tuple(map(meaning, node))
    if is_dataclass(node) and not isinstance(node, type):
        kept = [field.name for field in fields(node) if field.name not in ("span", "place")]
        return type(node).__name__, *(meaning(getattr(node, name)) for name in kept)
    return node


def require_treated(data: bytes) -> str:
    """How far `data` came: `unreadable`, `syntax`, `rejected` or `accepted`. Raises where a law is broken."""
    source, report = decode_source(FILE, data)
    if report.has_errors:
        _require_shown(report, Source(FILE, data.decode("utf-8-sig", errors="replace")))
        return "unreadable"
    unit, report = source_unit(source)
    has_syntax = not any(diagnostic.code.startswith("E01") for diagnostic in report.diagnostics)
    with few_statements():
        for blueprint in unit.program.blueprints:
            elaborate(unit, blueprint, Settings(symbolic=True), report)
    _require_shown(report, source)
    if not has_syntax:
        return "syntax"
    _require_one_layout(source, unit.program)
    return "rejected" if report.has_errors else "accepted"


def _require_shown(report: Report, source: Source) -> None:
    found = report.diagnostics
    for diagnostic in found:
        span = diagnostic.span
        assert span.file == source.file, diagnostic
        assert 1 <= span.line <= len(source.lines), diagnostic
        assert (span.line, span.column) <= (span.end_line, span.end_column), diagnostic
    assert as_text(found, {source.file: source}).count("\n") >= len(found)
    assert len(json.loads(as_json(found))["diagnostics"]) == len(found)
    assert len(json.loads(as_sarif(found, "0"))["runs"][0]["results"]) == len(found)
    assert as_github(found).count("\n") == len(found)


def _require_one_layout(source: Source, program: Program) -> None:
    once = format_source(source)
    assert format_source(Source(source.file, once)) == once, "laid out twice, it differs"
    after, _ = parse_source(once, source.file)
    with deep_recursion():
        assert meaning(after) == meaning(program), "laid out, it means something else"


def elaborated(text: str) -> tuple[list[str], list[Diagnostic]]:
    """The graphs of all blueprints of a source, as text, and what is wrong with it."""
    unit, report = source_unit(Source(FILE, text))
    with few_statements():
        found = [elaborate(unit, b, Settings(symbolic=True), report).ir for b in unit.program.blueprints]
    return [print_ir(ir) for ir in found if ir is not None], report.diagnostics
