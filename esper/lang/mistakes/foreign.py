"""Words and signs of other languages in the body of a blueprint."""

from __future__ import annotations

from esper.lang.mistakes.kinds import (
    A_BINDING,
    A_BLUEPRINT,
    A_COMMENT,
    A_LET,
    BODY,
    FILE,
    FUNCTIONS,
    LINE,
    Mistake,
)

WORDS_IN_A_BODY = (
    Mistake(
        BODY,
        "a blueprint gives a value by `output`",
        "output x + h",
        ("$ x", "$"),
        ("return", "result", "yield", "emit"),
    ),
    Mistake(
        BODY,
        "statements are repeated by `repeat`, a number of times that is known before",
        "repeat depth as i { h = relu(h) }",
        ("$ i in 3 { }", "$ (3) { }"),
        ("for", "foreach", "while", "loop", "until"),
    ),
    Mistake(
        BODY,
        "`else` may be followed by an `if`",
        "if width > 64 { h = relu(h) } else if width > 32 { h = gelu(h) }",
        ("$ width > 3 { }", "$ (width) { }"),
        ("elif", "elsif", "elseif"),
    ),
    Mistake(
        BODY,
        "an `if` decides by a condition, a `choice` is left to the caller",
        "h = choice mixing { plain => x, dense => linear(x) }",
        ("$ width { }", "$ (width) { }"),
        ("match", "switch", "case", "when", "select"),
    ),
    Mistake(
        BODY,
        "a static value is bound by `let`, a tensor by its name alone",
        "let hidden = 4 * width",
        ("$ hidden = 3",),
        ("const", "var", "val", "auto", "final", "set", "define", "local", "static", "int", "float", "bool"),
    ),
    Mistake(
        BODY,
        "a condition is stated by `require`, with a reason",
        'require width % 2 == 0: "an odd width has no half"',
        ("$ width > 3", "$(width > 3)"),
        ("assert", "ensure", "check", "expect"),
    ),
    Mistake(
        BODY,
        "blueprints stand beside one another, and call one another by name",
        A_BLUEPRINT,
        ("$ wide(width)",),
        FUNCTIONS,
    ),
    Mistake(
        BODY,
        "what should be seen is an output",
        "output share = sigmoid(x)",
        ("$(x)", "$ x"),
        ("print", "println", "printf", "echo", "debug"),
    ),
    Mistake(
        BODY,
        "parameters stand in the parentheses after the blueprint's name",
        "blueprint wide(width: dim = 64, depth: int = 2) { }",
        ("$ depth: int = 2",),
        ("param", "parameter", "arg", "dim"),
    ),
    Mistake(
        BODY,
        "a tensor comes in by `input`",
        "input x: f32[N, width]",
        ("$ x: f32[N]",),
        ("tensor", "inputs", "placeholder"),
    ),
    Mistake(
        BODY,
        "the name of an input stands before its type",
        "input x: f32[N, width]",
        ("$[N, width] x",),
        ("f16", "bf16", "f32", "f64", "i32", "i64"),
    ),
    Mistake(BODY, "a block that does nothing is empty", "if width > 64 { }", ("$",), ("pass",)),
    Mistake(
        BODY,
        "braces close a block",
        "repeat depth as i { h = relu(h) }",
        ("$", "$ end"),
        ("end", "endif", "endfor", "fi", "done"),
    ),
    Mistake(
        BODY,
        "a `repeat` runs to its end; an `if` in it may take other statements",
        "repeat depth as i { if i > 0 { h = relu(h) } }",
        ("$",),
        ("break", "continue"),
    ),
)

SIGNS_IN_A_BODY = (
    Mistake(
        BODY,
        "a name is bound anew to the whole value",
        "h = h + x",
        ("h $ x",),
        ("+=", "-=", "*=", "/=", "//=", "**=", "%=", "@="),
    ),
    Mistake(BODY, "a name is bound anew to the whole value", "h = h + 1", ("h$",), ("++", "--")),
    Mistake(
        BODY, "a tensor is bound by `=`", "h = relu(x)", ("h $ relu(x)",), (":=", "<-", "==", "->", "=>")
    ),
    Mistake(BODY, *A_LET, ("let hidden $ 3",), (":=", "==", "+=", "<-")),
    Mistake(
        BODY,
        *A_COMMENT,
        (
            "$ a remark",
            "h = x $ a remark",
            "h = x $ a remark which goes on",
            "input x: f32[N] $ a remark",
            'require width > 3: "why" $ a remark',
            "precision bf16 $ a remark",
            'constraint params < 3 on "sm_90" $ a remark',
        ),
        ("//",),
    ),
    Mistake(BODY, *A_COMMENT, ("$ a remark $", "h = x $ a remark $"), ("/*", "/**")),
    Mistake(
        LINE,
        "documentation stands in `##` lines above a blueprint or a parameter, a remark in `#` lines",
        "## Doubles the width.",
        ('"Doubles the width."',),
    ),
    Mistake(
        BODY,
        "a line ends a statement, and nothing stands between two",
        "h = relu(x) output h",
        (
            "let hidden = 3,",
            "h = x,",
            "input x: f32[N],",
            'require width: "why",',
            "precision bf16,",
            "if width { },",
        ),
    ),
    Mistake(LINE, *A_BINDING, ("3", "0.5", "[x, y]", "not x", "true")),
    Mistake(
        BODY,
        *A_BINDING,
        ("relu(x)", "x |> relu()", "x + y", "x * y", "x - y", "x / y", "x ** y", "x > y", "x and y", "x"),
    ),
    Mistake(BODY, "a tensor is not changed in place, another is bound", "h = relu(x)", ("x[0] = y",)),
    Mistake(BODY, "a tensor comes in by `input`", "input x: f32[N, width]", ("x: f32[N]", "x: f32[N] = 3")),
    Mistake(
        FILE,
        "several names are bound without parentheses",
        "mixed, difference = both(x, y)",
        ("blueprint z() {\n(x, y) = both(z)\n}",),
    ),
    Mistake(
        BODY,
        "imports stand at the top of the file",
        "import norm",
        ("import norm", "if true { import norm }", "repeat 3 { import norm }"),
    ),
    Mistake(
        LINE, "a block belongs to a `repeat` or an `if`", "if width > 64 { h = relu(h) }", ("{ h = x }",)
    ),
)
