"""What to say of a token that the grammar does not allow: found, expected, and a valid example."""

from __future__ import annotations

from lark import Token

from esper.errors import EsperError
from esper.lang.errors import ReservedWord, StepIsNoCall, UnexpectedToken
from esper.lang.names import closest
from esper.lang.tree import span_of

STATEMENT_STARTS = frozenset({"CONSTRAINT", "IF", "INPUT", "LET", "OUTPUT", "PRECISION", "REPEAT", "REQUIRE"})
KEYWORDS = STATEMENT_STARTS | {
    *("AND", "AS", "BLUEPRINT", "CHOICE", "ELSE", "FALSE", "IMPORT", "IN", "NOT", "ON", "OR", "STEP", "TRUE")
}
INFIX = frozenset({"COMPARISON", "PLUS", "MINUS", "TIMES", "FACTOR", "POWER", "PIPE", "AND", "OR"})
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
    "$END": "the end of the file",
}
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
    token: Token, accepted: set[str], before: Token | None, statement: Token | None, in_parameters: bool
) -> EsperError:
    """The error for `token`, where the grammar accepts only the terminals `accepted`.

    before: the token before it; statement: the first token of the statement that it stands in.
    """
    span = span_of(token)
    if token.type in KEYWORDS and "NAME" in accepted and not (accepted & _OPERANDS) - {"NAME"}:
        return ReservedWord(word=str(token), way_out="choose another name", span=span)
    if before is not None and before.type == "NAME" and accepted == {"LPAR"} and statement is not None:
        return StepIsNoCall(name=str(before), span=span_of(before))
    return UnexpectedToken(
        found="the end of the file" if token.type == "$END" else f"`{_clipped(str(token))}`",
        expected=_expected(accepted),
        way_out=_way_out(token, accepted, before, statement, in_parameters),
        span=span,
    )


def _expected(accepted: set[str]) -> str:
    names: list[str] = []
    rest = set(accepted)
    if {"NAME", "INTEGER"} <= accepted:
        names.append("an expression")
        rest -= _OPERANDS | KEYWORDS | {"DOTS"}
    if rest & INFIX:
        names.append("an operator")
        rest -= INFIX | {"LPAR", "EQUAL"}
    if accepted >= {*STATEMENT_STARTS, "RBRACE"}:
        names.append("a statement")
        rest -= STATEMENT_STARTS | {"NAME"}
    names += sorted(_SPELLED.get(name, f"`{name.lower()}`") for name in rest)
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def _way_out(
    token: Token, accepted: set[str], before: Token | None, statement: Token | None, in_parameters: bool
) -> str:
    if token.type == "EQUAL" and "COMPARISON" in accepted:
        return "`==` compares"
    if token.type in INFIX and "PIPE" in accepted and "PLUS" not in accepted:
        return "a pipeline ends its expression: put it in parentheses to go on"
    if in_parameters:
        return "a parameter reads `name: kind = default in {choices}`"
    if before is not None and before.type == "NAME" and token.type in _OPERANDS:
        keyword = closest(str(before), (k.lower() for k in STATEMENT_STARTS | {"BLUEPRINT"}))
        if keyword:
            return f"did you mean `{keyword}`?"
    if statement is not None:
        return _EXAMPLES[statement.type]
    if accepted >= {*STATEMENT_STARTS, "RBRACE"}:
        return "a statement starts with a keyword such as `input`, `let` or `output`, or with `name =`"
    return _EXAMPLES["BLUEPRINT"]


def _clipped(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:36]}…"
