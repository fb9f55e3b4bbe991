"""Positions of the language server protocol: lines from 0, and columns in the code units of an encoding.

The compiler counts code points and takes a newline alone for the end of a line; the protocol counts UTF-16
units unless both sides agree on another encoding, and takes `\\r\\n` and `\\r` for ends of lines as well.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property

from esper.errors import Span
from esper.lang import Source

_LINE_END = re.compile(r"\r\n|\n|\r")


@dataclass(frozen=True)
class Positions:
    """Converts between offsets in a source, in code points, and the protocol's (line, column).

    encoding: utf-8, utf-16 or utf-32.
    """

    source: Source
    encoding: str = "utf-16"

    @cached_property
    def _ends(self) -> list[tuple[int, int]]:
        """Where each line ends, and where the next one starts."""
        return [match.span() for match in _LINE_END.finditer(self.source.text)]

    @cached_property
    def _starts(self) -> list[int]:
        return [0, *(after for _, after in self._ends)]

    def position(self, offset: int) -> tuple[int, int]:
        """The position of the character at `offset`."""
        line = bisect_right(self._starts, offset) - 1
        return line, self._units(self.source.text[self._starts[line] : offset])

    def offset(self, line: int, column: int) -> int:
        """The offset of a position; one past the end of its line or of the text stands for that end."""
        if line >= len(self._starts):
            return len(self.source.text)
        end = self._ends[line][0] if line < len(self._ends) else len(self.source.text)
        text = self.source.text[self._starts[line] : end]
        if self.encoding == "utf-32" or text[:column].isascii():
            return self._starts[line] + min(column, len(text))
        units = 0
        for index, character in enumerate(text):
            units += self._units(character)
            if units > column:
                return self._starts[line] + index
        return end

    def range(self, span: Span) -> tuple[tuple[int, int], tuple[int, int]]:
        """The positions at which `span`, of this source, starts and ends."""
        return self.position(self.start_of(span)), self.position(self.end_of(span))

    def start_of(self, span: Span) -> int:
        return self._clamped(span.line, span.column)

    def end_of(self, span: Span) -> int:
        return self._clamped(span.end_line, span.end_column)

    def _clamped(self, line: int, column: int) -> int:
        text = self.source.text
        return (
            min(self.source.offset(line, column), len(text)) if line <= len(self.source.lines) else len(text)
        )

    def _units(self, text: str) -> int:
        if self.encoding == "utf-32" or text.isascii():
            return len(text)
        if self.encoding == "utf-8":
            return len(text.encode("utf-8", "surrogatepass"))
        return len(text) + sum(character > "\uffff" for character in text)
