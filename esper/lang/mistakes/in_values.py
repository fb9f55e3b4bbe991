"""Mistakes in expressions."""

from __future__ import annotations

from esper.lang.mistakes.kinds import (
    A_LET,
    BODY,
    LINE,
    STATEMENT_WORDS,
    VALUE,
    Mistake,
)

_CHOICE = ("a choice has a name, and branches in braces", "choice mixing { plain => x, dense => linear(x) }")
_CALL = ("arguments stand in parentheses", "linear(x, width)")

IN_VALUES = (
    Mistake(
        LINE, "a choice is a value, which a name is bound to", f"h = {_CHOICE[1]}", ("choice m { a => x }",)
    ),
    Mistake(VALUE, "a step of a pipeline is a call", "x |> relu()", ("x |> (relu)", "x |> 3", 'x |> "relu"')),
    Mistake(VALUE, "a step of a pipeline is a call", "x |> relu()", ("x |>", "x |> |> relu()", "x |> [y]")),
    Mistake(
        BODY,
        "a step of a pipeline is a call",
        "h = x |> relu()",
        ("h = x |>\ng = x", *(f"h = x |>\n{word} y" for word in STATEMENT_WORDS)),
    ),
    Mistake(
        BODY,
        "a tensor is bound by `=` to a value",
        "h = relu(x)",
        ("h =", "h =\ng = x", *(f"h =\n{word} y" for word in STATEMENT_WORDS)),
    ),
    Mistake(
        BODY,
        "an operand is missing",
        "h = x + y",
        ("h = x *\ng = x", *(f"h = x *\n{word} y" for word in STATEMENT_WORDS)),
    ),
    Mistake(VALUE, "a pipeline starts with a tensor", "x |> relu()", ("|> relu()",)),
    Mistake(VALUE, "the sign of a pipeline is `|>`", "x |> relu()", ("x $ relu()",), ("->", ">>", "=>")),
    Mistake(BODY, *A_LET, ("let x =", "let x =\ny = 3", *(f"let x =\n{word} y" for word in STATEMENT_WORDS))),
    Mistake(
        VALUE,
        "comparisons do not chain",
        "low <= width and width <= high",
        ("a < b < c", "a == b == c"),
    ),
    Mistake(
        VALUE,
        "an `op` parameter stands for a function, and no function is made in a blueprint",
        "act(x)",
        ("$ x: x", "$ x"),
        ("lambda", "new", "await"),
    ),
    Mistake(
        VALUE,
        "parentheses hold one value, several sizes stand in brackets",
        "[N, width]",
        ("(x, y)", "(x, y, z)", "()"),
    ),
    Mistake(
        VALUE,
        "a part of a tensor is had by a call",
        "slice(x, [1], start=[0], stop=[4])",
        ("x[0]", "f(x)[0]", "(x)[0]", "[x][0]"),
    ),
    Mistake(VALUE, *_CALL, ("linear x", "linear(x)(y)", "linear 3", "linear{x}", 'linear "x"')),
    Mistake(VALUE, "a product has its sign", "2 * width", ("2 x", "2 f(x)", "2(x)", "0.5 x", "(2) x")),
    Mistake(
        VALUE,
        "an argument is named with `=`",
        "linear(x, features=width)",
        ("f(a: 1)", "f(a=1, b: 2)"),
    ),
    Mistake(
        VALUE,
        "commas stand between arguments",
        "linear(x, width)",
        ("f(g(x) y)", "f(a=1 b=2)", "f(x y)", "f(x 2)"),
    ),
    Mistake(VALUE, "commas stand between sizes", "[N, width]", ("[x y]", "[f(x) y]", "[2 x]", "[2 3]")),
    Mistake(VALUE, "an argument is given by place or by name", "linear(x, width)", ("f($x)",), ("*", "**")),
    Mistake(VALUE, "an argument is missing", "linear(x, width)", ("f(,)", "f(x,,y)", "f(a=)", "f(a=, b=1)")),
    Mistake(
        VALUE, "an operand is missing", "x + y", ("x +", "* x", "x * / y", "x + )", "(x + )", "x and", "[,]")
    ),
    Mistake(
        VALUE, "braces hold statements or choices, sizes stand in brackets", "[N, width]", ("{ }", "{x, y}")
    ),
    Mistake(VALUE, *_CHOICE, ("choice { }", "choice m: { }", "choice m(x)", "choice m [x]", "choice(m)")),
    Mistake(VALUE, *_CHOICE, ("choice m { }", 'choice m { "a" => x }', "choice m in {a}", "choice m = x")),
    Mistake(
        VALUE,
        "a branch has a name, `=>` and a value",
        "choice mixing { plain => x, dense => linear(x) }",
        (
            "choice m { a: x }",
            "choice m { a -> x }",
            "choice m { a = x }",
            "choice m { a, b }",
            "choice m { a }",
        ),
    ),
    Mistake(
        VALUE,
        "commas stand between branches",
        "choice mixing { plain => x, dense => linear(x) }",
        ("choice m { a => x b => y }", "choice m { a => f(x) b => y }"),
    ),
)
