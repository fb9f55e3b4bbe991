"""From Lark's rules to the syntax tree: one method a rule, called as the parser reduces it.

No tree of Lark's is built, so nothing walks one recursively. Spans come from the first and last token of
a rule; the file's name from a context variable, since Lark binds these methods once for all files.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

from lark import Token, Transformer

from esper.errors import Span
from esper.lang.ast import (
    Argument,
    Binary,
    Binding,
    Blueprint,
    Branch,
    Call,
    Choice,
    Constraint,
    Domain,
    Expression,
    If,
    Import,
    Input,
    Integer,
    Let,
    Name,
    Output,
    Parameter,
    Pipeline,
    Precision,
    Range,
    Real,
    Repeat,
    Require,
    Sizes,
    Spread,
    Statement,
    TensorTypeExpr,
    Text,
    Truth,
    Unary,
    depth_of,
)
from esper.lang.errors import NestingTooDeep, NumberTooLarge, UnknownEscape
from esper.lang.nesting import MAX_NESTING

FILE: ContextVar[str] = ContextVar("file")
MAX_INTEGER = 2**63 - 1
_ESCAPES = {'"': '"', "\\": "\\", "n": "\n"}


def span_of(token: Token) -> Span:
    """The place of one token."""
    assert token.line is not None and token.column is not None
    assert token.end_line is not None and token.end_column is not None
    return Span(FILE.get(), token.line, token.column, token.end_line, token.end_column)


def _between(first: Any, last: Any) -> Span:
    start = span_of(first) if isinstance(first, Token) else first.span
    end = span_of(last) if isinstance(last, Token) else last.span
    return Span(start.file, start.line, start.column, end.end_line, end.end_column)


def _name(token: Token) -> Name:
    return Name(span_of(token), str(token))


def _text(token: Token) -> Text:
    body = str(token)[1:-1]
    if "\\" not in body:
        return Text(span_of(token), body)
    pieces: list[str] = []
    characters = iter(body)
    for character in characters:
        if character == "\\":
            escape = next(characters)
            if escape not in _ESCAPES:
                raise UnknownEscape(character=escape, span=span_of(token))
            pieces.append(_ESCAPES[escape])
        else:
            pieces.append(character)
    return Text(span_of(token), "".join(pieces))


def _nested(span: Span, *depths: int) -> int:
    depth = max(depths, default=0)
    if depth > MAX_NESTING:
        raise NestingTooDeep(limit=MAX_NESTING, span=span)
    return depth


def _links(otherwise: tuple[Statement, ...]) -> int:
    """How many an `else if` has of its kind below it."""
    links = 0
    while len(otherwise) == 1 and isinstance(otherwise[0], If):
        links, otherwise = links + 1, otherwise[0].otherwise
    return links


@dataclass(frozen=True, slots=True)
class Body:
    """Statements in braces, on their way into the statement or blueprint that they belong to."""

    span: Span
    statements: tuple[Statement, ...]


class TreeBuilder(Transformer[Token, Any]):
    """The callbacks of `grammar/blueprint.lark`. Raise `EsperError` with a span."""

    def start(self, children: list[Any]) -> list[Import | Blueprint]:
        return children[0] if children else []

    def _listed(self, children: list[Any]) -> list[Any]:
        if len(children) == 1:
            return children
        children[0].append(children[1])
        first: list[Any] = children[0]
        return first

    items = parameters = choices = statements = size_list = arguments = branches = names = _listed

    def load(self, children: list[Token]) -> Import:
        keyword, source = children
        named = _name(source) if source.type == "NAME" else _text(source)
        return Import(_between(keyword, source), named)

    def body(self, children: list[Any]) -> Body:
        statements: list[Statement] = children[1] if isinstance(children[1], list) else []
        return Body(_between(children[0], children[-1]), tuple(statements))

    def blueprint(self, children: list[Any]) -> Blueprint:
        parameters: list[Parameter] = children[3] if isinstance(children[3], list) else []
        body: Body = children[-1]
        return Blueprint(_between(children[0], body), _name(children[1]), tuple(parameters), body.statements)

    def parameter(self, children: list[Any]) -> Parameter:
        default: Expression | None = None
        domain: Domain | Range | None = None
        for child in children[3:]:
            if isinstance(child, Domain | Range):
                domain = child
            else:
                default = child
        span = _between(children[0], children[-1])
        return Parameter(span, _name(children[0]), _name(children[2]), default, domain)

    def default(self, children: list[Any]) -> Expression:
        expression: Expression = children[0]
        return expression

    def domain(self, children: list[Any]) -> Domain:
        return Domain(_between(children[0], children[-1]), tuple(children[2]))

    def range(self, children: list[Any]) -> Range:
        _, low, _, high, *rest = children
        scale = (
            _name(rest.pop()) if rest and isinstance(rest[-1], Token) and rest[-1].type == "NAME" else None
        )
        step: Expression | None = rest[1] if rest else None
        return Range(_between(children[0], children[-1]), low, high, step, scale)

    def require(self, children: list[Any]) -> Require:
        return Require(_between(children[0], children[-1]), children[1], _text(children[3]))

    def let(self, children: list[Any]) -> Let:
        return Let(_between(children[0], children[-1]), _name(children[1]), children[3])

    def input(self, children: list[Any]) -> Input:
        return Input(_between(children[0], children[-1]), _name(children[1]), children[3])

    def binding(self, children: list[Any]) -> Binding:
        names = tuple(map(_name, children[0]))
        return Binding(_between(names[0], children[-1]), names, children[2])

    def repeat(self, children: list[Any]) -> Repeat:
        index = _name(children[3]) if len(children) > 3 else None
        return Repeat(_between(children[0], children[-1]), children[1], index, children[-1].statements)

    def conditional(self, children: list[Any]) -> If:
        otherwise: tuple[Statement, ...] = children[3] if len(children) > 3 else ()
        span = _between(children[0], otherwise[-1] if otherwise else children[2])
        _nested(span, _links(otherwise))
        return If(span, children[1], children[2].statements, otherwise)

    def otherwise(self, children: list[Any]) -> tuple[Statement, ...]:
        branch: Body | If = children[0]
        return (branch,) if isinstance(branch, If) else branch.statements

    def precision(self, children: list[Any]) -> Precision:
        return Precision(_between(children[0], children[1]), _name(children[1]))

    def constraint(self, children: list[Any]) -> Constraint:
        _, quantity, comparison, bound, *on = children
        target = _text(on[1]) if on else None
        span = _between(children[0], children[-1])
        return Constraint(span, _name(quantity), str(comparison), bound, target)

    def output(self, children: list[Any]) -> Output:
        return Output(_between(children[0], children[-1]), _name(children[1]), children[3])

    def bare_output(self, children: list[Any]) -> Output:
        return Output(_between(children[0], children[-1]), None, children[1])

    def tensor_type(self, children: list[Any]) -> TensorTypeExpr:
        return TensorTypeExpr(_between(children[0], children[-1]), _name(children[0]), children[1])

    def name(self, children: list[Token]) -> Name:
        return _name(children[0])

    def integer(self, children: list[Token]) -> Integer:
        token = children[0]
        if len(token) > 20 or int(token) > MAX_INTEGER:
            raise NumberTooLarge(text=_clipped(token), span=span_of(token))
        return Integer(span_of(token), int(token))

    def real(self, children: list[Token]) -> Real:
        token = children[0]
        value = float(token)
        if value == float("inf"):
            raise NumberTooLarge(text=_clipped(token), span=span_of(token))
        return Real(span_of(token), value)

    def text(self, children: list[Token]) -> Text:
        return _text(children[0])

    def truth(self, children: list[Token]) -> Truth:
        return Truth(span_of(children[0]), children[0] == "true")

    def spread(self, children: list[Token]) -> Spread:
        name, dots = _name(children[-1]), children[0]
        return Spread(_between(dots, children[-1]), name)

    def grouped(self, children: list[Any]) -> Expression:
        """The expression itself; its span takes the parentheses in."""
        expression: Expression = replace(children[1], span=_between(children[0], children[2]))
        return expression

    def sizes(self, children: list[Any]) -> Sizes:
        items = children[1] if isinstance(children[1], list) else []
        span = _between(children[0], children[-1])
        return Sizes(span, tuple(items), _nested(span, *map(depth_of, items)) + 1)

    def unary(self, children: list[Any]) -> Unary:
        token, operand = children
        span = _between(token, operand)
        return Unary(span, str(token), operand, _nested(span, depth_of(operand)) + 1)

    def binary(self, children: list[Any]) -> Binary:
        left, token, right = children
        span = _between(left, right)
        left_depth = depth_of(left) - 1 if isinstance(left, Binary) else depth_of(left)
        depth = _nested(span, left_depth, depth_of(right)) + 1
        return Binary(span, str(token), span_of(token), left, right, depth)

    def positional(self, children: list[Any]) -> Argument:
        return Argument(children[0].span, None, children[0])

    def argument_name(self, children: list[Token]) -> Name:
        return _name(children[0])

    def named(self, children: list[Any]) -> Argument:
        name, value = children[0], children[-1]
        return Argument(_between(name, value), name, value)

    def branch(self, children: list[Any]) -> Branch:
        return Branch(_between(children[0], children[2]), _name(children[0]), children[2])

    def choice(self, children: list[Any]) -> Choice:
        branches: list[Branch] = children[3]
        span = _between(children[0], children[-1])
        depth = _nested(span, *(depth_of(branch.value) for branch in branches)) + 1
        return Choice(span, _name(children[1]), tuple(branches), depth)

    def call(self, children: list[Any]) -> Call:
        arguments = children[2] if isinstance(children[2], list) else []
        span = _between(children[0], children[-1])
        depth = _nested(span, *(depth_of(argument.value) for argument in arguments)) + 1
        return Call(span, _name(children[0]), tuple(arguments), depth)

    def pipeline(self, children: list[Any]) -> Pipeline:
        source, step = children[0], children[-1]
        span = _between(source, step)
        if isinstance(source, Pipeline):
            _nested(span, len(source.steps))  # each step copies those before it
            depth = max(source.depth, step.depth + 1)
            return Pipeline(span, source.source, (*source.steps, step), depth)
        depth = _nested(span, depth_of(source), step.depth) + 1
        return Pipeline(span, source, (step,), depth)


def _clipped(text: str) -> str:
    return text if len(text) <= 24 else f"{text[:20]}…"
