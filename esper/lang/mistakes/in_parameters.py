"""Mistakes between the parentheses of a blueprint."""

from __future__ import annotations

from esper.lang.mistakes.kinds import (
    A_COMMENT,
    PARAMETERS,
    Mistake,
)

_PARAMETER = ("a parameter has a name, a kind and often a default", "width: dim = 64")
_DOMAIN = ("a domain is a set in braces or a range with two dots", "kernel: int = 3 in {1, 3, 5}")
_RANGE = ("a range takes both ends in, and has two dots", "kernel: int = 3 in 1..7 step 2")

IN_PARAMETERS = (
    Mistake(
        PARAMETERS,
        *_PARAMETER,
        ("width dim", "width = 64", "width", "width, depth", "width: = 64", "width: 64", "width: 0.5"),
    ),
    Mistake(
        PARAMETERS,
        *_PARAMETER,
        ("64", '"width"', "(width)", ": dim", "= 64", "...width", "-1", 'width: "dim"', "width: *"),
    ),
    Mistake(
        PARAMETERS,
        "the name stands before the kind",
        "width: dim = 64",
        ("$ width",),
        ("dim", "int", "float", "bool", "op", "dtype"),
    ),
    Mistake(
        PARAMETERS,
        "parameters have no word before their name",
        "width: dim = 64",
        ("$ width: dim",),
        ("const", "var", "val", "mut", "param", "self", "static"),
    ),
    Mistake(
        PARAMETERS,
        "each parameter is declared by its name",
        "width: dim = 64",
        ("$width",),
        ("*", "**"),
    ),
    Mistake(
        PARAMETERS, *A_COMMENT, ("width: dim, $ a remark", "$ a remark", "width: dim $ a remark"), ("//",)
    ),
    Mistake(
        PARAMETERS,
        "a default follows `=`",
        "width: dim = 64",
        ("width: dim 64", "width: dim 0.5", "width: dim == 64", "width: dim(64)", 'act: op "gelu"'),
    ),
    Mistake(
        PARAMETERS,
        "a tensor comes in by a statement of the body",
        "input x: f32[N, width]",
        ("x: f32[N, width]",),
    ),
    Mistake(
        PARAMETERS,
        "commas stand between parameters",
        "width: dim = 64, depth: int = 2",
        (
            "width: dim depth: int",
            "width: dim = 64 depth: int",
            "act: op in {relu, gelu} depth: int",
            "rate: float in 0.0..1.0 log depth: int",
            "depth: int in 1..4 width: dim",
        ),
    ),
    Mistake(
        PARAMETERS,
        "one comma stands between parameters",
        "width: dim = 64, depth: int = 2",
        ("width: dim,, depth: int", ", width: dim"),
    ),
    Mistake(
        PARAMETERS,
        *_DOMAIN,
        (
            "kernel: int in [1, 3]",
            "kernel: int in 3",
            "kernel: int in 1, depth: int",
            "kernel: int in f(1, 3)",
        ),
    ),
    Mistake(PARAMETERS, *_DOMAIN, ("kernel: int in {}", "kernel: int in", "kernel: int = 3 {1, 3}")),
    Mistake(
        PARAMETERS,
        *_RANGE,
        ("kernel: int in 1:7", "kernel: int in 1 to 7", "kernel: int in {1..7}", "kernel: int in (1..7)"),
    ),
    Mistake(PARAMETERS, *_RANGE, ("kernel: int in 1$7",), ("...", "..=", "..<")),
    Mistake(
        PARAMETERS,
        "the step of a range follows `step`, and no comma",
        "kernel: int = 3 in 1..7 step 2",
        ("kernel: int in 1..7, step 2", "kernel: int in 1..7 by 2", "kernel: int in 1..7 step"),
    ),
    Mistake(
        PARAMETERS,
        "`log` is the last word of a domain",
        "rate: float = 0.1 in 0.001..1.0 log",
        ("rate: float in 0.001..1.0 log step 2", "rate: float in 0.001..1.0 log = 0.1"),
    ),
    Mistake(
        PARAMETERS,
        "commas stand between choices",
        "kernel: int = 3 in {1, 3, 5}",
        ("kernel: int in {1 3}", "act: op in {relu gelu}", "act: op in {f() gelu}"),
    ),
    Mistake(
        PARAMETERS,
        "the default stands before the domain",
        "kernel: int = 3 in {1, 3, 5}",
        ("kernel: int in {1, 3} = 3", "kernel: int in 1..3 = 3", "kernel: int in 1..3 step 2 = 3"),
    ),
)
