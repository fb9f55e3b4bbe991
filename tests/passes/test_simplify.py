"""simplify: each pattern proved over the reals by sympy, bounded in floating point, applied to a graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import sympy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from esper.ir import BlueprintIR, Builder, DType, TensorType, Value
from esper.lang import library_entry, lower
from esper.ops.reference.evaluate import evaluate
from esper.passes import joint_graph, run_passes
from esper.passes.dce import DeadCode
from esper.passes.patterns import CONSTANTS, PATTERNS, Apply, Expression, Pattern, parse_expression, weight
from esper.passes.simplify import Simplify
from esper.testing import blueprint_irs, random_values
from esper.testing.laws import run

EACH = pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.left)
LAW = settings.get_profile("law")

REALS: Mapping[str, Callable[..., Any]] = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "div": lambda x, y: x / y,
    "neg": lambda x: -x,
    "exp": sympy.exp,
    "log": sympy.log,
    "sqrt": sympy.sqrt,
    "rsqrt": lambda x: 1 / sympy.sqrt(x),
    "relu": lambda x: sympy.Piecewise((0, x <= 0), (x, True)),
    "relu6": lambda x: sympy.Piecewise((0, x <= 0), (6, x >= 6), (x, True)),
    "sigmoid": lambda x: 1 / (1 + sympy.exp(-x)),
}


def _real(expression: Expression, pattern: Pattern) -> Any:
    if isinstance(expression, Apply):
        return REALS[expression.op](*(_real(operand, pattern) for operand in expression.operands))
    if isinstance(expression, float):
        return sympy.nsimplify(expression)
    return sympy.Symbol(expression, real=True, positive=expression in pattern.positive or None)


@EACH
def test_a_pattern_holds_over_the_reals(pattern: Pattern) -> None:
    left, right = (_real(side, pattern) for side in pattern.sides)
    assert sympy.simplify(sympy.piecewise_fold(left - right)) == 0


@EACH
def test_a_pattern_lowers_the_weight(pattern: Pattern) -> None:
    left, right = pattern.sides
    assert weight(right) < weight(left)


def _graph(side: Expression, constants: Mapping[str, float], dtype: DType) -> BlueprintIR:
    build = Builder("side")
    values = {name: build.input(name, TensorType(dtype, (16,))) for name in ("x", "y", "z")}

    def value(expression: Expression) -> Value:
        if isinstance(expression, Apply):
            return build.op(expression.op, *map(value, expression.operands))
        if isinstance(expression, float):
            return build.constant(expression, dtype)
        if expression in CONSTANTS:
            return build.constant(constants[expression], dtype)
        return values[expression]

    return build.finish({"y_": value(side)})


def _applied(
    pattern: Pattern, constants: Mapping[str, float], dtype: DType
) -> tuple[BlueprintIR, BlueprintIR]:
    before = _graph(pattern.sides[0], constants, dtype)
    after = DeadCode().run(Simplify(fast_math=pattern.fast_math).run(before))
    assert after != before, pattern.left
    return before, after


def _magnitude(expression: Expression, values: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The left side with every term taken positive: what its roundings are relative to."""
    if not isinstance(expression, Apply):
        return torch.tensor(abs(expression)) if isinstance(expression, float) else values[expression].abs()
    parts = [_magnitude(operand, values) for operand in expression.operands]
    match expression.op:
        case "add" | "sub":
            return parts[0] + parts[1]
        case "mul":
            return parts[0] * parts[1]
        case "div":
            return parts[0] / parts[1]
        case "exp":
            return (1 + parts[0]) * parts[0].exp()
        case "log":
            return 1 + parts[0].log().abs()
        case op:
            return parts[0] if op == "neg" else getattr(torch, op)(parts[0])


@EACH
@pytest.mark.parametrize("dtype", [DType.F32, DType.BF16])
@LAW
@given(seed=st.integers(0, 2**32), powers=st.tuples(st.integers(-4, 4), st.integers(-4, 4)))
def test_both_sides_of_a_pattern_stay_within_its_bound(
    pattern: Pattern, dtype: DType, seed: int, powers: tuple[int, int]
) -> None:
    constants = {name: 2.0**power for name, power in zip(CONSTANTS, powers, strict=True)}
    before, after = _applied(pattern, constants, dtype)
    native = torch.float32 if dtype is DType.F32 else torch.bfloat16
    generator = torch.Generator().manual_seed(seed)
    inputs = {}
    for name in ("x", "y", "z"):
        tensor = torch.rand(16, generator=generator) * 3.5 + 0.25
        if name not in pattern.positive:
            tensor = tensor * (torch.randint(0, 2, (16,), generator=generator) * 2 - 1)
        inputs[name] = tensor.to(native)
    left, right = (evaluate(ir, inputs, {})["y_"] for ir in (before, after))
    if pattern.ulps == 0:
        assert torch.equal(left, right)
        return
    doubles = {name: tensor.double() for name, tensor in inputs.items()}
    scale = _magnitude(
        pattern.sides[0], doubles | {k: torch.tensor(v, dtype=torch.float64) for k, v in constants.items()}
    )
    exact = evaluate(before, inputs, {}, dtype=torch.float64)["y_"]
    bound = pattern.ulps * torch.finfo(native).eps * scale
    assert ((left.double() - exact).abs() <= bound).all()
    assert ((right.double() - exact).abs() <= bound).all()


@LAW
@given(ir=blueprint_irs())
def test_fast_math_is_equal_over_the_reals_where_all_is_finite(ir: BlueprintIR) -> None:
    values = random_values(ir)
    before = run(ir, values, torch.float64)
    after = run(run_passes(ir, [Simplify(fast_math=True)]), values, torch.float64)
    for name, expected in before.items():
        both = expected.isfinite() & after[name].isfinite()
        torch.testing.assert_close(after[name][both], expected[both], rtol=1e-9, atol=1e-9)


@LAW
@given(ir=blueprint_irs())
def test_fast_math_finds_nothing_to_do_in_what_it_made(ir: BlueprintIR) -> None:
    once = Simplify(fast_math=True).run(ir)
    assert Simplify(fast_math=True).run(once) == once


@pytest.mark.parametrize("text", ["x ** y", "w", "x if y else z", "f(x=y)", "'x'"])
def test_what_is_no_expression_of_patterns_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no expression of patterns"):
        parse_expression(text)


def _text(*lines: str) -> BlueprintIR:
    head = ["blueprint b {", "%x = input() : f32[N, 4]", "%z = input() : f32[N, 4]"]
    return BlueprintIR.from_text("\n".join([*head, *lines, "}"]))


def test_a_division_by_what_is_no_power_of_two_stays() -> None:
    ir = _text("%c = constant() {value=3.0} : f32[]", "%y = div(%x, %c) : f32[N, 4]", "output y = %y")
    assert run_passes(ir, "simplify") == ir


def test_two_different_values_do_not_cancel() -> None:
    ir = _text("%a = mul(%x, %z) : f32[N, 4]", "%y = div(%a, %x) : f32[N, 4]", "output y = %y")
    other = _text("%a = mul(%x, %x) : f32[N, 4]", "%y = div(%a, %z) : f32[N, 4]", "output y = %y")
    assert run_passes(ir, [Simplify(fast_math=True), DeadCode()]).outputs[0][1].node == "z"
    assert run_passes(other, [Simplify(fast_math=True)]) == other


def test_simplify(golden: Callable[[str, str], None]) -> None:
    ir = _text(
        "%c = constant() {value=4.0} : f32[]",
        "%d = constant() {value=0.75} : f32[]",
        "%quarter = div(%x, %c) : f32[N, 4]",
        "%root = sqrt(%z) : f32[N, 4]",
        "%over = div(%quarter, %root) : f32[N, 4]",
        "%once = relu(%over) : f32[N, 4]",
        "%twice = relu(%once) : f32[N, 4]",
        "%less = mul(%twice, %c) : f32[N, 4]",
        "%y = mul(%less, %d) : f32[N, 4]",
        "output y = %y",
    )
    golden("simplify.ir", f"{Simplify().run(ir)}\n{Simplify(fast_math=True).run(ir)}\n")


@pytest.mark.parametrize("name", ["attention", "mlp_block", "norm"])
def test_no_division_is_left_in_what_trains_a_library_blueprint(name: str) -> None:
    ir = lower(Path(library_entry(name).file))
    clean = run_passes(joint_graph(ir), "decompose,canonicalize,fold,cse,dce")
    assert clean.of("div")
    assert not run_passes(clean, "simplify").of("div")
