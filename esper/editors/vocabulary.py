"""What each keyword of the language is for, with an example, and what a constraint may bound."""

from __future__ import annotations

from dataclasses import dataclass

from esper.lang.keywords import STATEMENT_STARTS


@dataclass(frozen=True, slots=True)
class Keyword:
    """One reserved word: what it does, and a line that uses it."""

    word: str
    doc: str
    example: str

    @property
    def starts_statement(self) -> bool:
        return self.word.upper() in STATEMENT_STARTS


KEYWORDS = {
    keyword.word: keyword
    for keyword in (
        Keyword("and", "True where both conditions are.", 'require a % 2 == 0 and b > 0: "why"'),
        Keyword("as", "Names the index of a `repeat`, from 0.", "repeat depth as i { h = h * i }"),
        Keyword(
            "blueprint",
            "Starts a blueprint: parameters in parentheses, statements in braces.",
            "blueprint block(width: dim = 64) { input x: f32[N, width] output x + x }",
        ),
        Keyword(
            "choice",
            "Makes a parameter of alternatives: the first branch unless the caller names another.",
            "h = choice mixing { plain => linear(x, 8), gated => x * sigmoid(x) }",
        ),
        Keyword(
            "constraint",
            "A bound that a search keeps, on any target or on one.",
            'constraint latency_ms <= 0.2 on "sm_90"',
        ),
        Keyword("else", "The block that is taken where the condition does not hold.", "if deep { } else { }"),
        Keyword("false", "The truth value.", "h = linear(x, 8, bias=false)"),
        Keyword(
            "if", "Takes one of its blocks when the blueprint is elaborated.", "if width > 64 { h = gelu(h) }"
        ),
        Keyword(
            "import",
            "Makes blueprints callable: those of a file beside this one or below, or one of the library.",
            'import "blocks/mlp.esp"',
        ),
        Keyword("in", "The domain of a parameter: what it may be, and what a search chooses.", "in {3, 5}"),
        Keyword(
            "input",
            "A tensor that the caller gives: its element type and shape. A name that is not bound is a size "
            "symbol, and `...S` stands for the remaining axes.",
            "input x: f32[N, width, ...S]",
        ),
        Keyword("let", "Binds a static value once: a number, a size, a list.", "let hidden = 4 * width"),
        Keyword("not", "True where the condition is false.", 'require not causal: "why"'),
        Keyword("on", "The target that a constraint is about.", 'constraint latency_ms <= 0.2 on "sm_90"'),
        Keyword("or", "True where one of the conditions is.", 'require a == 1 or b == 1: "why"'),
        Keyword("output", "A tensor that the caller gets; several have names.", "output share = sigmoid(x)"),
        Keyword(
            "precision",
            "The element type of inputs declared `f32`, unless the caller asks for another.",
            "precision bf16",
        ),
        Keyword("repeat", "Takes its statements several times.", "repeat depth { h = linear(h, width) }"),
        Keyword(
            "require", "States what must hold, and why.", 'require width % 2 == 0: "an odd width has no half"'
        ),
        Keyword("step", "The distance of the values in a range.", "kernel: int = 3 in 1..7 step 2"),
        Keyword("true", "The truth value.", "residual: bool = true"),
    )
}

QUANTITIES = {
    "params": "the number of weights",
    "flops": "floating-point operations of a training step",
    "bytes": "bytes that a training step moves at the least",
    "memory": "bytes of weights and of what is saved for the backward pass",
    "latency_ms": "milliseconds of a training step, by the device's roofline",
    "memory_mb": "`memory` in MiB",
}
"""What a constraint may bound."""
