"""What kind each piece of a blueprint's text is, for whatever paints it: the lexer and the TextMate grammar.

The rules are made of the terminals of `grammar/blueprint.lark`, so that a word which the grammar gains is
painted at once, and of the operator table. A rule looks at one line: at a place the first that matches wins.
A word's part (a call, a type) is told from the characters beside it; the parser is not asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from functools import cache

import esper.ops  # noqa: F401  (fills the operator table)
from esper.ir.operator import OPERATORS
from esper.ir.types import DType
from esper.lang.keywords import KEYWORDS
from esper.lang.parameters import KINDS
from esper.lang.parse import grammar
from esper.lang.source import DOTTED, NUMBER_ELSEWHERE


class Part(Enum):
    """What a piece is painted as: the name of a Pygments token, and a TextMate scope."""

    DOCUMENTATION = "Literal.String.Doc", "comment.line.documentation.esper"
    COMMENT = "Comment.Single", "comment.line.number-sign.esper"
    TEXT = "Literal.String.Double", "string.quoted.double.esper"
    REAL = "Literal.Number.Float", "constant.numeric.float.esper"
    INTEGER = "Literal.Number.Integer", "constant.numeric.integer.esper"
    DECLARATION = "Keyword.Declaration", "storage.type.esper"
    CONSTANT = "Keyword.Constant", "constant.language.esper"
    WORD_OPERATOR = "Operator.Word", "keyword.operator.word.esper"
    KEYWORD = "Keyword", "keyword.control.esper"
    BLUEPRINT = "Name.Class", "entity.name.function.esper"
    TYPE = "Keyword.Type", "support.type.esper"
    BRANCH = "Name.Label", "entity.name.label.esper"
    BOUND = "Name.Variable", "variable.other.assignment.esper"
    OPERATOR_CALL = "Name.Builtin", "support.function.esper"
    CALL = "Name.Function", "entity.name.function.call.esper"
    NAME = "Name", "variable.other.esper"
    INFIX = "Operator", "keyword.operator.esper"
    PUNCTUATION = "Punctuation", "punctuation.separator.esper"
    ILLEGAL = "Error", "invalid.illegal.esper"

    def __init__(self, token: str, scope: str) -> None:
        self.token = token
        self.scope = scope


@dataclass(frozen=True, slots=True)
class Rule:
    """A regular expression, in the dialect that Python and Oniguruma share, and what it finds."""

    part: Part
    pattern: str


_WORD_PARTS = {
    Part.DECLARATION: {"BLUEPRINT", "CONSTRAINT", "IMPORT", "INPUT", "LET", "OUTPUT", "PRECISION", "REQUIRE"},
    Part.CONSTANT: {"TRUE", "FALSE"},
    Part.WORD_OPERATOR: {"AND", "OR", "NOT", "IN"},
}
_OPEN = {"NAME", "REAL", "INTEGER", "STRING", "COMMENT"}
_PUNCTUATION = {"COMMA", "COLON", "LPAR", "RPAR", "LSQB", "RSQB", "LBRACE", "RBRACE"}
_WORD_ENDS = r"(?![A-Za-z0-9_])"


@cache
def rules() -> tuple[Rule, ...]:
    """In the order in which they are tried; between them they match every character but white space."""
    patterns = {terminal.name: terminal.pattern.to_regexp() for terminal in grammar().terminals}
    widths = {terminal.name: terminal.pattern.max_width for terminal in grammar().terminals}
    ignored = set(grammar().lexer_conf.ignore)
    painted = _WORD_PARTS | {Part.KEYWORD: KEYWORDS.difference(*_WORD_PARTS.values())}
    signs = sorted(patterns.keys() - _OPEN - KEYWORDS - ignored, key=lambda name: (-widths[name], name))
    return (
        Rule(Part.DOCUMENTATION, "#" + patterns["COMMENT"]),
        Rule(Part.COMMENT, patterns["COMMENT"]),
        Rule(Part.TEXT, patterns["STRING"]),
        Rule(Part.ILLEGAL, r'"[^\n]*'),
        Rule(Part.ILLEGAL, DOTTED),
        Rule(Part.ILLEGAL, NUMBER_ELSEWHERE),
        *(Rule(part, _word(patterns[name] for name in names)) for part, names in painted.items()),
        *_names(patterns["NAME"]),
        Rule(Part.REAL, patterns["REAL"]),
        Rule(Part.INTEGER, patterns["INTEGER"]),
        *(Rule(Part.PUNCTUATION if name in _PUNCTUATION else Part.INFIX, patterns[name]) for name in signs),
        Rule(Part.ILLEGAL, r"[^ \t\r\n]"),
    )


def _names(name: str) -> Iterable[Rule]:
    operators = (operator for operator, entry in OPERATORS.items() if entry.in_language)
    yield Rule(Part.BLUEPRINT, rf"(?<=blueprint[ ]){name}")
    yield Rule(Part.TYPE, r"(?<=:[ ])" + _word(kind for kind in KINDS if kind.upper() not in KEYWORDS))
    yield Rule(Part.TYPE, _word(dtype.value for dtype in DType))
    yield Rule(Part.BRANCH, rf"{name}(?=[ \t]*=>)")
    yield Rule(Part.BOUND, rf"{name}(?=[ \t]*(?:=(?!=)|:))")
    yield Rule(Part.OPERATOR_CALL, _word(operators))
    yield Rule(Part.CALL, rf"{name}(?=[ \t]*\()")
    yield Rule(Part.NAME, name)


def _word(words: Iterable[str]) -> str:
    return f"(?:{'|'.join(sorted(words))}){_WORD_ENDS}"


@cache
def scanner() -> tuple[re.Pattern[str], tuple[Part, ...]]:
    """One expression for all rules and white space, and the part that each of its groups stands for."""
    parts = tuple(rule.part for rule in rules())
    alternatives = (f"(?P<r{index}>{rule.pattern})" for index, rule in enumerate(rules()))
    return re.compile("|".join((*alternatives, r"(?P<space>[ \t\r\n]+)"))), parts
