"""What a token starts, ends or binds, told from its neighbours: by this the parser finds its way past errors.

Statements have no separators, so the start of one is a keyword, or a name that `=` follows.
"""

from __future__ import annotations

from collections.abc import Sequence

from lark import Token

from esper.lang.keywords import INFIX, STATEMENT_STARTS

AFTER_A_NAME = frozenset({"COMMA", "EQUAL"})
"""What may follow the name that starts a statement."""
VALUE_ENDS = frozenset({"INTEGER", "NAME", "REAL", "RPAR", "RSQB", "STRING"})
"""What may be the last token of a value."""
GOES_ON = INFIX | {"EQUAL", "COLON", "COMMA", "NOT", "OUTPUT", "LPAR", "LSQB", "LBRACE", "REQUIRE"}
"""After these a line goes on in the next one."""
_STATEMENT_ENDS = VALUE_ENDS | {"LBRACE", "RBRACE", "TRUE", "FALSE"}
_ASKS_FOR_A_VALUE = INFIX | STATEMENT_STARTS | {"EQUAL", "NOT"}


def type_at(tokens: Sequence[Token], index: int) -> str:
    """The type of the token, nothing before the first one."""
    return "" if index < 0 else tokens[index].type if index < len(tokens) else "$END"


def starts_line(tokens: Sequence[Token], index: int) -> bool:
    return index == 0 or tokens[index - 1].end_line != tokens[index].line


def starts_statement(tokens: Sequence[Token], index: int) -> bool:
    kind, before = type_at(tokens, index), type_at(tokens, index - 1)
    if kind in STATEMENT_STARTS:
        return type_at(tokens, index + 1) != "EQUAL" or starts_line(tokens, index)
    if kind != "NAME" or before in ("LET", "OUTPUT"):
        return False
    if before not in _STATEMENT_ENDS and not starts_line(tokens, index):
        return False
    while type_at(tokens, index + 1) == "COMMA" and type_at(tokens, index + 2) == "NAME":
        index += 2
    return type_at(tokens, index + 1) == "EQUAL"


def resembles_statement(tokens: Sequence[Token], index: int) -> bool:
    """Whether a line starts with a reserved word, or with two names: a misspelt keyword and another."""
    kind = type_at(tokens, index)
    resembles = kind in ("ELSE", "IMPORT") or (kind == "NAME" and type_at(tokens, index + 1) == "NAME")
    return resembles and starts_line(tokens, index)


def starts_line_anew(tokens: Sequence[Token], index: int) -> bool:
    """Whether a name starts a line, and the line above does not go on."""
    is_first = type_at(tokens, index) == "NAME" and starts_line(tokens, index)
    return is_first and type_at(tokens, index - 1) not in GOES_ON


def binds(tokens: Sequence[Token], index: int) -> bool:
    """Whether a name in a body stands where `let`, `input`, `name =` or another word binds one."""
    if type_at(tokens, index) != "NAME":
        return False
    before = type_at(tokens, index - 1)
    if before in ("LET", "INPUT") or type_at(tokens, index + 1) in ("EQUAL", "COLON"):
        return True
    if before == "NAME":
        return starts_line(tokens, index - 1) or type_at(tokens, index - 2) == "LET"
    if before == "RSQB":
        return not starts_line(tokens, index)
    return type_at(tokens, index + 1) == "COMMA" and starts_statement(tokens, index)


def declares(tokens: Sequence[Token], index: int) -> bool:
    """Whether a name in a header stands where one of a parameter may."""
    if type_at(tokens, index) != "NAME":
        return False
    follows = type_at(tokens, index + 1)
    before = type_at(tokens, index - (2 if type_at(tokens, index - 1) in ("TIMES", "POWER") else 1))
    is_first = before in ("COMMA", "LPAR") and follows in ("COMMA", "RPAR")
    return is_first or follows in ("COLON", "EQUAL", "NAME")


def stands_beside_a_value(tokens: Sequence[Token], index: int, accepted: frozenset[str]) -> bool:
    """Whether the token before `index`, taken for the start of a statement, follows a value on its line."""
    if accepted != AFTER_A_NAME or index < 2:
        return False
    value, word = tokens[index - 2 : index]
    return word.type == "NAME" and value.type in VALUE_ENDS and value.end_line == word.line


def lacks_a_value(tokens: Sequence[Token], index: int) -> bool:
    """Whether the name before `index`, taken for a value, is that of a statement on a line of its own."""
    if index < 2 or tokens[index].type != "EQUAL" or tokens[index - 1].type != "NAME":
        return False
    return starts_line(tokens, index - 1) and tokens[index - 2].type in _ASKS_FOR_A_VALUE
