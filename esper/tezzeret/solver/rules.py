"""What a graph can be held to: bounds on its figures and its structure, hardware, operators, digits.

A rule is data. `Constraint` bounds a figure; with one of `STRUCTURAL` for its quantity it bounds the graph
itself. What a rule finds in a graph is told by `validate`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from esper.ir.operator import OPERATORS
from esper.ir.types import DType
from esper.lang.names import did_you_mean
from esper.tezzeret.constraints import Constraint, parse_constraint
from esper.tezzeret.errors import UnknownQuantity
from esper.tezzeret.solver.errors import MalformedRule
from esper.urza.builder.toolchain import TARGETS, check_target

STRUCTURAL = ("depth", "width", "nodes")
"""Operators on the longest path; values that live at once, weights apart; nodes, weights and inputs among
them."""

Products = Literal["ieee", "tf32", "tf32x3"]
"""How kernels multiply float32: exactly, with 10 bits of mantissa, or with three such products."""

ELEMENTS = dict.fromkeys(TARGETS, frozenset(DType) - {DType.F64})
"""The element types that kernels for a target have."""

ALL_PRODUCTS: tuple[Products, ...] = ("ieee", "tf32", "tf32x3")
PRODUCTS: dict[str, tuple[Products, ...]] = {**dict.fromkeys(TARGETS, ALL_PRODUCTS), "gfx942": ("ieee",)}
"""The products of float32 that kernels for a target have: TF32 is NVIDIA's."""

DIGITS = {DType.BF16: 8, DType.F16: 11, DType.F32: 24, DType.F64: 53}
"""Bits of the significand."""


@dataclass(frozen=True, slots=True)
class Hardware:
    """Kernels for `target` can be made of the graph; products of float32 are computed as `products`."""

    target: str
    products: Products = "ieee"

    def __post_init__(self) -> None:
        """Raises Urza's `UnknownTarget`."""
        check_target(self.target)

    def __str__(self) -> str:
        return f"on {self.target}" + ("" if self.products == "ieee" else f" with {self.products}")


@dataclass(frozen=True, slots=True)
class Without:
    """No node is, or stands for a graph with, the operator `operator`."""

    operator: str

    def __str__(self) -> str:
        return f"without {self.operator}"


@dataclass(frozen=True, slots=True)
class Digits:
    """Each node of the operator `operator` reads and makes floats of no fewer digits than `dtype` has."""

    operator: str
    dtype: DType

    def __str__(self) -> str:
        return f"{self.operator} in {self.dtype}"


@dataclass(frozen=True, slots=True)
class Stable:
    """No node of the graph is known to overflow, to divide by zero or to lose its digits; see `stability`."""

    def __str__(self) -> str:
        return "stable"


Rule = Constraint | Hardware | Without | Digits | Stable

FORMS = (
    "params<=20000, depth<=12, `on sm_90`, `on sm_90 with tf32x3`, `without scan`, `softmax in f32`, `stable`"
)

_BOUND = re.compile(rf"\s*({'|'.join(STRUCTURAL)})\s*(<=|>=|<|>)\s*(\d+)\s*", re.ASCII)
_ON = re.compile(r"on\s+(\w+)(?:\s+with\s+(ieee|tf32|tf32x3))?", re.ASCII)
_WITHOUT = re.compile(r"without\s+(\w+)", re.ASCII)
_IN = re.compile(r"(\w+)\s+in\s+(f16|bf16|f32|f64)", re.ASCII)


def parse_rule(text: str) -> Rule:
    """The rule that `text` writes; see `FORMS`.

    Raises `MalformedRule`, `UnknownQuantity`, and Urza's `UnknownTarget`.
    """
    stripped = text.strip()
    if found := _BOUND.fullmatch(stripped):
        return Constraint(found[1], found[2], float(found[3]))
    if any(sign in stripped for sign in "<>"):
        try:
            return parse_constraint(text)
        except UnknownQuantity as error:
            meant = did_you_mean(re.split(r"\s*[<>]", stripped)[0], STRUCTURAL, error.help_text)
            raise UnknownQuantity(name=error.details["name"], suggestion=meant) from None
    if found := _ON.fullmatch(stripped):
        return Hardware(found[1], next((one for one in ALL_PRODUCTS if one == found[2]), "ieee"))
    if found := _WITHOUT.fullmatch(stripped):
        return Without(_operator(text, found[1]))
    if found := _IN.fullmatch(stripped):
        return Digits(_operator(text, found[1]), DType(found[2]))
    if stripped == "stable":
        return Stable()
    raise MalformedRule(text=text, forms=f"rules are written as {FORMS}")


def is_structural(rule: Rule) -> bool:
    return isinstance(rule, Constraint) and rule.quantity in STRUCTURAL


def _operator(text: str, name: str) -> str:
    if name not in OPERATORS:
        forms = did_you_mean(name, OPERATORS, "`docs/operators.md` lists the operators")
        raise MalformedRule(text=text, forms=forms)
    return name
