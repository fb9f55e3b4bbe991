"""Where in a source something is being written, read off the tokens before it.

What is being written is rarely right yet, so the syntax tree says little of it; the brackets that are open
and the last token say what may follow.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, auto

from lark import Token

from esper.editors.analysis import Analysis
from esper.lang.keywords import INFIX, KEYWORDS


class Slot(Enum):
    """What may be written at a cursor."""

    NOTHING = auto()
    FILE = auto()  # outside of blueprints
    LIBRARY = auto()  # the name of a library blueprint
    KIND = auto()
    AFTER_PARAMETER = auto()
    STATEMENT = auto()  # or the rest of the statement before
    EXPRESSION = auto()
    ARGUMENT = auto()  # an expression, or the name of a keyword argument
    STEP = auto()  # a call after `|>`
    SPREAD = auto()  # the name of the remaining axes, after `...`
    ELEMENT_TYPE = auto()
    PRECISION = auto()
    QUANTITY = auto()


@dataclass(frozen=True, slots=True)
class Cursor:
    """A slot, and what is known of it.

    start: the offset of the word that is being written. callee, argument: the call that it is an argument
    of, and the keyword argument that it is the value of; given: the keyword arguments that are there.
    parameters: those before the one, of this kind, whose default or domain it stands in.
    """

    slot: Slot
    start: int
    callee: str = ""
    argument: str = ""
    given: frozenset[str] = frozenset()
    kind: str = ""
    parameters: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Open:
    """An open bracket: the indices of the token and of the last comma in it, and what it is."""

    index: int
    use: str
    comma: int


_AFTER = {
    "IMPORT": Slot.LIBRARY,
    "PRECISION": Slot.PRECISION,
    "CONSTRAINT": Slot.QUANTITY,
    "PIPE": Slot.STEP,
    "DOTS": Slot.SPREAD,
    **dict.fromkeys(("BLUEPRINT", "LET", "INPUT", "AS", "ON", "CHOICE"), Slot.NOTHING),
    **dict.fromkeys(("OUTPUT", "REQUIRE", "REPEAT", "IF", "IN", "STEP", "NOT", "EQUAL"), Slot.EXPRESSION),
    **dict.fromkeys(("LPAR", "LSQB", "COMMA", "RANGE"), Slot.EXPRESSION),
    **dict.fromkeys(INFIX - {"PIPE"}, Slot.EXPRESSION),
}
_MARKS = frozenset('#"')
_OPENING = {"LPAR": "RPAR", "LSQB": "RSQB", "LBRACE": "RBRACE"}


def cursor_at(analysis: Analysis, offset: int) -> Cursor:
    """What may be written at `offset`, where nothing stands or a word that ends there."""
    tokens = [token for token in analysis.tokens if _start(token) < offset]
    start = offset
    if tokens and _end(tokens[-1]) >= offset:
        if tokens[-1].type in ("STRING", "INTEGER", "REAL"):
            return Cursor(Slot.NOTHING, offset)
        if tokens[-1].type == "NAME" or tokens[-1].type in KEYWORDS:
            start = _start(tokens.pop())
    if _is_comment_or_text(analysis, offset):
        return Cursor(Slot.NOTHING, offset)
    header = max((index for index, token in enumerate(tokens) if token.type == "BLUEPRINT"), default=0)
    return _Reader(tokens[header:], start).cursor()


def _is_comment_or_text(analysis: Analysis, offset: int) -> bool:
    """Whether `offset` is behind a `#`, or a `"` that is not closed on its line, which are no tokens."""
    text = analysis.source.text
    at = text.rfind("\n", 0, offset) + 1
    for token in analysis.tokens[analysis.first_ending_after(at) :]:
        if _start(token) >= offset:
            break
        if not _MARKS.isdisjoint(text[at : _start(token)]):
            return True
        at = _end(token)
    return not _MARKS.isdisjoint(text[at:offset])


class _Reader:
    """Reads the tokens of the blueprint that is being written, up to the cursor."""

    def __init__(self, tokens: list[Token], start: int) -> None:
        self.tokens = tokens
        self.start = start
        self.brackets: list[_Open] = []
        for index, token in enumerate(tokens):
            if token.type in _OPENING:
                self.brackets.append(_Open(index, self._use(index), index))
            elif token.type in _OPENING.values():
                while self.brackets and _OPENING[self._type(self.brackets.pop().index)] != token.type:
                    pass
            elif token.type == "COMMA" and self.brackets:
                last = self.brackets[-1]
                self.brackets[-1] = _Open(last.index, last.use, index)

    def _type(self, index: int) -> str:
        return self.tokens[index].type if 0 <= index < len(self.tokens) else ""

    def _use(self, index: int) -> str:
        """What the bracket at `index` holds."""
        kind, before, earlier = self._type(index), self._type(index - 1), self._type(index - 2)
        if kind == "LPAR":
            if earlier == "BLUEPRINT":
                return "parameters"
            return "call" if before == "NAME" else "group"
        if kind == "LSQB":
            return "sizes"
        if before == "IN":
            return "domain"
        return "choice" if earlier == "CHOICE" else "body"

    def cursor(self) -> Cursor:
        last = len(self.tokens) - 1
        if not self.tokens or (not self.brackets and self._type(last) in ("RBRACE", "STRING")):
            return Cursor(Slot.FILE, self.start)
        if not self.brackets:
            slot = _AFTER.get(self._type(last), Slot.FILE)
            is_header = self._type(0) == "BLUEPRINT" and all(token.type != "RBRACE" for token in self.tokens)
            return Cursor(Slot.NOTHING if is_header else slot, self.start)
        found = self._inside(self.brackets[-1], last)
        around = self.brackets[0]
        if around.use != "parameters":
            return found
        return replace(found, kind=self._kind(around.comma + 1), parameters=self._parameters(around))

    def _inside(self, inner: _Open, last: int) -> Cursor:
        if inner.use == "parameters":
            return Cursor(self._parameter(inner, last), self.start)
        if inner.use == "domain":
            return Cursor(Slot.EXPRESSION, self.start)
        if inner.use == "call":
            return self._argument(inner, last)
        if inner.use == "choice" and self._type(last) in ("LBRACE", "COMMA"):
            return Cursor(Slot.NOTHING, self.start)
        return Cursor(self._slot(inner, last), self.start)

    def _slot(self, inner: _Open, last: int) -> Slot:
        kind = self._type(last)
        if kind == "COLON":
            is_input = self._type(last - 2) == "INPUT"
            return Slot.ELEMENT_TYPE if is_input else Slot.NOTHING
        if kind == "NAME" and self._type(last - 1) in ("LET", "INPUT", "OUTPUT", "AS"):
            return Slot.STATEMENT if self._type(last - 1) in ("OUTPUT", "AS") else Slot.NOTHING
        if kind == "COMMA" and inner.use == "body":
            return Slot.STATEMENT
        return _AFTER.get(kind, Slot.STATEMENT)

    def _kind(self, index: int) -> str:
        is_typed = self._type(index + 1) == "COLON" and self._type(index + 2) == "NAME"
        return str(self.tokens[index + 2]) if is_typed else ""

    def _parameters(self, around: _Open) -> tuple[str, ...]:
        """The parameters before the last one."""
        return tuple(
            str(self.tokens[index])
            for index in range(around.index + 1, around.comma)
            if self._type(index + 1) == "COLON"
        )

    def _parameter(self, inner: _Open, last: int) -> Slot:
        if last in (inner.comma, inner.comma + 1):
            return Slot.NOTHING
        if self._type(last) == "COLON":
            return Slot.KIND
        return _AFTER.get(self._type(last), Slot.AFTER_PARAMETER)

    def _argument(self, inner: _Open, last: int) -> Cursor:
        callee = str(self.tokens[inner.index - 1])
        given = frozenset(
            str(self.tokens[index - 1])
            for index in range(inner.index + 2, len(self.tokens))
            if self._type(index) == "EQUAL" and self._type(index - 2) in ("COMMA", "LPAR")
        )
        if last == inner.comma:
            return Cursor(Slot.ARGUMENT, self.start, callee, given=given)
        argument = str(self.tokens[inner.comma + 1]) if self._type(inner.comma + 2) == "EQUAL" else ""
        if last == inner.comma + 2 and argument:
            return Cursor(Slot.EXPRESSION, self.start, callee, argument, given)
        return Cursor(_AFTER.get(self._type(last), Slot.STATEMENT), self.start, callee)


def _start(token: Token) -> int:
    assert token.start_pos is not None
    return token.start_pos


def _end(token: Token) -> int:
    assert token.end_pos is not None
    return token.end_pos
