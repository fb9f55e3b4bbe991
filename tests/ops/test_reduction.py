"""Reductions and what runs along an axis: ties, zeros, infinities, refusals, and the language."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from esper.ir import Builder, DType, TensorType, parse_type
from esper.ir.build import complete_attrs, infer_types
from esper.ir.errors import TypeRuleViolated
from esper.ir.operator import OPERATORS, AttrValue
from esper.lang import check
from esper.ops.reference.evaluate import evaluate
from esper.passes import joint_graph, run_passes

INF, NAN = float("inf"), float("nan")


def value_and_gradient(
    op: str, x: torch.Tensor, passes: str = "", **attrs: AttrValue
) -> tuple[torch.Tensor, torch.Tensor]:
    """Of `op(x)`, for a gradient of ones, after `passes`."""
    build = Builder("one")
    operand = build.input("x", TensorType(DType.F64, tuple(x.shape)))
    ir = build.finish({"y": build.op(op, operand, name=None, span=None, **attrs)})
    joint = joint_graph(run_passes(ir, passes) if passes else ir)
    shape = joint.node("grad.y").type.concrete_shape({})
    found = evaluate(joint, {"x": x, "grad.y": torch.ones(shape, dtype=torch.float64)}, {})
    return found["y"], found["grad.x"]


@pytest.mark.parametrize("passes", ["", "decompose"])
@pytest.mark.parametrize("op", ["std", "vector_norm"])
def test_the_gradient_of_a_root_is_zero_where_the_root_is(op: str, passes: str) -> None:
    value, gradient = value_and_gradient(op, torch.zeros(2, 3, dtype=torch.float64), passes, axes=(1,))
    assert not value.any() and not gradient.any()


@pytest.mark.parametrize("zeros", [0, 1, 2])
def test_the_gradient_of_a_product_passes_zeros(zeros: int) -> None:
    x = torch.tensor([[2.0, 3.0, 5.0], [7.0, 0.5, -1.0]], dtype=torch.float64)
    x.view(-1)[:zeros] = 0.0
    value, gradient = value_and_gradient("prod", x, axes=(0, 1))
    leaf = x.clone().requires_grad_()
    torch.testing.assert_close(value, leaf.prod().detach())
    torch.testing.assert_close(gradient, torch.autograd.grad(leaf.prod(), leaf)[0])


def test_least_elements_that_tie_share_the_gradient() -> None:
    value, gradient = value_and_gradient(
        "amin", torch.tensor([1.0, 3.0, 1.0], dtype=torch.float64), axes=(0,)
    )
    assert value.item() == 1.0
    assert gradient.tolist() == [0.5, 0.0, 0.5]


@pytest.mark.parametrize("op", ["amax", "amin"])
def test_beside_nan_the_gradient_of_an_extreme_element_is_nan(op: str) -> None:
    rows = [[1.0, NAN, 2.0], [1.0, 2.0, 2.0], [1.0, INF, -INF]]
    x = torch.tensor(rows, dtype=torch.float64)
    _, gradient = value_and_gradient(op, x, axes=(1,))
    leaf = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(getattr(torch, op)(leaf, 1).sum(), leaf)
    torch.testing.assert_close(gradient, expected, equal_nan=True)


@pytest.mark.parametrize("x", [[1000.0, 1001.0], [-1000.0, -1001.0], [INF, 0.0], [-INF, -INF], [-INF, 2.0]])
def test_logsumexp_neither_overflows_nor_loses_infinities(x: list[float]) -> None:
    given = torch.tensor(x, dtype=torch.float64)
    for passes in ("", "decompose"):
        value, _ = value_and_gradient("logsumexp", given, passes, axes=(0,))
        torch.testing.assert_close(value, torch.logsumexp(given, 0))


def test_a_running_sum_from_the_end_is_the_gradient_of_one_from_the_start() -> None:
    x = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    assert value_and_gradient("cumsum", x)[0].tolist() == [1.0, 3.0, 7.0]
    assert value_and_gradient("cumsum", x, reverse=True)[0].tolist() == [7.0, 6.0, 4.0]
    assert value_and_gradient("cumsum", x)[1].tolist() == [3.0, 2.0, 1.0]


def test_softmin_prefers_the_least() -> None:
    x = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    value, gradient = value_and_gradient("softmin", x, axis=0)
    torch.testing.assert_close(value, torch.nn.functional.softmin(x, 0))
    torch.testing.assert_close(gradient, torch.zeros_like(x))


@pytest.mark.parametrize(
    ("operator", "type", "attrs", "message"),
    [
        ("amin", "f32[N, 4]", {"axes": (1, 0)}, "`axes` [1, 0] are not distinct and rising"),
        ("prod", "f32[N, 4]", {"axes": (2,)}, "`axes` [2] are not all axes of f32[N, 4]"),
        ("vector_norm", "f32[N, 4]", {"axes": ()}, "`axes` is empty"),
        ("logsumexp", "i64[N, 4]", {"axes": (0,)}, "`x` is i64[N, 4], expected a floating dtype"),
        (
            "var",
            "f32[N, 1]",
            {"axes": (1,)},
            "its 1 elements along axes [1] are not more than correction = 1",
        ),
        ("std", "f32[N, 4]", {"axes": (1,), "correction": -1}, "`correction` is -1, expected 0 or more"),
        ("any", "f32[N]", {"axes": (0,)}, "`x` is f32[N], expected dtype bool"),
        ("cumsum", "f32[N]", {"axis": 1}, "`axis` is 1, which is no axis of f32[N]"),
        ("argmax", "bool[N]", {}, "`x` is bool[N], expected a floating dtype"),
    ],
)
def test_a_wrong_use_is_refused(operator: str, type: str, attrs: dict[str, AttrValue], message: str) -> None:
    entry = OPERATORS[operator]
    with pytest.raises(TypeRuleViolated) as error:
        infer_types(entry, [parse_type(type)], complete_attrs(entry, attrs, node=operator))
    assert message in str(error.value)


def test_blueprints_may_use_them(tmp_path: Path) -> None:
    path = tmp_path / "b.esp"
    path.write_text(
        "blueprint b() { input x: f32[N, 8]\n"
        "h = (x - amin(x, [1], true)) / (std(x, [1], keepdims = true) + vector_norm(x, [1], true))\n"
        "h = h * logsumexp(h, [1], true) + cumsum(softmin(h)) - var(h, [1], true, correction = 0)\n"
        "output where(all(greater(h, 0), [1], true), h, prod(h, [1], true)) }",
        encoding="utf-8",
    )
    assert check(path) == []
