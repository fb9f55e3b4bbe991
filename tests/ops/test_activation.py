"""Activations: their kinks, their edges, what their type rules refuse, and the language."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from esper.ir import Builder, DType, TensorType
from esper.ir.build import infer_types
from esper.ir.errors import TypeRuleViolated
from esper.ir.operator import OPERATORS, AttrValue
from esper.lang import check
from esper.ops.reference.evaluate import evaluate
from esper.passes import joint_graph

KINKS = torch.tensor([-3.0, -1.0, 0.0, 0.25, 1.0, 3.0, 6.0, 20.0, 30.0, -90.0], dtype=torch.float64)
TORCH: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "relu": F.relu,
    "relu6": F.relu6,
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "selu": F.selu,
    "celu": F.celu,
    "softplus": F.softplus,
    "mish": F.mish,
    "hardtanh": F.hardtanh,
    "hardsigmoid": F.hardsigmoid,
    "hardswish": F.hardswish,
    "softsign": F.softsign,
    "tanhshrink": F.tanhshrink,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
}


@pytest.mark.parametrize("name", TORCH)
def test_values_and_gradients_on_the_kinks_are_torchs(name: str) -> None:
    build = Builder("kinks")
    x = build.input("x", TensorType(DType.F64, KINKS.shape))
    joint = joint_graph(build.finish({"y": build.op(name, x)}))
    found = evaluate(joint, {"x": KINKS, "grad.y": torch.ones_like(KINKS)}, {})
    leaf = KINKS.clone().requires_grad_()
    expected = TORCH[name](leaf)
    torch.testing.assert_close(found["y"], expected.detach(), rtol=1e-12, atol=1e-12)
    (gradient,) = torch.autograd.grad(expected.sum(), leaf)
    torch.testing.assert_close(found["grad.x"], gradient, rtol=1e-12, atol=1e-12)


def test_the_gradient_of_clamp_passes_on_its_bounds() -> None:
    build = Builder("bounds")
    x = build.input("x", TensorType(DType.F64, (4,)))
    joint = joint_graph(build.finish({"y": build.op("clamp", x, min=-1.0, max=2.0)}))
    given = torch.tensor([-1.5, -1.0, 2.0, 2.5], dtype=torch.float64)
    found = evaluate(joint, {"x": given, "grad.y": torch.ones_like(given)}, {})
    assert found["y"].tolist() == [-1.0, -1.0, 2.0, 2.0]
    assert found["grad.x"].tolist() == [0.0, 1.0, 1.0, 0.0]


REFUSED: list[tuple[str, TensorType, dict[str, AttrValue], str]] = [
    ("mish", TensorType(DType.I64, (2,)), {}, "`x` is i64[2], expected a floating dtype"),
    ("softplus", TensorType(DType.F32), {"beta": 0.0, "threshold": 20.0}, "`beta` is 0.0, expected a number"),
    ("celu", TensorType(DType.F32), {"alpha": 0.0}, "`alpha` is 0.0, expected another number than zero"),
    ("clamp", TensorType(DType.F32), {"min": 2.0, "max": 1.0}, "`min` is 2.0 and `max` is 1.0, expected"),
    (
        "hardtanh",
        TensorType(DType.F32),
        {"min_val": 1.0, "max_val": 1.0},
        "`min_val` is 1.0 and `max_val` is 1.0, expected `min_val` below `max_val`",
    ),
]


@pytest.mark.parametrize(("name", "type", "attrs", "message"), REFUSED)
def test_a_wrong_use_is_refused(
    name: str, type: TensorType, attrs: dict[str, AttrValue], message: str
) -> None:
    with pytest.raises(TypeRuleViolated) as error:
        infer_types(OPERATORS[name], [type], attrs)
    assert message in str(error.value)


def test_blueprints_may_use_them(tmp_path: Path) -> None:
    path = tmp_path / "b.esp"
    path.write_text(
        "blueprint b() { input x: f32[N, 8] h = x |> leaky_relu(0.2) |> elu(alpha = 0.5)\n"
        "h = h |> celu(0.7) |> softplus(beta = 2)\n"
        "h = h |> hardtanh(min_val = -2, max_val = 2) |> mish() |> selu() |> hardswish() |> gelu_tanh()\n"
        "output clamp(h, min = -1, max = 1) }",
        encoding="utf-8",
    )
    assert check(path) == []
