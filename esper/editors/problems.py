"""What is wrong with a document, as an editor shows it: all of it at places in that document."""

from __future__ import annotations

from dataclasses import dataclass

from esper.editors.analysis import Analysis
from esper.errors import Span
from esper.lang import Diagnostic, Note
from esper.lang.errors import Unused


@dataclass(frozen=True, slots=True)
class Problem:
    """A finding at `span`, in the document; `related` places may lie in other files."""

    span: Span
    is_error: bool
    code: str
    message: str
    related: tuple[Note, ...]

    @property
    def is_unused(self) -> bool:
        """Whether what stands there may be removed."""
        return self.code == Unused.code


def problems(analysis: Analysis) -> list[Problem]:
    """The diagnostics of a document, in the order of their places, each with its way out.

    What is wrong in a blueprint of another file is shown at the call that leads there, else at the top.
    """
    return [_problem(analysis.source.file, diagnostic) for diagnostic in analysis.insight.diagnostics]


def _problem(file: str, found: Diagnostic) -> Problem:
    message = f"{found.message}\nhelp: {found.help}" if found.help else found.message
    if found.span.file == file:
        return Problem(found.span, found.is_error, found.code, message, found.notes)
    here = next((note.span for note in found.notes if note.span.file == file), Span(file, 1, 1, 1, 1))
    there = (Note(found.message, found.span), *found.notes)
    related = tuple(note for note in there if note.span != here)
    return Problem(here, found.is_error, found.code, message, related)
