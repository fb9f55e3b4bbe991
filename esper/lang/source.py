"""Reading a source: its text and lines, its comments, and the characters that no token can start with.

Comments and stray characters are found by one regular expression before Lark sees the text, so that
Lark's lexer never fails and several stray characters are reported in one run.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from stat import S_ISREG

from esper.errors import Span
from esper.lang.diagnostics import Report
from esper.lang.elsewhere import library_names
from esper.lang.errors import (
    BinaryFile,
    FileIsDirectory,
    FileMissing,
    FileTooLarge,
    FileUnreadable,
    IllegalCharacter,
    NoMeaning,
    NotUtf8,
    UnclosedText,
)
from esper.lang.mistakes import CHARACTERS, OTHER_CHARACTER, dotted_way_out, number_way_out
from esper.lang.names import closest

MAX_BYTES = 4 * 1024 * 1024

DOTTED = r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)+"
NUMBER_ELSEWHERE = (
    r"[0-9]+\.(?![0-9.])|\.[0-9]+"
    r"|[0-9]+(?:_[0-9]+)+(?![A-Za-z0-9_])|0[xX][0-9A-Fa-f]+(?![A-Za-z0-9_])"
)
"""Names with parts, and numbers that other languages know: no tokens here, and told as what they are."""

_PIECE = re.compile(
    r'(?P<text>"(?:\\[^\n]|[^"\\\n])*")'
    r"|(?P<comment>\#[^\n]*)"
    r'|(?P<open>"[^\n]*)'
    rf"|(?P<dotted>{DOTTED})"
    rf"|(?P<number>{NUMBER_ELSEWHERE})"
    r"|(?P<fine>[A-Za-z_][A-Za-z0-9_]*|[0-9]+(?:\.[0-9]+)?|[ \t\r\n()\[\]{}:,+\-*/%@<>=]+|\.\.\.?|\|>|!=)"
    r"|(?P<stray>&&|\|\||[\u00a0\u2000-\u200b\u202f\u3000]+|.)",
    re.DOTALL,
)


@dataclass(frozen=True)
class Source:
    """A file's name and text."""

    file: str
    text: str

    @cached_property
    def lines(self) -> list[str]:
        """The lines without their ends; only a newline ends one."""
        return [line.rstrip("\r") for line in self.text.split("\n")]

    @cached_property
    def _starts(self) -> list[int]:
        return [0, *(match.end() for match in re.finditer("\n", self.text))]

    def position(self, offset: int) -> tuple[int, int]:
        """Line and column, from 1, of the character at `offset`."""
        line = bisect_right(self._starts, offset)
        return line, offset - self._starts[line - 1] + 1

    def offset(self, line: int, column: int) -> int:
        """Where in the text line and column (from 1) are."""
        return self._starts[line - 1] + column - 1

    def span(self, start: int, end: int) -> Span:
        return Span(self.file, *self.position(start), *self.position(end))


@dataclass(frozen=True, slots=True)
class Documentation:
    """One `##` line; `alone` if nothing but white space stands before it."""

    span: Span
    text: str
    alone: bool


def read_source(path: Path) -> tuple[Source, Report]:
    """The source in `path`, UTF-8 with or without a byte order mark; empty if the report says why."""
    file = str(path)
    report = Report(file)
    empty = Source(file, "")
    try:
        if path.is_dir():
            report.add(FileIsDirectory(path=file))
            return empty, report
        status = path.stat()
        if not S_ISREG(status.st_mode):  # a pipe may never end, nor even begin
            report.add(FileUnreadable(path=file, reason="it is a device, a pipe or a socket"))
            return empty, report
        if status.st_size > MAX_BYTES:
            report.add(FileTooLarge(limit=MAX_BYTES))
            return empty, report
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        report.add(FileMissing(path=file, suggestion=_instead_of(path)))
        return empty, report
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        report.add(FileUnreadable(path=file, reason=reason))
        return empty, report
    return decode_source(file, data)


def _instead_of(path: Path) -> str:
    """The way out where there is no file: one beside it with a name much like it, or the library's."""
    if str(path) == "-":
        return "a file is named here: `esperc fmt -` alone reads from stdin"
    if str(path) in library_names():
        return f"a blueprint of the library is called so: `esperc templates {path}` shows it"
    beside = {found.stem: found for found in path.parent.glob("*.esp")} if path.parent.is_dir() else {}
    similar = closest(path.stem, beside)
    if similar is not None:
        return f"did you mean `{beside[similar]}`?"
    return ""


def decode_source(file: str, data: bytes) -> tuple[Source, Report]:
    """The source that `data`, the contents of `file`, spells; empty if the report says why."""
    report = Report(file)
    if len(data) > MAX_BYTES:
        report.add(FileTooLarge(limit=MAX_BYTES))
        return Source(file, ""), report
    if _is_utf16(data):
        report.add(NotUtf8(reason="this is UTF-16"))
        return Source(file, ""), report
    if b"\0" in data:
        report.add(BinaryFile())
        return Source(file, ""), report
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8-sig", errors="replace")
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        reason = f"the byte 0x{data[error.start]:02x} is not UTF-8"
        report.add(NotUtf8(reason=reason, span=Span(file, line, column, line, column + 1)))
        return Source(file, ""), report
    if "\n" not in text:
        text = text.replace("\r", "\n")  # the line ends of old Macintoshes
    return Source(file, text), report


def _is_utf16(data: bytes) -> bool:
    """Whether `data` has the byte order mark of UTF-16, or a zero in nearly every second byte."""
    few, many = sorted((data[0::2].count(0), data[1::2].count(0)))
    is_wide = len(data) > 3 and many > len(data) * 0.45 and few < len(data) * 0.05
    return is_wide or data.startswith((b"\xff\xfe", b"\xfe\xff"))


def scan(source: Source, report: Report) -> tuple[str, list[Documentation]]:
    """The text with stray characters blanked out, each reported, and the documentation lines.

    There is no text if that is more than a report holds.
    """
    blanks: list[tuple[int, int]] = []
    documentation: list[Documentation] = []
    for match in _PIECE.finditer(source.text):
        if report.is_full:
            return "", documentation
        start, end = match.span()
        match match.lastgroup:
            case "comment" if match.group().startswith("##"):
                line, column = source.position(start)
                alone = not source.lines[line - 1][: column - 1].strip()
                text = match.group().lstrip("#").strip()
                documentation.append(Documentation(source.span(start, end), text, alone))
            case "open":
                report.add(UnclosedText(span=source.span(start, end)))
                blanks.append((start, end))
            case "dotted" | "number" as kind:
                line, column = source.position(start)
                around = source.lines[line - 1][: column - 1], source.text[end : end + 1]
                found, span = match.group(), source.span(start, end)
                way_out = number_way_out(found) if kind == "number" else dotted_way_out(found, *around)
                report.add(NoMeaning(found=found, way_out=way_out, span=span))
                blanks.append((start, end))
            case "stray":
                character = match.group()
                is_space = character.isspace() or character[0] == "\u200b"
                way_out = CHARACTERS.get("\u00a0" if is_space else character, OTHER_CHARACTER)
                span, found = source.span(start, end), _shown(character[0] if is_space else character)
                report.add(IllegalCharacter(character=found, way_out=way_out, span=span))
                blanks.append((start, end))
            case _:
                pass
    if not blanks:
        return source.text, documentation
    pieces: list[str] = []
    last = 0
    for start, end in blanks:
        pieces += [source.text[last:start], " " * (end - start)]
        last = end
    return "".join([*pieces, source.text[last:]]), documentation


def _shown(character: str) -> str:
    return f"`{character}`" if character.isprintable() else f"the character U+{ord(character):04X}"
