"""The table of algebraic rewrites: a left side, a right side, and what must hold to replace one by the other.

Both sides are expressions in one small language. `x`, `y`, `z` stand for any floating value, `a`, `b` for
constants, whose arithmetic on the right is done at once; `+ - * /` and unary `-` are the operators `add`,
`sub`, `mul`, `div` and `neg`, a call is an operator of that name. A letter stands for one value throughout.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

VALUES = ("x", "y", "z")
CONSTANTS = ("a", "b")
COMMUTATIVE = ("add", "mul")
_BINARY: Mapping[type[ast.operator], str] = {ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.Div: "div"}
_WEIGHT = {"div": 4, "sqrt": 2, "rsqrt": 2, "exp": 2, "log": 2}


@dataclass(frozen=True, slots=True)
class Apply:
    """An operator on expressions."""

    op: str
    operands: tuple[Expression, ...]


Expression = Apply | str | float
Condition = Callable[[Mapping[str, float]], bool]


@dataclass(frozen=True)
class Pattern:
    """One rewrite of `left` to `right`.

    when: what must hold of the constants.
    positive: the letters for which both sides are defined only above zero.
    ulps: how far the sides may lie apart, in units of the dtype's eps times the left side on absolute
        values; 0 where they are bit-equal.
    fast_math: it reassociates or cancels, so that a NaN, an infinity or digits may come or go.
    """

    left: str
    right: str
    when: Condition | None = None
    positive: tuple[str, ...] = ()
    ulps: int = 0
    fast_math: bool = False

    @cached_property
    def sides(self) -> tuple[Apply, Expression]:
        left = parse_expression(self.left)
        assert isinstance(left, Apply), self.left
        return left, parse_expression(self.right)


def parse_expression(text: str) -> Expression:
    """The expression that `text` writes. Raises `ValueError` for anything outside the language."""

    def read(tree: ast.expr) -> Expression:
        match tree:
            case ast.Name(id=letter) if letter in VALUES + CONSTANTS:
                return letter
            case ast.Constant(value=int() | float() as number):
                return float(number)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
                return Apply(_BINARY[type(op)], (read(left), read(right)))
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return Apply("neg", (read(operand),))
            case ast.Call(func=ast.Name(id=op), args=args, keywords=[]):
                return Apply(op, tuple(map(read, args)))
        raise ValueError(f"`{ast.unparse(tree)}` in the pattern `{text}` is no expression of patterns")

    return read(ast.parse(text, mode="eval").body)


def is_scalar(expression: Expression) -> bool:
    """Whether it is made of constants alone."""
    if isinstance(expression, Apply):
        return all(map(is_scalar, expression.operands))
    return isinstance(expression, float) or expression in CONSTANTS


def weight(expression: Expression) -> int:
    """What a rewrite lowers: the work of the unfolded expression, constants free.

    A graph's measure is the sum over its unfolded results. Replacing a part by a lighter one lowers it
    wherever the part is read, so rewriting ends, whatever the order.
    """
    if not isinstance(expression, Apply) or is_scalar(expression):
        return 0
    return _WEIGHT.get(expression.op, 1) + sum(map(weight, expression.operands))


def _halves_exactly(constants: Mapping[str, float]) -> bool:
    """A power of two whose reciprocal is a normal number in every dtype."""
    mantissa, exponent = math.frexp(constants["a"])
    return abs(mantissa) == 0.5 and -12 <= exponent <= 12


PATTERNS = (
    Pattern("-x * -y", "x * y"),
    Pattern("-x / -y", "x / y"),
    Pattern("x / a", "x * (1 / a)", when=_halves_exactly),
    Pattern("y / sqrt(x)", "y * rsqrt(x)", positive=("x",), ulps=4),
    Pattern("relu(relu(x))", "relu(x)"),
    Pattern("relu6(relu(x))", "relu6(x)"),
    Pattern("relu(relu6(x))", "relu6(x)"),
    Pattern("relu6(relu6(x))", "relu6(x)"),
    Pattern("relu(exp(x))", "exp(x)"),
    Pattern("relu(sigmoid(x))", "sigmoid(x)"),
    Pattern("(x * a) * b", "x * (a * b)", ulps=4, fast_math=True),
    Pattern("(x * a) / b", "x * (a / b)", when=lambda c: c["b"] != 0.0, ulps=4, fast_math=True),
    Pattern("(x / a) / b", "x / (a * b)", when=lambda c: c["a"] * c["b"] != 0.0, ulps=4, fast_math=True),
    Pattern("(x + a) + b", "x + (a + b)", ulps=4, fast_math=True),
    Pattern("(x - a) - b", "x - (a + b)", ulps=4, fast_math=True),
    Pattern("(x / y) / z", "x / (y * z)", ulps=4, fast_math=True),
    Pattern("(x * y) / y", "x", ulps=4, fast_math=True),
    Pattern("exp(x) * exp(y)", "exp(x + y)", ulps=8, fast_math=True),
    Pattern("exp(log(x))", "x", positive=("x",), ulps=4, fast_math=True),
    Pattern("log(exp(x))", "x", ulps=4, fast_math=True),
    Pattern("sqrt(x) * sqrt(x)", "x", positive=("x",), ulps=4, fast_math=True),
)
