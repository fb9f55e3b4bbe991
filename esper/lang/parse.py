"""From source text to the syntax tree, past syntax errors where a next statement can be found.

Tokens are fed to Lark's LALR(1) parser one by one. On an error the parser's stack is cut back to the
blueprint's body (or parameter list) and the tokens are skipped to the next statement (or parameter), so
that mistakes in two statements are both told. What was skipped is remembered as `damaged` names.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from lark import Lark, Token
from lark.exceptions import UnexpectedToken as LarkUnexpectedToken
from lark.parsers.lalr_analysis import Shift

from esper.errors import EsperError
from esper.lang.ast import Blueprint, Import, Program
from esper.lang.diagnostics import Report
from esper.lang.documentation import attach
from esper.lang.errors import EmptyFile, LineContinues, NestingTooDeep, UnclosedBracket
from esper.lang.grammar_table import GRAMMAR, TABLE, parser
from esper.lang.keywords import STATEMENT_STARTS
from esper.lang.landmarks import (
    GOES_ON,
    binds,
    declares,
    lacks_a_value,
    resembles_statement,
    stands_beside_a_value,
    starts_line,
    starts_line_anew,
    starts_statement,
    type_at,
)
from esper.lang.nesting import MAX_NESTING
from esper.lang.recognize import recognized, state_of
from esper.lang.source import Source, scan
from esper.lang.syntax import explain
from esper.lang.tree import FILE, span_of
from esper.resources import grammar_text

_CLOSING = {"LPAR": "RPAR", "LSQB": "RSQB", "LBRACE": "RBRACE"}
_SPELLED = {"RPAR": ")", "RSQB": "]", "RBRACE": "}"}
_BODY_STARTS = STATEMENT_STARTS | {"LBRACE", "RBRACE", "BLUEPRINT", "$END"}


@cache
def grammar() -> Lark:
    """The parser, made once a process."""
    with _without_collection():
        return parser(grammar_text(GRAMMAR), grammar_text(TABLE))


def parse(source: Source, report: Report) -> Program:
    """The program in `source`; what is wrong with it goes to `report`, and nothing is raised."""
    text, documentation = scan(source, report)
    reset = FILE.set(source.file)
    try:
        stray_lines = {diagnostic.span.line for diagnostic in report.diagnostics}
        with _without_collection():
            items = _Driver(tokens_of(text), report, stray_lines=stray_lines).run()
    finally:
        FILE.reset(reset)
    blueprints = [item for item in items if isinstance(item, Blueprint)]
    imports = tuple(item for item in items if isinstance(item, Import))
    if not blueprints and not report.has_errors:
        report.add(EmptyFile())
    return Program(source.file, tuple(attach(blueprints, documentation, source.lines, report)), imports)


def tokens_of(text: str) -> list[Token]:
    """All tokens of `text`. `Lark.lex` would compile the lexer's expressions again for each file."""
    scanning = grammar().parse_interactive(text)
    return list(scanning.lexer_thread.lex(scanning.parser_state))


@contextmanager
def _without_collection() -> Iterator[None]:
    """Tokens and trees refer to nothing that refers back: the collector would walk a growing file in vain."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@dataclass(slots=True)
class _Bracket:
    """An open bracket. is_body: whether statements stand in it; statement: where the one around it starts."""

    token: Token
    index: int
    base: int  # height of the parser's stack just after the bracket
    is_body: bool
    statement: int | None


@dataclass
class _Driver:
    """Feeds tokens, keeps the open brackets, and finds where to go on after an error."""

    tokens: list[Token]
    report: Report
    brackets: list[_Bracket] = field(default_factory=list)
    header: Token | None = None
    statement: int | None = None  # index of the first token of the statement being read
    stray_lines: set[int] = field(default_factory=set)
    damage: dict[tuple[int | None, int | None], set[str]] = field(default_factory=dict)

    def run(self) -> list[Import | Blueprint]:
        self.interactive = grammar().parse_interactive()
        self.state = self.interactive.parser_state
        end = (
            Token.new_borrow_pos("$END", "", self.tokens[-1])
            if self.tokens
            else Token("$END", "", 0, 1, 1, 1, 1)
        )
        self.tokens.append(end)
        index = 0
        while index < len(self.tokens):
            token = self.tokens[index]
            self._refuse_continued_line(index)
            try:
                if len(self.brackets) > MAX_NESTING:
                    raise NestingTooDeep(limit=MAX_NESTING, span=span_of(token))
                result = self.state.feed_token(token, token.type == "$END")
            except (LarkUnexpectedToken, EsperError) as error:
                self._tell(index, error)
                if self.report.is_full:
                    return []
                index = self._recover(index)
            else:
                self._note(index)
                index += 1
        items: list[Import | Blueprint] = result
        return [self._with_damage(item) if isinstance(item, Blueprint) else item for item in items]

    def _with_damage(self, blueprint: Blueprint) -> Blueprint:
        names = self.damage.get((blueprint.span.line, blueprint.span.column))
        return blueprint if names is None else replace(blueprint, damaged=frozenset(names))

    def _type(self, index: int) -> str:
        return type_at(self.tokens, index)

    def _note(self, index: int) -> None:
        """Keeps brackets, header and statement up to date after a token was taken."""
        token = self.tokens[index]
        if token.type in _CLOSING:
            is_body = token.type == "LBRACE" and self._opens_body(index)
            height = len(self.state.state_stack)
            self.brackets.append(_Bracket(token, index, height, is_body, self.statement))
        elif token.type in _SPELLED:
            self.statement = self.brackets.pop().statement
        elif not self.brackets and token.type == "BLUEPRINT":
            self.header = token
        elif (
            self._among_statements
            and self._type(index - 1) != "COMMA"
            and starts_statement(self.tokens, index)
        ):
            self.statement = index

    def _opens_body(self, index: int) -> bool:
        """Whether the brace at `index` opens a blueprint's body or a block, not a domain or a choice."""
        if not self.brackets:
            return True
        return self.brackets[-1].is_body and self._type(index - 2) != "CHOICE"

    @property
    def _among_statements(self) -> bool:
        return bool(self.brackets) and self.brackets[-1].is_body

    @property
    def _in_body(self) -> bool:
        return bool(self.brackets) and self.brackets[0].token.type == "LBRACE"

    def _refuse_continued_line(self, index: int) -> None:
        token = self.tokens[index]
        if token.type not in ("LPAR", "MINUS") or not self._among_statements:
            return
        if starts_line(self.tokens, index) and self._type(index - 1) not in GOES_ON:
            self.report.add(LineContinues(token=str(token), span=span_of(token)))

    def _tell(self, index: int, error: LarkUnexpectedToken | EsperError) -> None:
        if isinstance(error, EsperError):
            self.report.add(error)
            return
        token = self.tokens[index]
        if {token.line, self.tokens[max(0, index - 1)].line} & self.stray_lines:
            return  # what the stray character hides is not known
        if self.brackets and self._cannot_stand_in_brackets(index):
            opening = self.brackets[-1].token
            if not opening:
                return  # the brace was supplied
            found = "the end of the file" if token.type == "$END" else f"`{token}`"
            closing = _SPELLED[_CLOSING[opening.type]]
            self.report.add(
                UnclosedBracket(bracket=str(opening), found=found, closing=closing, span=span_of(opening))
            )
            return
        in_parameters = bool(self.brackets) and not self._in_body
        accepted = frozenset(map(str, self.interactive.accepts()))
        state, acted_on = state_of(self.state)
        mistake = recognized(grammar(), self.tokens, index, state, acted_on)
        statement = None if self.statement is None else self.tokens[self.statement]
        self.report.add(explain(self.tokens, index, accepted, mistake, statement, in_parameters))

    def _cannot_stand_in_brackets(self, index: int) -> bool:
        token = self.tokens[index]
        if token.type == "IF" and not starts_line(self.tokens, index):
            return False  # `a if b else c` is no statement
        if self._names_a_parameter(index):
            return False
        if token.type in ("$END", "BLUEPRINT"):
            return True
        opening = self.brackets[-1].token.type
        return opening in ("LPAR", "LSQB") and token.type in ("RBRACE", *STATEMENT_STARTS)

    def _names_a_parameter(self, index: int) -> bool:
        """Whether a reserved word stands in a header where a parameter's name does."""
        is_declared = self._type(index + 1) == "COLON" and self._type(index - 1) in ("COMMA", "LPAR")
        return bool(self.brackets) and not self._in_body and len(self.brackets) == 1 and is_declared

    def _recover(self, index: int) -> int:
        """Cuts the parser's stack back and returns the token to go on with."""
        if self.header is not None and self.brackets:
            names = self.damage.setdefault((self.header.line, self.header.column), set())
            if self._in_body:
                if self._lacks_only_braces(index):
                    return self._close_if_ended(index)
                level = max(level for level, bracket in enumerate(self.brackets) if bracket.is_body)
                if level >= MAX_NESTING:
                    return self._next_blueprint(index)
                opening = self.brackets[level].index
                is_next = lacks_a_value(self.tokens, index)
                # `a = b c`: the parser has read `a = b` as a statement, which is not what it says.
                is_cut_short = stands_beside_a_value(self.tokens, index, state_of(self.state)[1])
                after = index - 1 if is_next else self._next_statement(index, level)
                start = opening if self.statement is None else max(opening, self.statement)
                self._forget(names, start, after)
                if self._cut(level, "LET") and is_cut_short:
                    self.state.value_stack[-1].pop()
                return self._close_if_ended(after)
            following = self._next_parameter(index)
            if following is not None:
                self._forget(names, self.brackets[0].index, following)
                has_parameters = self._cut(0, "COMMA")
                if self._type(following) == "COMMA" and not has_parameters:
                    following += 1
                return following
        elif self.header is not None:
            body = self._body_of_header(index, self.header)
            if body is not None:
                return body
        return self._next_blueprint(index)

    def _next_blueprint(self, index: int) -> int:
        after = index
        while self._type(after) not in ("BLUEPRINT", "$END"):
            after += 1
        is_inside = bool(self.brackets)
        self.brackets.clear()
        self.statement = None
        table: Any = self.state.parse_conf.states
        if is_inside or "BLUEPRINT" not in table[self.state.position]:  # arguments may be called so
            self._cut_stack(1, "BLUEPRINT")
        if self._type(after) == "$END" and len(self.state.state_stack) > 1:
            self.header = None
        return after

    def _body_of_header(self, index: int, header: Token) -> int | None:
        """Supplies what is missing between a blueprint's name and its body; None if there is no body.

        A supplied brace has an empty text, and nothing is said of it if it is never closed.
        """
        _, accepted = state_of(self.state)
        if accepted not in ({"LPAR"}, {"LBRACE"}):
            return None
        after = index
        while self._type(after) not in _BODY_STARTS and not starts_line(self.tokens, after):
            after += 1
        if self._type(after) in ("BLUEPRINT", "IMPORT", "$END"):
            return None
        missing = [("LPAR", "("), ("RPAR", ")")] if "LPAR" in accepted else []
        if self._type(after) != "LBRACE":
            missing.append(("LBRACE", ""))
        self.tokens[after:after] = [
            Token.new_borrow_pos(kind, text, self.tokens[after]) for kind, text in missing
        ]
        self._forget(self.damage.setdefault((header.line, header.column), set()), index, after)
        return after

    def _forget(self, names: set[str], start: int, end: int) -> None:
        """Remembers the names that the statements or parameters from `start` to `end` would have bound."""
        binds_name = binds if self._in_body else declares
        names.update(str(self.tokens[index]) for index in range(start, end) if binds_name(self.tokens, index))

    def _cut(self, level: int, next_terminal: str) -> bool:
        """Closes all brackets inside the one at `level`; whether a whole list stands in that."""
        del self.brackets[level + 1 :]
        return self._cut_stack(self.brackets[level].base, next_terminal)

    def _cut_stack(self, base: int, next_terminal: str) -> bool:
        """Cuts the stack to `base`, and one above if a whole list stands there; whether it does."""
        stack = self.state.state_stack
        table: Any = self.state.parse_conf.states
        keeps_list = len(stack) > base and table[stack[base]].get(next_terminal, (None,))[0] is Shift
        height = base + keeps_list
        del stack[height:]
        del self.state.value_stack[height - 1 :]
        return keeps_list

    def _next_statement(self, index: int, level: int) -> int:
        open_brackets = [bracket.token.type for bracket in self.brackets[level + 1 :]]
        start = index
        _, accepted = state_of(self.state)
        is_late = stands_beside_a_value(self.tokens, index, accepted)
        if (
            "EQUAL" in accepted
            and not is_late
            and self._type(index) == "NAME"
            and not starts_line(self.tokens, index)
        ):
            index += 1  # a name that a foreign word stands before, as in `let mut a = 1`
        while True:
            kind = self._type(index)
            if kind in ("$END", "BLUEPRINT") or (kind == "RBRACE" and "LBRACE" not in open_brackets):
                return index
            if not open_brackets and (index > start or is_late) and starts_line_anew(self.tokens, index):
                return index
            resembles = index > start and resembles_statement(self.tokens, index)
            if resembles or starts_statement(self.tokens, index):
                is_argument = self._type(index - 1) in ("COMMA", "LPAR", "LSQB")
                may_close = "LBRACE" not in open_brackets and not is_argument
                unclosed = may_close and starts_line(self.tokens, index)
                if not open_brackets or unclosed:
                    return index
            if kind in _CLOSING:
                open_brackets.append(kind)
            elif kind in _SPELLED and open_brackets:
                open_brackets.pop()
            index += 1

    def _lacks_only_braces(self, index: int) -> bool:
        """Whether the last statement before the next blueprint, or before the end, is whole."""
        if self._type(index) not in ("$END", "BLUEPRINT") or not self._among_statements:
            return False
        return "RBRACE" in self.interactive.accepts()

    def _close_if_ended(self, index: int) -> int:
        """Supplies each `}` that is missing before the next blueprint or the end of the file."""
        self.statement = None
        if self._type(index) in ("$END", "BLUEPRINT"):
            for _ in self.brackets:
                self.tokens.insert(index, Token.new_borrow_pos("RBRACE", "}", self.tokens[index]))
        return index

    def _next_parameter(self, index: int) -> int | None:
        """The `,` or `)` after the broken parameter; None if the list does not end before the body."""
        depth = len(self.brackets) - 1
        while self._type(index) not in ("$END", "BLUEPRINT", *STATEMENT_STARTS) or self._names_a_parameter(
            index
        ):
            kind = self._type(index)
            if kind == "LBRACE" and self._type(index - 1) != "IN" and index:
                self.tokens.insert(index, Token.new_borrow_pos("RPAR", ")", self.tokens[index]))
                return index
            if depth == 0 and kind in ("COMMA", "RPAR"):
                return index
            if kind in _CLOSING:
                depth += 1
            elif kind in _SPELLED:
                depth = max(0, depth - 1)
            index += 1
        return None
