"""From text to the syntax tree: precedence, spans, documentation, and what survives a syntax error."""

from __future__ import annotations

import pytest

from esper.errors import Span
from esper.lang import Diagnostic, Program, parse_source
from esper.lang.ast import (
    Binary,
    Binding,
    Blueprint,
    Call,
    Expression,
    Input,
    Integer,
    Let,
    Name,
    Output,
    Pipeline,
    Sizes,
    Spread,
    Unary,
    names_in,
)


def _parsed(text: str) -> Blueprint:
    program, diagnostics = parse_source(text, "a.esp")
    assert not diagnostics
    return program.blueprints[0]


def _expression(text: str) -> Expression:
    statement = _parsed(f"blueprint b() {{ let a = {text} }}").body[0]
    assert isinstance(statement, Let)
    return statement.value


def _codes(diagnostics: list[Diagnostic]) -> list[str]:
    return [diagnostic.code for diagnostic in diagnostics]


def _bracketed(expression: Expression) -> str:
    """The expression with every operation in parentheses."""
    match expression:
        case Name(text=text):
            return text
        case Integer(value=value):
            return str(value)
        case Unary(operator=operator, operand=operand):
            return f"({operator} {_bracketed(operand)})"
        case Binary(operator=operator, left=left, right=right):
            return f"({_bracketed(left)} {operator} {_bracketed(right)})"
        case Call(function=function, arguments=arguments):
            return f"{function.text}({', '.join(_bracketed(a.value) for a in arguments)})"
        case Pipeline(source=source, steps=steps):
            return " |> ".join([_bracketed(source), *map(_bracketed, steps)])
    raise AssertionError(expression)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a + b * c", "(a + (b * c))"),
        ("a - b - c", "((a - b) - c)"),
        ("-a ** 2", "(- (a ** 2))"),
        ("a ** -b ** c", "(a ** (- (b ** c)))"),
        ("a @ b + c // d % e", "((a @ b) + ((c // d) % e))"),
        ("not a == b and c or d", "(((not (a == b)) and c) or d)"),
        ("x + y |> f(a) |> g()", "(x + y) |> f(a) |> g()"),
        ("(x |> f()) + y", "(x |> f() + y)"),
    ],
)
def test_operators_bind_as_in_python_and_a_pipeline_binds_less_than_sums(text: str, expected: str) -> None:
    assert _bracketed(_expression(text)) == expected


def test_newlines_do_not_separate_statements() -> None:
    blueprint = _parsed("blueprint b(){input x:f32[N]h=x\n|>f()\ny=h\noutput y}")
    assert [type(statement) for statement in blueprint.body] == [Input, Binding, Binding, Output]


def test_keywords_name_arguments() -> None:
    call = _expression("f(in=1, let=2, not=3, true=4)")
    assert isinstance(call, Call)
    assert [a.name.text for a in call.arguments if a.name] == ["in", "let", "not", "true"]


def test_a_spread_may_stand_anywhere_in_a_shape() -> None:
    declared = _parsed("blueprint b() { input x: f32[N, ...S, features,] output x }").body[0]
    assert isinstance(declared, Input)
    assert isinstance(declared.type.shape, Sizes)
    assert [type(item) for item in declared.type.shape.items] == [Name, Spread, Name]


def test_spans_cover_exactly_the_text_of_a_node() -> None:
    blueprint = _parsed("blueprint b() {\n    h = x |> f(a)\n}")
    binding = blueprint.body[0]
    assert isinstance(binding, Binding) and isinstance(binding.value, Pipeline)
    assert blueprint.span == Span("a.esp", 1, 1, 3, 2)
    assert binding.span == Span("a.esp", 2, 5, 2, 18)
    assert binding.value.steps[0].span == Span("a.esp", 2, 14, 2, 18)


def test_documentation_belongs_to_what_follows_or_to_the_parameter_before_it() -> None:
    blueprint = _parsed(
        "## One.\n## Two.\nblueprint b(\n  ## Above.\n  a: dim = 1,  ## Behind.\n  c: int = 2,\n) {}"
    )
    assert blueprint.doc == "One.\nTwo."
    assert [parameter.doc for parameter in blueprint.parameters] == ["Above.\nBehind.", ""]


@pytest.mark.parametrize("text", ["blueprint b() {\r\n  output x\r\n}\r\n", "\tblueprint\tb() { output x }"])
def test_carriage_returns_and_tabs_are_white_space(text: str) -> None:
    assert _parsed(text).name.text == "b"


def test_an_error_in_one_statement_leaves_the_others() -> None:
    program, diagnostics = parse_source(
        "blueprint b(a: dim 3, c: int = 1) { let d = * 2 let e = 3 output x y = }"
    )
    (blueprint,) = program.blueprints
    assert _codes(diagnostics) == ["E0101", "E0101", "E0101"]
    assert [parameter.name.text for parameter in blueprint.parameters] == ["c"]
    assert [type(statement) for statement in blueprint.body] == [Let, Output]
    assert blueprint.damaged is not None and {"a", "d", "y"} <= blueprint.damaged


def test_an_error_in_one_blueprint_leaves_the_next() -> None:
    program, diagnostics = parse_source("blueprint a { } blueprint b() { output x } x blueprint c() {}")
    assert [blueprint.name.text for blueprint in program.blueprints] == ["a", "b", "c"]
    assert _codes(diagnostics) == ["E0101", "E0101"]


def _nested(depth: int) -> Program:
    text = f"blueprint b() {{ input x: f32[N] let a = {'(' * depth}1{')' * depth} output x }}"
    program, diagnostics = parse_source(text)
    assert _codes(diagnostics) == ([] if depth < 1000 else ["E0106"])
    return program


def test_nesting_past_a_thousand_is_an_error_and_below_it_is_not() -> None:
    _nested(990)
    _nested(100_000)


def test_a_long_chain_is_no_nesting() -> None:
    assert [name.text for name in names_in(_expression("2 * " * 20_000 + "a"))] == ["a"]


def test_errors_past_two_hundred_are_counted_as_one() -> None:
    _, diagnostics = parse_source("blueprint b() {" + "let = 1\n" * 300 + "}")
    assert len(diagnostics) == 201
    assert "E0118" in _codes(diagnostics)
