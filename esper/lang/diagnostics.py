"""Diagnostics: what was found in a source, where, and the way out, as values that any front end can show.

A `Report` collects them in one run and drops repetitions at one place, so that one mistake is told once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from esper.errors import EsperError, Span
from esper.lang.errors import TooManyErrors, TooManyWarnings

MAX_DIAGNOSTICS = 200
"""The most errors, and the most warnings, that are shown."""

MAX_NOTES = 8  # the innermost, and the outermost
MAX_TEXT = 600  # characters of a message: names and types may be of any length


@dataclass(frozen=True, slots=True)
class Note:
    """A second place that explains the first: `declared here`."""

    message: str
    span: Span


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One finding. The severity follows from the code: E… is an error, W… a warning."""

    code: str
    message: str
    span: Span
    help: str = ""
    notes: tuple[Note, ...] = ()

    @property
    def severity(self) -> str:
        return "warning" if self.code.startswith("W") else "error"

    @property
    def is_error(self) -> bool:
        return self.severity == "error"


@dataclass(slots=True)
class Report:
    """The diagnostics of one source, in the order of their places.

    spelling: how sizes print -> how the user wrote them, applied to messages. errors: how many were added,
    those that repeat another one among them.
    """

    file: str
    spelling: dict[str, str] = field(default_factory=dict)
    errors: int = 0
    _found: dict[tuple[str, int, int, int, int, str], Diagnostic] = field(default_factory=dict)
    _shown: dict[bool, int] = field(default_factory=lambda: {True: 0, False: 0})  # errors and warnings
    _outer: list[Note] = field(default_factory=list)

    @contextmanager
    def within(self, note: Note) -> Iterator[None]:
        """Inside, every diagnostic bears `note`: where the blueprint that it is about was called."""
        self._outer.append(note)
        try:
            yield
        finally:
            self._outer.pop()

    def add(self, error: EsperError, span: Span | None = None, notes: Iterable[Note] = ()) -> None:
        """Records `error` at its own span, else at `span`, else at the top of the file.

        What a call finds in the blueprint of another file is told at the call, where it can be mended.
        An error may bring notes of its own as its detail `notes`.
        """
        is_error = error.code.startswith("E")
        self.errors += is_error
        if self._shown[is_error] > MAX_DIAGNOSTICS:
            return
        place = error.span or span or Span(self.file, 1, 1, 1, 1)
        if self._shown[is_error] == MAX_DIAGNOSTICS:
            too_many = TooManyErrors if is_error else TooManyWarnings
            error, notes = too_many(limit=MAX_DIAGNOSTICS), ()
        # A second syntax error at one place is the first one seen from another side.
        kind = "syntax" if error.code.startswith("E01") else error.code
        message, help_text = (
            _clipped(in_spelling(text, self.spelling)) for text in (str(error), error.help_text)
        )
        origin = place
        notes = (*error.details.get("notes", ()), *notes)
        calls = [note for note in reversed(self._outer) if not _encloses(note.span, place)]
        if place.file != self.file:
            own = next((index for index, call in enumerate(calls) if call.span.file == self.file), None)
            if own is not None:
                notes = (*notes, Note("found here", place), *calls[:own])
                place, calls = calls[own].span, calls[own + 1 :]
        notes = (*notes, *calls)
        if len(notes) > MAX_NOTES:
            notes = (*notes[: MAX_NOTES - 1], notes[-1])
        diagnostic = Diagnostic(error.code, message, place, help_text, notes)
        key = (place.file, place.line, place.column, origin.line, origin.column, kind)
        found = self._found.setdefault(key, diagnostic)
        self._shown[is_error] += found is diagnostic

    @property
    def is_full(self) -> bool:
        """Whether further errors are dropped."""
        return self._shown[True] > MAX_DIAGNOSTICS

    @property
    def diagnostics(self) -> list[Diagnostic]:
        """In the order of their places, those of the report's own file first."""
        return sorted(
            self._found.values(),
            key=lambda d: (d.span.file != self.file, d.span.file, d.span.line, d.span.column, d.code),
        )

    @property
    def has_errors(self) -> bool:
        return any(diagnostic.is_error for diagnostic in self._found.values())


def _clipped(text: str) -> str:
    half = MAX_TEXT // 2
    return text if len(text) <= MAX_TEXT else f"{text[:half]}…{text[-half:]}"


def _encloses(outer: Span, inner: Span) -> bool:
    start, end = (outer.line, outer.column), (outer.end_line, outer.end_column)
    is_within = start <= (inner.line, inner.column) and (inner.end_line, inner.end_column) <= end
    return outer.file == inner.file and is_within


def in_spelling(text: str, spelling: Mapping[str, str]) -> str:
    """`text` with sizes as the user wrote them."""
    for printed, written in spelling.items():
        text = _spelled(text, printed, written)
    return text


def _spelled(message: str, printed: str, written: str) -> str:
    """`message` with `written` for `printed`, and `2*written` for twice as many of what `printed` is 4 of."""
    factor, _, rest = printed.partition("*")
    if not factor.isdecimal():
        return message.replace(f"({printed})", written).replace(printed, written)

    def spelled(match: re.Match[str]) -> str:
        count, remainder = divmod(int(match[1]), int(factor))
        return match[0] if remainder else written if count == 1 else f"{count}*{written}"

    return re.sub(rf"\b(\d+)\*{re.escape(rest)}", spelled, message)


class BlueprintRejected(EsperError):
    """A blueprint with errors cannot be lowered: `diagnostics` holds them all, `span` is the first one's."""

    code = "E0400"
    message = "{text}"

    def __init__(self, *, span: Span | None = None, text: str, diagnostics: tuple[Diagnostic, ...]) -> None:
        super().__init__(span=span, text=text, diagnostics=diagnostics)
        self.diagnostics = diagnostics
