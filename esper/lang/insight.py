"""What is known of a source once it was checked, for whoever shows it while it is being written.

Nothing stops at a mistake: the tree holds what could be read, and the types what could be elaborated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from esper.lang.ast import Program
from esper.lang.diagnostics import Diagnostic, Report
from esper.lang.errors import FileTooLarge
from esper.lang.lower import check_unit
from esper.lang.parse import parse
from esper.lang.scope import Place
from esper.lang.source import MAX_BYTES, Source
from esper.lang.units import Unit, parsed_unit, report_names


@dataclass(frozen=True, slots=True)
class Insight:
    """A source with all that `check` says of it.

    texts: by the place of a name that is bound, its type or value; by that of a name that is called, the
    types of the results. An empty text stands for an error. has_syntax: whether all of it could be read.
    """

    unit: Unit
    diagnostics: tuple[Diagnostic, ...]
    texts: Mapping[Place, tuple[str, ...]]
    has_syntax: bool

    @property
    def source(self) -> Source:
        return self.unit.source


def inspect_source(source: Source) -> Insight:
    """`source` checked, its imports read from beside the file that it names; raises nothing."""
    report = Report(source.file)
    if len(source.text.encode("utf-8", "replace")) > MAX_BYTES:
        report.add(FileTooLarge(limit=MAX_BYTES))
        empty = Unit(Program(source.file, ()), source, sources={source.file: source})
        return Insight(empty, tuple(report.diagnostics), {}, False)
    program = parse(source, report)
    has_syntax = not report.has_errors
    report_names(program, report)
    unit, report = parsed_unit(source, program, report)
    elaborated = check_unit(unit, report)
    texts = {place: text for one in elaborated for place, text in one.found.texts().items()}
    return Insight(unit, tuple(report.diagnostics), texts, has_syntax)
