"""The one layout of a source: four spaces a level, a line for each statement, comments where they were.

Statements are printed from the syntax tree; literals and grouping parentheses are the source's. Up to one
blank line between statements is kept. A statement with a comment inside its expression keeps its lines.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from esper.errors import Span
from esper.lang.ast import Blueprint, Domain, If, Import, Parameter, Program, Range, Repeat, Statement
from esper.lang.diagnostics import Report
from esper.lang.errors import FileUnreadable
from esper.lang.expression_layout import Layout
from esper.lang.library import reject
from esper.lang.nesting import deep_recursion
from esper.lang.parse import parse, tokens_of
from esper.lang.source import MAX_BYTES, Source, decode_source, read_source

INDENT = "    "
_COMMENT = re.compile(r'"(?:\\[^\n]|[^"\\\n])*"|(#[^\n]*)')


def format_file(path: Path | None) -> tuple[Source, str]:
    """The source in `path`, or on stdin if that is None, and its layout.

    Raises `BlueprintRejected`, and `FileUnreadable` where stdin is closed.
    """
    if path is None:
        if sys.stdin is None:
            raise FileUnreadable(path="<stdin>", reason="it is closed")
        source, report = decode_source("<stdin>", sys.stdin.buffer.read(MAX_BYTES + 1))
    else:
        source, report = read_source(path)
    reject(report, {source.file: source})
    return source, format_source(source)


def format_source(source: Source) -> str:
    """`source` in the one layout. Raises `BlueprintRejected` for errors in its syntax."""
    report = Report(source.file)
    program = parse(source, report)
    reject(report, {source.file: source})
    return format_program(source, program)


def format_program(source: Source, program: Program) -> str:
    """The layout of `program`, to which `source` was parsed without an error."""
    items: list[Import | Blueprint] = [*program.imports, *program.blueprints]
    with deep_recursion():
        return _Printer(source).printed(sorted(items, key=lambda item: (item.span.line, item.span.column)))


@dataclass(frozen=True, slots=True)
class _Comment:
    offset: int
    line: int
    text: str
    is_alone: bool


class _Printer:
    """Prints from the top; `comments` holds those that are not printed yet."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.layout = Layout(source)
        self.lines: list[str] = []
        self.comments = _comments(source)
        self.braces = _braces(source)
        self.last_line = 0  # of the source, that was printed
        self.is_first = True  # in its block
        self.widths: dict[int, int] = {}  # of the code before a comment, by line

    def printed(self, items: Sequence[Import | Blueprint]) -> str:
        for position, item in enumerate(items):
            if position and isinstance(item, Blueprint) | isinstance(items[position - 1], Blueprint):
                self._separate(item)
            self._comments_before(self._offset(item.span), "")
            if isinstance(item, Import):
                self._gap(item.span.line)
                self._print(f"import {self.layout.text(item.source)}", item.span)
            else:
                self._blueprint(item)
        self._comments_before(len(self.source.text) + 1, "")
        return "\n".join(self.lines).strip("\n") + "\n"

    def _separate(self, item: Import | Blueprint) -> None:
        """One blank line between blueprints, before the comments that belong to the second."""
        if self.lines and self.lines[-1]:
            self.lines.append("")
        self.is_first = True

    def _blueprint(self, blueprint: Blueprint) -> None:
        self._gap(blueprint.span.line)
        opening = self._brace_after(self._end(blueprint.name.span), among_parameters=blueprint)
        closing = self.braces[opening]
        end_of_header = self.source.position(opening)[0]
        parameters = [self._parameter(parameter) for parameter in blueprint.parameters]
        flat = f"blueprint {blueprint.name.text}({', '.join(parameters)}) {{"
        header = self.source.text[self._offset(blueprint.span) : opening]
        wants_lines = re.search(r",\s*\)\s*$", header) is not None
        has_comments = any(comment.offset < opening for comment in self.comments)
        if self.layout.fits(flat) and not wants_lines and not has_comments:
            self.lines.append(flat)
        else:
            self.lines.append(f"blueprint {blueprint.name.text}(")
            self._demote(self._end(blueprint.name.span), alone=True)
            self.last_line, self.is_first = blueprint.span.line, True
            first = self._offset(blueprint.parameters[0].span) if parameters else opening
            self._trailing(self._line_end(blueprint.name.span.end_line), below=first)
            before = len(self.lines)
            for parameter, text in zip(blueprint.parameters, parameters, strict=True):
                self._demote(self._offset(parameter.span), alone=False)  # behind a comma on its own line
                self._comments_before(self._offset(parameter.span), INDENT)
                self._demote(self._end(parameter.span), alone=True)
                self._comments_before(self._end(parameter.span), INDENT)
                self._gap(parameter.span.line)
                self._print(f"{INDENT}{text},", parameter.span)
            self._comments_before(opening, INDENT)
            self._align_comments(before)
            self.lines.append(") {")
        self._body(blueprint.body, closing, "", end_of_header)

    def _align_comments(self, before: int) -> None:
        """Puts the comments behind the lines from `before` on into one column."""
        widths = {index: width for index, width in self.widths.items() if index >= before}
        for index, width in widths.items():
            line = self.lines[index]
            self.lines[index] = line[:width].ljust(max(widths.values())) + line[width:]

    def _parameter(self, parameter: Parameter) -> str:
        text = f"{parameter.name.text}: {parameter.kind.text}"
        if parameter.default is not None:
            text += f" = {self.layout.flat(parameter.default)}"
        match parameter.domain:
            case Domain(choices=choices):
                text += f" in {{{', '.join(map(self.layout.flat, choices))}}}"
            case Range(low=low, high=high, step=step, scale=scale):
                text += f" in {self.layout.flat(low)}..{self.layout.flat(high)}"
                text += "" if step is None else f" step {self.layout.flat(step)}"
                text += "" if scale is None else f" {scale.text}"
            case None:
                pass
        return text

    def _body(self, statements: Sequence[Statement], closing: int, indent: str, line: int) -> None:
        """The statements of a block whose brace opened in `line`, and its closing brace."""
        self.last_line, self.is_first = line, True
        first = self._offset(statements[0].span) if statements else closing
        self._trailing(self._line_end(line), below=first)
        for statement in statements:
            self._comments_before(self._offset(statement.span), indent + INDENT)
            self._gap(statement.span.line)
            self._statement(statement, indent + INDENT)
        self._comments_before(closing, indent + INDENT)
        self.lines.append(f"{indent}}}")
        self.last_line, self.is_first = self.source.position(closing)[0], False
        self._trailing(closing + 1)

    def _statement(self, statement: Statement, indent: str) -> None:
        if isinstance(statement, Repeat):
            self._block(statement, statement.count.span, indent)
        elif isinstance(statement, If):
            self._conditional(statement, indent)
        else:
            self._simple(statement, indent)

    def _block(self, statement: Repeat, header: Span, indent: str) -> None:
        opening = self._brace_after(self._end(header))
        self._lines_of(self.layout.repeat(statement), indent)
        self._body(statement.body, self.braces[opening], indent, self.source.position(opening)[0])

    def _conditional(self, statement: If, indent: str, lead: str = "") -> None:
        opening = self._brace_after(self._end(statement.condition.span))
        closing = self.braces[opening]
        self._lines_of([f"{lead}if {self.layout.flat(statement.condition)} {{"], indent)
        self._body(statement.body, closing, indent, self.source.position(opening)[0])
        follows = re.match(r"(?:\s|#[^\n]*)*else\b", self.source.text[closing + 1 :])
        if follows is None:
            return
        rest = closing + 1 + follows.end()
        nested = statement.otherwise[0] if statement.otherwise else None
        self._comments_before(rest, indent)
        lead = f"{self.lines.pop().strip()} else " if self.lines[-1] == f"{indent}}}" else "else "
        if isinstance(nested, If) and self.source.text[rest : self._offset(nested.span)].strip() == "":
            self._conditional(nested, indent, lead)
            return
        second = self._brace_after(rest)
        self._lines_of([f"{lead}{{"], indent)
        self._body(statement.otherwise, self.braces[second], indent, self.source.position(second)[0])

    def _simple(self, statement: Statement, indent: str) -> None:
        start, end = self._offset(statement.span), self._end(statement.span)
        inside = [comment for comment in self.comments if start < comment.offset < end]
        if inside:
            self.comments = [comment for comment in self.comments if comment not in inside]
            self._lines_of(_kept(self.source.text[start:end]), indent)
        else:
            self._lines_of(self.layout.statement(statement, len(indent)), indent)
        self.last_line, self.is_first = statement.span.end_line, False
        self._trailing(end)

    def _lines_of(self, lines: Iterable[str], indent: str) -> None:
        self.lines += [(indent + line).rstrip() for line in lines]

    def _print(self, line: str, span: Span) -> None:
        self.lines.append(line)
        self.last_line, self.is_first = span.end_line, False
        self._trailing(self._end(span))

    def _gap(self, line: int) -> None:
        """Keeps one blank line of those before `line`; none opens a block."""
        if not self.is_first and line > self.last_line + 1:
            self.lines.append("")

    def _comments_before(self, offset: int, indent: str) -> None:
        """Prints, a line each, the comments that stand before `offset`."""
        while self.comments and self.comments[0].offset < offset:
            comment = self.comments.pop(0)
            self._gap(comment.line)
            self.lines.append(f"{indent}{comment.text}")
            self.last_line, self.is_first = comment.line, False

    def _demote(self, offset: int, *, alone: bool) -> None:
        """Comments before `offset` lose a `##` that documents nothing, if asked those that stand alone, too:
        above the parameter, where they are printed, it would document that."""
        self.comments = [
            replace(found, text=f"#{found.text.lstrip('#')}")
            if found.offset < offset and (alone or not found.is_alone)
            else found
            for found in self.comments
        ]

    def _trailing(self, offset: int, below: int | None = None) -> None:
        """Puts a comment that follows `offset` on its line behind what was printed last."""
        if not self.comments:
            return
        comment = self.comments[0]
        line = self.source.position(min(offset, len(self.source.text)))[0]
        if comment.line == line and not comment.is_alone and (below is None or comment.offset < below):
            between = self.source.text[offset : comment.offset] if offset <= comment.offset else ""
            if between.strip(" \t,)") == "":
                self.comments.pop(0)
                self.widths[len(self.lines) - 1] = len(self.lines[-1])
                self.lines[-1] += f"  {comment.text}"

    def _brace_after(self, offset: int, among_parameters: Blueprint | None = None) -> int:
        """Where the brace of a block opens: the first after `offset`, and after a blueprint's parameters."""
        if among_parameters is not None:
            for parameter in among_parameters.parameters:
                offset = max(offset, self._end(parameter.span))
        return min(opening for opening in self.braces if opening >= offset)

    def _line_end(self, line: int) -> int:
        """Where code ends in `line`: before its comment, or at its end."""
        start = self.source.offset(line, 1)
        text = self.source.lines[line - 1]
        comment = next((found for found in self.comments if found.line == line), None)
        stop = len(text) if comment is None else comment.offset - start
        return start + len(text[:stop].rstrip())

    def _offset(self, span: Span) -> int:
        return self.source.offset(span.line, span.column)

    def _end(self, span: Span) -> int:
        return self.source.offset(span.end_line, span.end_column)


def _comments(source: Source) -> list[_Comment]:
    found: list[_Comment] = []
    for match in _COMMENT.finditer(source.text):
        if match.group(1) is not None:
            line, column = source.position(match.start())
            is_alone = not source.lines[line - 1][: column - 1].strip()
            found.append(_Comment(match.start(), line, match.group(1).rstrip(), is_alone))
    return found


def _braces(source: Source) -> dict[int, int]:
    """Where each `{` that no bracket precedes on its level stands, and where its `}` does."""
    pairs: dict[int, int] = {}
    opened: list[int] = []
    for token in tokens_of(source.text):
        assert token.start_pos is not None
        if token.type == "LBRACE":
            opened.append(token.start_pos)
        elif token.type == "RBRACE":
            pairs[opened.pop()] = token.start_pos
    return pairs


def _kept(text: str) -> list[str]:
    """The lines of a statement as they stand, continued ones one level in, closing brackets back."""
    first, *rest = (line.strip() for line in text.split("\n"))
    return [first, *(line if line[:1] in (")", "]", "}") else INDENT + line for line in rest if line)]
