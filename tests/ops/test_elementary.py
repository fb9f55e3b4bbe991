"""Elementary functions, comparisons and logic: ties, NaN, integers, refusals, and the language."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from esper.ir import Builder, DType, TensorType, parse_type
from esper.ir.build import infer_types
from esper.ir.errors import TypeRuleViolated
from esper.ir.operator import OPERATORS
from esper.lang import check
from esper.ops.reference.evaluate import evaluate
from esper.passes import joint_graph

NAN = float("nan")


def gradients(op: str, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Of `op(x, y)` for a gradient of ones."""
    build = Builder("both")
    a, b = (build.input(name, TensorType(DType.F64, tuple(x.shape))) for name in "xy")
    joint = joint_graph(build.finish({"out": build.op(op, a, b)}))
    found = evaluate(joint, {"x": x, "y": y, "grad.out": torch.ones_like(x)}, {})
    return found["grad.x"], found["grad.y"]


@pytest.mark.parametrize(
    ("op", "x", "y"),
    [
        ("maximum", [1.0, 2.0, 2.0, -0.0], [2.0, 2.0, 1.0, 0.0]),
        ("minimum", [1.0, 2.0, 2.0, -0.0], [2.0, 2.0, 1.0, 0.0]),
        ("pow", [0.0, 0.0, 2.0, 0.0], [2.0, 0.0, 0.0, 1.0]),
        ("remainder", [5.5, -5.5, 3.0], [2.0, 2.0, -2.0]),
    ],
)
def test_gradients_at_ties_and_zeros_are_torchs(op: str, x: list[float], y: list[float]) -> None:
    a, b = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (x, y))
    expected = torch.autograd.grad(getattr(torch, op)(a, b).sum(), (a, b))
    torch.testing.assert_close(gradients(op, a.detach(), b.detach()), expected)


def test_what_is_flat_has_gradient_zero() -> None:
    for op in ("sign", "floor", "ceil", "round"):
        build = Builder("flat")
        x = build.input("x", TensorType(DType.F64, (3,)))
        joint = joint_graph(build.finish({"y": build.op(op, x)}))
        given = torch.tensor([-1.5, 0.0, 2.5], dtype=torch.float64)
        found = evaluate(joint, {"x": given, "grad.y": torch.ones_like(given)}, {})
        assert torch.equal(found["grad.x"], torch.zeros_like(given))
        assert torch.equal(found["y"], getattr(torch, op)(given))


def test_remainder_and_comparisons_take_integers() -> None:
    build = Builder("integers")
    x = build.input("x", TensorType(DType.I64, (4,)))
    rest = build.op("remainder", x, 3)
    ir = build.finish(
        {"rest": rest, "big": build.op("greater_equal", rest, 2), "most": build.op("maximum", x, 0)}
    )
    found = evaluate(ir, {"x": torch.tensor([-4, -1, 2, 6])}, {})
    assert found["rest"].tolist() == [2, 2, 2, 0] and found["rest"].dtype is torch.int64
    assert found["big"].tolist() == [True, True, True, False]
    assert found["most"].tolist() == [0, 0, 2, 6]


@pytest.mark.parametrize(
    ("operator", "types", "message"),
    [
        ("logical_and", ["bool[N]", "f32[N]"], "`y` is f32[N], expected dtype bool"),
        ("logical_not", ["i64[N]"], "`x` is i64[N], expected dtype bool"),
        ("less", ["f32[N]", "bf16[N]"], "`y` is bf16[N], but `x` has dtype f32"),
        ("maximum", ["bool[2]", "bool[2]"], "`x` is bool[2], expected numbers"),
        ("equal", ["f32[N, 4]", "f32[N, 3]"], "do not broadcast"),
        ("sin", ["i64[N]"], "`x` is i64[N], expected a floating dtype"),
        ("pow", ["i64[N]", "i64[N]"], "`x` is i64[N], expected a floating dtype"),
    ],
)
def test_a_wrong_use_is_refused(operator: str, types: list[str], message: str) -> None:
    with pytest.raises(TypeRuleViolated) as error:
        infer_types(OPERATORS[operator], [parse_type(text) for text in types], {})
    assert message in str(error.value)


def test_blueprints_may_use_them(tmp_path: Path) -> None:
    path = tmp_path / "b.esp"
    path.write_text(
        "blueprint b() { input x: f32[N, 8] input y: f32[N, 8]\n"
        "near = logical_and(less(abs(x - y), 0.5), logical_not(equal(x, y)))\n"
        "h = maximum(x, 0) |> log1p() |> minimum(y) |> sin() |> square() |> pow(1.5)\n"
        "output where(near, h, remainder(x, 2) + erf(y)) }",
        encoding="utf-8",
    )
    assert check(path) == []
