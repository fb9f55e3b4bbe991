"""Which kind of mistake a syntax error is: the kind of the example at which the parser stops the same way.

The idea is that of Lark's `match_examples`: a parser's state tells what was read and what may follow, so
two texts that fail in one state on one token fail for one reason. Lark compares the height of the stack
too, which would tell a mistake in a block from the same mistake outside; here the topmost state counts, and
a foreign word or sign near it. The examples are read once a process, at the first error.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from lark import Lark, Token
from lark.exceptions import UnexpectedToken

from esper.lang.keywords import INFIX, STATEMENT_STARTS
from esper.lang.landmarks import lacks_a_value, stands_beside_a_value, starts_line
from esper.lang.mistakes import MISTAKES, Mistake

_STARTS = STATEMENT_STARTS | {"BLUEPRINT", "IMPORT"}
_BESIDE = -1
_CUT_OFF = -2
"""In place of states, for what the parser notices a token late: a value beside another, and none at all."""
MAX_LOOK = 500
"""So many tokens before a mistake are looked at."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where and on what a parser stopped.

    state: number of the topmost state. how: what `text` is: the type of the token, its text, the sign that
    it is part of, or the word before it. statement: the type of the token that starts the statement.
    first, last: indices of the tokens at which the mistake is shown.
    """

    state: int
    how: str
    text: str
    statement: str
    starts_line: bool
    first: int
    last: int

    @property
    def keys(self) -> tuple[tuple[object, ...], ...]:
        """What it is known by, from the narrowest likeness to the widest."""
        likeness = (self.state, self.how, self.text)
        in_header = self.statement == "BLUEPRINT"
        return (
            (*likeness, self.statement, self.starts_line),
            (*likeness, self.statement),
            (*likeness, in_header),
        )


@dataclass(frozen=True, slots=True)
class Example:
    """A wrong text, its kind, and where the parser stops in it; None if it does not, or elsewhere."""

    mistake: Mistake
    text: str
    place: Place | None


def places(tokens: Sequence[Token], index: int, state: int, accepted: frozenset[str]) -> Iterator[Place]:
    """The places that describe an error at token `index`, the most telling first.

    state: the parser's topmost state there; accepted: the terminals that it has an action for.
    """
    around = _statement(tokens, index), starts_line(tokens, index)
    if index:
        yield Place(state, "word before", str(tokens[index - 1]), *around, index - 1, index - 1)
    if lacks_a_value(tokens, index):
        kind = tokens[index - 2].type
        sign = "INFIX" if kind in INFIX - {"PIPE"} else kind
        yield Place(_CUT_OFF, "type", sign, _statement(tokens, index - 1), True, index - 1, index - 1)
        return
    if stands_beside_a_value(tokens, index, accepted):
        yield from _beside(tokens, index - 1)
        return
    yield Place(state, "sign", _joined(tokens, index), *around, index, index + 1)
    yield Place(state, "sign", _joined(tokens, index - 1), *around, index - 1, index)
    yield Place(state, "word", str(tokens[index]), *around, index, index)
    yield Place(state, "type", tokens[index].type, *around, index, index)


def _beside(tokens: Sequence[Token], index: int) -> Iterator[Place]:
    around = _statement(tokens, index), False
    yield Place(_BESIDE, "word before", str(tokens[index - 1]), *around, index - 1, index - 1)
    for slashes in range(index - 1, max(-1, index - MAX_LOOK), -1):
        if tokens[slashes].line != tokens[index].line:
            break
        if tokens[slashes] == "//":
            yield Place(_BESIDE, "sign", "//", *around, slashes, slashes)
    pair = f"{tokens[index - 1].type} {tokens[index].type}"
    yield Place(_BESIDE, "type", pair, *around, index, index)


def _statement(tokens: Sequence[Token], index: int) -> str:
    """The type of the token that starts the statement of token `index`, or the header."""
    line = ""
    for first in range(index - 1, max(-1, index - MAX_LOOK), -1):
        kind = tokens[first].type
        if kind in _STARTS or (kind == "LBRACE" and first and tokens[first - 1].type != "IN"):
            return kind if kind == "BLUEPRINT" else line or kind
        if kind == "NAME" and starts_line(tokens, first):
            line = kind
    return line


def _joined(tokens: Sequence[Token], index: int) -> str:
    """The text of token `index` and the next one if nothing is between them, else nothing."""
    if not 0 <= index < len(tokens) - 1 or tokens[index].end_pos != tokens[index + 1].start_pos:
        return ""
    return f"{tokens[index]}{tokens[index + 1]}"


def recognized(
    parser: Lark, tokens: Sequence[Token], index: int, state: int, accepted: frozenset[str]
) -> tuple[Mistake, Place] | None:
    """The kind of mistake at token `index`, and where it shows; None if no example is like it."""
    table = _table(parser)
    for place in places(tokens, index, state, accepted):
        for key in place.keys:
            if key in table:
                return table[key], place
    return None


def state_of(parser_state: Any) -> tuple[int, frozenset[str]]:
    """The number of the topmost state of Lark's parser, and the terminals that it has an action for."""
    state: int = parser_state.position
    return state, frozenset(name for name in parser_state.parse_conf.states[state] if name.isupper())


def read_examples(parser: Lark) -> list[Example]:
    """Every wrong text, read as far as the parser comes.

    All are split into tokens together, since Lark makes a lexer for each text.
    """
    texts = [(mistake, *example) for mistake in MISTAKES for example in mistake.examples()]
    tokens = iter(
        [*parser.lex("\n".join(text for _, text, _ in texts)), Token("$END", "", start_pos=1 << 62)]
    )
    token, end, examples = next(tokens), 0, []
    for mistake, text, foreign in texts:
        end += len(text) + 1
        own: list[Token] = []
        while token.start_pos is not None and token.start_pos < end:
            own.append(token)
            token = next(tokens)
        examples.append(Example(mistake, text, _stop(parser, own, foreign)))
    return examples


def _stop(parser: Lark, tokens: list[Token], foreign: str) -> Place | None:
    state = parser.parse_interactive().parser_state
    tokens.append(Token("$END", ""))
    for index, token in enumerate(tokens):
        try:
            state.feed_token(token, token.type == "$END")
        except UnexpectedToken:
            for place in places(tokens, index, *state_of(state)):
                if place.text == foreign if foreign else place.how == "type":
                    return place
            return None
    return None


@cache
def _table(parser: Lark) -> dict[tuple[object, ...], Mistake]:
    table: dict[tuple[object, ...], Mistake] = {}
    for example in read_examples(parser):
        for key in example.place.keys if example.place else ():
            table.setdefault(key, example.mistake)
    return table
