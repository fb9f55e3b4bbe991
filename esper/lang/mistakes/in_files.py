"""Mistakes between the blueprints of a file, and in the header of one."""

from __future__ import annotations

from esper.lang.mistakes.kinds import (
    A_BLUEPRINT,
    A_COMMENT,
    FILE,
    FUNCTIONS,
    HEADER,
    STATEMENT_WORDS,
    Mistake,
)

IN_A_FILE = (
    Mistake(
        FILE, "a block is a blueprint", A_BLUEPRINT, ("$ wide(width)",), (*FUNCTIONS, "model", "network")
    ),
    Mistake(
        FILE,
        "blueprints of another file, or one of the library, are had by `import`",
        'import "blocks/mlp.esp"',
        ("$ norm",),
        ("from", "use", "using", "include", "load"),
    ),
    Mistake(
        FILE,
        "any file may import a blueprint, no word says so",
        A_BLUEPRINT,
        ("$ blueprint wide() { }",),
        ("export", "pub", "public", "private", "static", "extern"),
    ),
    Mistake(FILE, *A_COMMENT, ("$ a remark", "$ a remark $"), ("//", "/*", "--", "/**", "%")),
    Mistake(
        FILE,
        "documentation stands in `##` lines",
        "## Doubles the width.",
        ('"Doubles the width."',),
    ),
    Mistake(
        FILE,
        "statements stand in the braces of a blueprint",
        "blueprint wide(width: dim = 64) { let hidden = 4 * width }",
        tuple(f"{word} x" for word in STATEMENT_WORDS),
    ),
    Mistake(
        FILE,
        "a file has imports and blueprints, each in balanced braces",
        A_BLUEPRINT,
        ("}", "{ }", "}\n}", "wide = 3", "(x)"),
    ),
    Mistake(
        FILE,
        "an import names one file, or one blueprint of the library",
        "import norm",
        (
            "import norm as n",
            "import norm, attention",
            "import {norm}",
            "import (norm)",
            "import",
            "import *",
        ),
    ),
    Mistake(
        FILE,
        "a blueprint has a name, of letters, digits and `_`",
        A_BLUEPRINT,
        ("blueprint (width: dim) { }", 'blueprint "wide"() { }', "blueprint 3d() { }", "blueprint { }"),
    ),
    Mistake(
        FILE,
        "parameters stand in parentheses, and `()` are none",
        A_BLUEPRINT,
        (
            "blueprint wide { }",
            "blueprint wide: dim { }",
            "blueprint wide[width: dim] { }",
            "blueprint wide<width> { }",
            "blueprint wide\ninput x",
            "blueprint wide width",
            "blueprint wide-block() { }",
            "blueprint wide = f",
        ),
    ),
    Mistake(
        HEADER,
        "outputs are statements of the body",
        "blueprint wide(width: dim = 64) { input x: f32[N, width] output x }",
        (" $ f32 { }",),
        ("->",),
    ),
    Mistake(
        HEADER,
        "the body of a blueprint stands in braces",
        A_BLUEPRINT,
        (
            ":",
            " = 3",
            "\nh = 3",
            "\nblueprint y() { }",
            "",
            " (x)",
            *(f"\n{word} x" for word in STATEMENT_WORDS),
            *(f" {word} x" for word in STATEMENT_WORDS),
        ),
    ),
)
