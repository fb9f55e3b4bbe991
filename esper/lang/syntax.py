"""What to say of a token that the grammar does not allow: found, expected, and a valid example."""

from __future__ import annotations

from collections.abc import Sequence

from lark import Token

from esper.errors import EsperError, Span
from esper.lang.errors import NoMeaning, ReservedWord, StepIsNoCall, UnexpectedToken
from esper.lang.keywords import INFIX, KEYWORDS, STATEMENT_STARTS
from esper.lang.landmarks import AFTER_A_NAME, lacks_a_value, stands_beside_a_value
from esper.lang.mistakes import Mistake
from esper.lang.names import closest
from esper.lang.recognize import Place
from esper.lang.tree import span_of

LIKE_A_KEYWORD = 0.65
SHORTEST_MISSPELT = 3
_OPERANDS = frozenset({"NAME", "INTEGER", "REAL", "STRING", "TRUE", "FALSE", "LPAR", "LSQB", "MINUS", "NOT"})
_SPELLED = {
    "LPAR": "`(`",
    "RPAR": "`)`",
    "LSQB": "`[`",
    "RSQB": "`]`",
    "LBRACE": "`{`",
    "RBRACE": "`}`",
    "COMMA": "`,`",
    "COLON": "`:`",
    "EQUAL": "`=`",
    "NAME": "a name",
    "STRING": "a text in double quotes",
    "DOTS": "`...`",
    "RANGE": "`..`",
    "__ANON_0": "`=>`",
    "$END": "the end of the file",
}
_FOLLOWS = {"PIPE": "a call", "PRECISION": "a name", "CONSTRAINT": "a name", "INPUT": "a name"}
_EXAMPLES = {
    "BLUEPRINT": "a blueprint reads `blueprint name(width: dim = 64) { … }`",
    "REQUIRE": 'for example `require width % 2 == 0: "why"`',
    "LET": "for example `let hidden = 4 * width`",
    "INPUT": "for example `input x: f32[N, width]`",
    "OUTPUT": "for example `output x + h`",
    "NAME": "for example `h = x |> linear(width)`",
    "REPEAT": "for example `repeat depth as i { h = h |> linear(width) }`",
    "IF": "for example `if width > 64 { h = h |> dropout(0.1) } else { h = gelu(h) }`",
    "PRECISION": "for example `precision bf16`",
    "CONSTRAINT": 'for example `constraint params <= 20000` or `constraint latency_ms <= 0.2 on "sm_90"`',
}


def explain(
    tokens: Sequence[Token],
    index: int,
    accepted: frozenset[str],
    recognized: tuple[Mistake, Place] | None,
    statement: Token | None,
    in_parameters: bool,
) -> EsperError:
    """The error for token `index`, where the grammar accepts only the terminals `accepted`.

    recognized: the kind of mistake that it is like, if any, and where it shows; statement: the first token
    of the statement that it stands in.
    """
    if recognized is not None and recognized[0].foreign:
        mistake, place = recognized
        return _no_meaning(tokens[place.first], tokens[place.last], mistake.way_out)
    if lacks_a_value(tokens, index):
        return _nothing_follows(tokens[index - 2], tokens[index - 1], recognized)
    is_beside = stands_beside_a_value(tokens, index, accepted)
    misspelt = _misspelt(tokens, index, accepted, is_beside)
    if misspelt is not None:
        return misspelt
    before = tokens[index - 1] if index else None
    if before is not None and before.type == "NAME" and accepted == {"LPAR"} and statement is not None:
        return StepIsNoCall(name=str(before), span=span_of(before))
    token = tokens[recognized[1].first if recognized else index - is_beside]
    if recognized is None and _is_reserved(token, accepted):
        return ReservedWord(word=str(token), way_out="choose another name", span=span_of(token))
    if recognized is not None:
        way_out = recognized[0].way_out
    else:
        way_out = _way_out(token, accepted, statement, in_parameters)
    return UnexpectedToken(
        found="the end of the file" if token.type == "$END" else f"`{_clipped(str(token))}`",
        expected=_expected(INFIX if is_beside else accepted),
        way_out=way_out,
        span=span_of(token),
    )


def _nothing_follows(sign: Token, token: Token, recognized: tuple[Mistake, Place] | None) -> UnexpectedToken:
    return UnexpectedToken(
        found=f"`{_clipped(str(token))}`",
        expected=f"{_FOLLOWS.get(sign.type, 'an expression')} after `{sign}`",
        way_out=recognized[0].way_out if recognized else "",
        span=span_of(token),
    )


def _no_meaning(first: Token, last: Token, way_out: str) -> NoMeaning:
    start, end = span_of(first), span_of(last)
    span = Span(start.file, start.line, start.column, end.end_line, end.end_column)
    return NoMeaning(found=str(first) if first is last else f"{first}{last}", way_out=way_out, span=span)


def _misspelt(
    tokens: Sequence[Token], index: int, accepted: frozenset[str], is_beside: bool
) -> NoMeaning | None:
    """The error for a name that is much like a keyword which could stand in its place."""
    word, could_stand = tokens[index], accepted & KEYWORDS
    if index and accepted == AFTER_A_NAME and word.type != "PIPE":
        word, could_stand = tokens[index - 1], STATEMENT_STARTS | ({"AND", "OR"} if is_beside else set())
    if word.type != "NAME" or len(word) < SHORTEST_MISSPELT:
        return None
    keyword = closest(str(word), sorted(name.lower() for name in could_stand), LIKE_A_KEYWORD)
    return _no_meaning(word, word, f"did you mean `{keyword}`?") if keyword else None


def _is_reserved(token: Token, accepted: frozenset[str]) -> bool:
    return token.type in KEYWORDS and "NAME" in accepted and not (accepted & _OPERANDS) - {"NAME"}


def _expected(accepted: frozenset[str]) -> str:
    names: list[str] = []
    rest = set(accepted)
    if {"NAME", "INTEGER"} <= accepted:
        names.append("an expression")
        rest -= _OPERANDS | KEYWORDS | {"DOTS"}
    if rest & INFIX:
        names.append("a comparison" if rest & INFIX == {"COMPARISON"} else "an operator")
        rest -= INFIX | {"LPAR", "EQUAL"}
    if accepted >= {*STATEMENT_STARTS, "RBRACE"}:
        names.append("a statement")
        rest -= STATEMENT_STARTS | {"NAME"}
    names += sorted(_SPELLED.get(name, f"`{name.lower()}`") for name in rest)
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def _way_out(token: Token, accepted: frozenset[str], statement: Token | None, in_parameters: bool) -> str:
    if token.type == "EQUAL" and "COMPARISON" in accepted:
        return "`==` compares"
    if token.type in INFIX and "PIPE" in accepted and "PLUS" not in accepted:
        return "a pipeline ends its expression: put it in parentheses to go on"
    if in_parameters:
        return "a parameter reads `name: kind = default in {choices}`"
    if statement is not None:
        return _EXAMPLES[statement.type]
    if accepted >= {*STATEMENT_STARTS, "RBRACE"}:
        return "a statement starts with a keyword such as `input`, `let` or `output`, or with `name =`"
    return _EXAMPLES["BLUEPRINT"]


def _clipped(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:36]}…"
