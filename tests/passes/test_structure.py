"""simplify's structural rewrites: each proved on arrays of sympy symbols, and bounded in floating point."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import sympy
import torch

from esper.ir import BlueprintIR, DType, Node, Value
from esper.ir.operator import AttrValue
from esper.ops.reference.evaluate import evaluate
from esper.passes import run_passes
from esper.passes.dce import DeadCode
from esper.passes.simplify import Simplify
from esper.passes.structure import GREATEST_COUNT, STRUCTURE
from esper.testing import random_values
from esper.testing.laws import run


def graph(*lines: str, output: str = "output y = %y") -> BlueprintIR:
    head = [
        "blueprint b {",
        "%x = input() : f32[2, 3]",
        "%z = input() : f32[2, 3]",
        "%t = input() : f32[2, 3, 2]",
        "%c = input() : bool[2, 3]",
    ]
    return BlueprintIR.from_text("\n".join([*head, *lines, output, "}"]))


def reduced(op: str, first: str, then: str, keep: tuple[str, str], shapes: tuple[str, str]) -> BlueprintIR:
    return graph(
        f"%i = {op}(%t) {{axes={first}, keepdims={keep[0]}}} : f32{shapes[0]}",
        f"%y = {op}(%i) {{axes={then}, keepdims={keep[1]}}} : f32{shapes[1]}",
    )


FLAT, KEPT = ("false", "false"), ("true", "true")
MATMUL = "{transpose_a=false, transpose_b=false}"

# The operator of the rule, a graph that it applies to, and the operators that are gone afterwards.
CASES: Mapping[str, tuple[str, BlueprintIR, tuple[str, ...]]] = {
    "a sum of a sum": ("sum", reduced("sum", "[0]", "[1]", FLAT, ("[3, 2]", "[3]")), ()),
    "of sums that keep axes": (
        "sum",
        reduced("sum", "[0, 1]", "[1, 2]", KEPT, ("[1, 1, 2]", "[1, 1, 1]")),
        (),
    ),
    "a sum that keeps no axis of one that does": (
        "sum",
        reduced("sum", "[1]", "[1, 2]", ("true", "false"), ("[2, 1, 2]", "[2]")),
        (),
    ),
    "a maximum of a maximum": ("amax", reduced("amax", "[2]", "[0]", FLAT, ("[2, 3]", "[3]")), ()),
    "a sum of copies": (
        "sum",
        graph(
            "%v = broadcast_to(%x) {shape=[4, 2, 3]} : f32[4, 2, 3]",
            "%y = sum(%v) {axes=[0], keepdims=false} : f32[2, 3]",
        ),
        ("sum", "broadcast_to"),
    ),
    "a sum of some of the copies": (
        "sum",
        graph(
            "%v = broadcast_to(%x) {shape=[4, 5, 2, 3]} : f32[4, 5, 2, 3]",
            "%y = sum(%v) {axes=[1], keepdims=true} : f32[4, 1, 2, 3]",
        ),
        ("sum",),
    ),
    "a product that reads rows as columns": (
        "matmul",
        graph("%p = permute(%z) {axes=[1, 0]} : f32[3, 2]", f"%y = matmul(%x, %p) {MATMUL} : f32[2, 2]"),
        ("permute",),
    ),
    "a product of two": (
        "matmul",
        graph(
            "%p = permute(%x) {axes=[1, 0]} : f32[3, 2]",
            "%q = permute(%p) {axes=[1, 0]} : f32[2, 3]",
            f"%y = matmul(%p, %q) {MATMUL} : f32[3, 3]",
        ),
        ("permute",),
    ),
    "a product of many": (
        "matmul",
        graph(
            "%p = permute(%t) {axes=[0, 2, 1]} : f32[2, 2, 3]", f"%y = matmul(%p, %t) {MATMUL} : f32[2, 2, 2]"
        ),
        ("permute",),
    ),
    "the logarithm of softmax": (
        "log",
        graph("%s = softmax(%x) {axis=-1} : f32[2, 3]", "%y = log(%s) : f32[2, 3]"),
        ("softmax", "log"),
    ),
    "a branch of a branch taken": (
        "where",
        graph("%w = where(%c, %x, %z) : f32[2, 3]", "%y = where(%c, %w, %x) : f32[2, 3]"),
        (),
    ),
    "a branch of a branch left": (
        "where",
        graph("%w = where(%c, %x, %z) : f32[2, 3]", "%y = where(%c, %x, %w) : f32[2, 3]"),
        (),
    ),
    "a cast on the way": (
        "cast",
        graph("%d = cast(%x) {dtype=f64} : f64[2, 3]", "%y = cast(%d) {dtype=bf16} : bf16[2, 3]"),
        (),
    ),
    "a cast and back": (
        "cast",
        graph("%d = cast(%x) {dtype=f64} : f64[2, 3]", "%y = cast(%d) {dtype=f32} : f32[2, 3]"),
        ("cast",),
    ),
}
EACH = pytest.mark.parametrize("case", CASES)


def applied(case: str) -> tuple[BlueprintIR, BlueprintIR]:
    _, before, _ = CASES[case]
    return before, run_passes(before, [Simplify(fast_math=True), DeadCode()])


def each(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return np.vectorize(function, otypes=[object])


def log_softmax(x: Any, axis: int) -> Any:
    return x - each(sympy.log)(np.sum(each(sympy.exp)(x), axis=axis, keepdims=True))


def greatest(x: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
    return np.frompyfunc(sympy.Max, 2, 1).reduce(x, axis=axes, keepdims=keepdims)


SYMBOLIC: Mapping[str, Callable[..., Any]] = {
    "sum": lambda x, axes, keepdims: np.sum(x, axis=axes, keepdims=keepdims),
    "amax": lambda x, axes, keepdims: (
        greatest(x, axes, keepdims)
        if len(axes) == 1
        else greatest(greatest(x, axes[-1:], True), axes[:-1], True).reshape(
            [1 if a in axes else s for a, s in enumerate(x.shape) if keepdims or a not in axes]
        )
    ),
    "broadcast_to": lambda x, shape: np.broadcast_to(x, shape),
    "reshape": lambda x, shape: np.reshape(x, shape),
    "permute": lambda x, axes: np.transpose(x, axes),
    "mul": lambda x, y: x * y,
    "size": lambda value, dtype: np.array(sympy.Integer(value), dtype=object),
    "matmul": lambda a, b, transpose_a, transpose_b: np.matmul(
        a.swapaxes(-1, -2) if transpose_a else a, b.swapaxes(-1, -2) if transpose_b else b
    ),
    "log": lambda x: each(sympy.log)(x),
    "softmax": lambda x, axis: each(sympy.exp)(x) / np.sum(each(sympy.exp)(x), axis=axis, keepdims=True),
    "log_softmax": log_softmax,
    "where": np.vectorize(lambda c, x, y: sympy.Piecewise((x, c), (y, True)), [object]),
    "cast": lambda x, dtype: x,  # over the reals
}


def symbolic(ir: BlueprintIR) -> Any:
    """The output of `ir` as an array of sympy expressions in its inputs' elements."""
    values: dict[Value, Any] = {}

    def leaf(node: Node) -> Any:
        found = np.empty(node.type.concrete_shape({}), dtype=object)
        for place in np.ndindex(found.shape):
            name = f"{node.name}_{'_'.join(map(str, place))}"
            is_bool = node.type.dtype is DType.BOOL
            symbol = sympy.Symbol(name, real=None if is_bool else True)
            found[place] = sympy.Eq(symbol, 1) if is_bool else symbol
        return found

    for node in ir.nodes:
        if node.op == "input":
            values[node.result()] = leaf(node)
        else:
            attrs: dict[str, AttrValue] = dict(node.attrs)
            operands = [values[value] for value in node.operands if value is not None]
            values[node.result()] = SYMBOLIC[node.op](*operands, **attrs)
    return values[ir.outputs[0][1]]


def test_every_rule_has_a_case() -> None:
    assert {entry.op for entry in STRUCTURE} == {op for op, _, _ in CASES.values()}


@EACH
def test_a_rewrite_takes_operators_away(case: str) -> None:
    before, after = applied(case)
    op, _, gone = CASES[case]
    assert not any(after.of(name) for name in gone)
    if not gone:
        assert len(after.of(op)) == len(before.of(op)) - 1


@EACH
def test_a_rewrite_holds_on_arrays_of_symbols(case: str) -> None:
    left, right = map(symbolic, applied(case))
    assert left.shape == right.shape
    for found, expected in zip(left.flat, right.flat, strict=True):
        assert sympy.simplify(sympy.expand_log(found - expected, force=True)) == 0


@EACH
@pytest.mark.parametrize("seed", range(20))
def test_both_sides_stay_within_a_bound_of_roundings(case: str, seed: int) -> None:
    """One rounding an operation: at most 12 are added, in units of the result on absolute values."""
    before, after = applied(case)
    values = random_values(before, seed=seed)
    exact = run(before, values, torch.float64)["y"]
    magnitudes = {name: x.abs() if x.is_floating_point() else x for name, x in values.inputs.items()}
    scale = evaluate(before, magnitudes, {}, dtype=torch.float64)["y"].abs() + exact.abs()
    if case == "the logarithm of softmax":
        scale = scale + 1
    for ir in (before, after):
        found = run(ir, values)["y"]
        eps = torch.finfo(found.dtype).eps
        assert ((found.double() - exact).abs() <= 12 * eps * scale).all()


def unchanged(ir: BlueprintIR) -> None:
    assert Simplify(fast_math=True).run(ir) == ir


def test_a_sum_that_others_read_is_not_summed_again() -> None:
    unchanged(
        graph(
            "%i = sum(%t) {axes=[0], keepdims=false} : f32[3, 2]",
            "%y = sum(%i) {axes=[0], keepdims=false} : f32[2]",
            output="output y = %y\noutput i = %i",
        )
    )


def test_a_softmax_that_others_read_stays() -> None:
    lines = ("%s = softmax(%x) {axis=-1} : f32[2, 3]", "%y = log(%s) : f32[2, 3]")
    unchanged(graph(*lines, output="output y = %y\noutput s = %s"))


def test_the_logarithm_of_softmax_waits_for_fast_math() -> None:
    _, before, _ = CASES["the logarithm of softmax"]
    assert Simplify().run(before) == before


def test_sums_that_keep_other_axes_stay() -> None:
    unchanged(reduced("sum", "[1]", "[2]", ("true", "false"), ("[2, 1, 2]", "[2, 1]")))


def test_a_sum_over_axes_that_differ_stays() -> None:
    unchanged(
        graph(
            "%v = broadcast_to(%x) {shape=[4, 2, 3]} : f32[4, 2, 3]",
            "%y = sum(%v) {axes=[0, 1], keepdims=false} : f32[3]",
        )
    )


@pytest.mark.parametrize(("copies", "stays"), [(GREATEST_COUNT, False), (GREATEST_COUNT + 1, True)])
def test_copies_are_counted_where_the_dtype_has_the_number(copies: int, stays: bool) -> None:
    ir = BlueprintIR.from_text(
        f"""blueprint b {{
          %x = input() : bf16[3]
          %v = broadcast_to(%x) {{shape=[{copies}, 3]}} : bf16[{copies}, 3]
          %y = sum(%v) {{axes=[0], keepdims=false}} : bf16[3]
          output y = %y
        }}"""
    )
    assert bool(Simplify().run(ir).of("sum")) is stays


def test_rows_of_many_matrices_times_one_stay_in_order() -> None:
    unchanged(
        graph(
            "%p = permute(%t) {axes=[0, 2, 1]} : f32[2, 2, 3]",
            "%w = input() : f32[3, 2]",
            f"%y = matmul(%p, %w) {MATMUL} : f32[2, 2, 2]",
        )
    )


def test_axes_that_are_not_the_last_two_stay_permuted() -> None:
    unchanged(
        graph(
            "%p = permute(%t) {axes=[2, 1, 0]} : f32[2, 3, 2]",
            "%w = input() : f32[2, 2, 3]",
            f"%y = matmul(%w, %p) {MATMUL} : f32[2, 2, 2]",
        )
    )


def test_a_branch_on_another_condition_stays() -> None:
    unchanged(
        graph(
            "%d = input() : bool[2, 3]",
            "%w = where(%d, %x, %z) : f32[2, 3]",
            "%y = where(%c, %w, %x) : f32[2, 3]",
        )
    )


def test_a_cast_that_rounds_stays() -> None:
    unchanged(graph("%d = cast(%x) {dtype=bf16} : bf16[2, 3]", "%y = cast(%d) {dtype=f32} : f32[2, 3]"))
