"""Statements in another order than theirs."""

from __future__ import annotations

from esper.lang.mistakes.kinds import (
    A_LET,
    BODY,
    LINE,
    VALUE,
    Mistake,
)

_IF = ("the statements of an `if` stand in braces", "if width > 64 { h = relu(h) } else { h = gelu(h) }")
_REPEAT = ("a `repeat` has a count, perhaps an index, and braces", "repeat depth as i { h = relu(h) }")
_INPUT = ("an input has a name, an element type and sizes", "input x: f32[N, width]")
_OUTPUT = ("an output is a value, or has a name and `=`", "output share = sigmoid(x)")
_REQUIRE = ("a `require` has a condition and a reason", 'require width % 2 == 0: "an odd width has no half"')
_CONSTRAINT = (
    "a constraint bounds a quantity, perhaps on a target",
    'constraint latency_ms <= 0.2 on "sm_90"',
)

STATEMENTS = (
    Mistake(
        BODY,
        *A_LET,
        ("let x: 3", "let x: int = 3", "let x 3", "let x", "let x\noutput y", "let x\nh = 3", "let = 3"),
    ),
    Mistake(
        BODY, *A_LET, ("let 3 = x", "let [a] = x", "let (a) = x", "let f(x) = x", 'let "x" = 3', "let x[0]")
    ),
    Mistake(BODY, "each `let` binds one name", "let hidden = 4 * width", ("let x, y = 3",)),
    Mistake(
        BODY,
        "`let` binds once, and needs no other word",
        "let hidden = 4 * width",
        ("let $ x = 3",),
        ("mut", "const", "static", "int", "float", "bool", "rec"),
    ),
    Mistake(
        BODY,
        *_INPUT,
        (
            "input x f32[N]",
            "input x: [N]",
            "input x",
            "input\nh = 3",
            "input x\noutput x",
            "input x: f32",
            "input : f32[N]",
        ),
    ),
    Mistake(
        BODY,
        *_INPUT,
        (
            "input x = f32[N]",
            "input x: f32(N)",
            "input x: f32 output x",
            "input x: 3",
            "input x: f32\nh = x",
            "input (x: f32[N])",
            "input x(N)",
        ),
    ),
    Mistake(BODY, "the name of an input stands before its type", _INPUT[1], ("input f32[N] x",)),
    Mistake(BODY, "each `input` declares one tensor", _INPUT[1], ("input x, y: f32[N]",)),
    Mistake(
        BODY,
        "an input has no value of its own, the caller gives one",
        _INPUT[1],
        ("input x: f32[N] = 3",),
    ),
    Mistake(
        BODY,
        *_OUTPUT,
        ("output = x", "output: x", "output", "output x: f32[N]", "output x as y"),
    ),
    Mistake(
        BODY,
        "each `output` gives one value, and several have names",
        "output share = sigmoid(x)",
        ("output x, y", "output relu(x), y"),
    ),
    Mistake(
        BODY,
        *_REQUIRE,
        (
            "require x > 3",
            'require x > 3, "why"',
            'require x > 3 "why"',
            "require x > 3: why",
            "require x > 3\nh = x",
            "require x > 3\nlet h = x",
            "require x > 3:",
            "require\nh = 3",
            "require",
        ),
    ),
    Mistake(
        BODY,
        "equality is `==`",
        'require width == 64: "why"',
        ('require x = 3: "why"', 'require x % 2 = 0: "why"', 'require f(x) = 0: "why"'),
    ),
    Mistake(
        BODY,
        *_REPEAT,
        (
            "repeat 3:",
            "repeat 3 as i:",
            "repeat 3 times { }",
            "repeat i in 3 { }",
            "repeat { }",
            "repeat\nh = 3",
            "repeat 3 as { }",
            "repeat 3 as 1 { }",
        ),
    ),
    Mistake(
        BODY,
        *_REPEAT,
        (
            "repeat 1..3 { }",
            "repeat 3, i { }",
            "repeat 3\nlet h = 3",
            "repeat 3 as i\nh = 3",
            "repeat 3 as i let",
        ),
    ),
    Mistake(
        BODY,
        *_IF,
        (
            "if x:",
            "if x then { }",
            "if x\nh = 3",
            "if x\noutput x",
            "if { }",
            "if\nh = 3",
            "if x\nlet h = 3",
            "if x }",
        ),
    ),
    Mistake(LINE, *_IF, ("else { }", "else:")),
    Mistake(
        BODY,
        *_IF,
        ("if x { } else:", "if x { } else h = 3", "if x { } else output x", "if x { } else }"),
    ),
    Mistake(
        BODY,
        "equality is `==`",
        "if width == 64 { h = relu(h) }",
        ("if x = 3 { }", "if f(x) = 3 { }", "if 3 = x { }"),
    ),
    Mistake(
        BODY,
        "`if` is a statement, and each branch binds the name",
        "if width > 64 { h = x } else { h = y }",
        ("h = x if y else z", "output x if y else z"),
    ),
    Mistake(
        VALUE,
        "`if` is a statement, and each branch binds the name",
        "if width > 64 { h = x } else { h = y }",
        ("f(x if y else z)", "(x if y else z)", "[x if y else z]", "f(a=x if y else z)"),
    ),
    Mistake(
        BODY,
        "a precision is a word",
        "precision bf16",
        (
            "precision = bf16",
            "precision: bf16",
            'precision "bf16"',
            "precision 16",
            "precision",
            "precision\nh = 3",
        ),
    ),
    Mistake(
        BODY,
        *_CONSTRAINT,
        (
            "constraint params = 3",
            "constraint params: 3",
            "constraint params 3",
            "constraint params",
            "constraint\nh = 3",
            "constraint <= 3",
            "constraint params < 3 on sm_90",
            'constraint params < 3 "sm_90"',
            "constraint 3 < params",
        ),
    ),
)
