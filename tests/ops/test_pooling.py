"""Pooling is torch's: from a blueprint's source, gradients included, over one to three axes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from esper.ir import DType, TensorType, parse_type
from esper.ir.build import complete_attrs, infer_types
from esper.ir.errors import TypeRuleViolated
from esper.ir.operator import OPERATORS, AttrValue
from esper.lang import lower
from esper.ops.reference.evaluate import evaluate, reference
from esper.passes import joint_graph
from esper.testing.laws import REAL_TOLERANCE

CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "max_pool(kernel=2)": ("max_pool", {"kernel_size": 2}),
    "max_pool(kernel=3, stride=2, padding=1)": ("max_pool", {"kernel_size": 3, "stride": 2, "padding": 1}),
    "avg_pool(kernel=3, stride=1, padding=1)": ("avg_pool", {"kernel_size": 3, "stride": 1, "padding": 1}),
    "avg_pool(kernel=3, stride=2, padding=1, count_include_pad=false)": (
        "avg_pool",
        {"kernel_size": 3, "stride": 2, "padding": 1, "count_include_pad": False},
    ),
    "adaptive_avg_pool(size=3)": ("adaptive_avg_pool", {"output_size": 3}),
    "adaptive_max_pool(size=3)": ("adaptive_max_pool", {"output_size": 3}),
    "global_avg_pool(keepdims=true)": ("adaptive_avg_pool", {"output_size": 1}),
    "global_max_pool(keepdims=true)": ("adaptive_max_pool", {"output_size": 1}),
}


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("source", CALLS)
def test_pooling_and_its_gradient_are_torchs(source: str, axes: int, tmp_path: Path) -> None:
    path, maps = tmp_path / "net.esp", ", ".join("HWD"[:axes])
    path.write_text(f"blueprint net() {{\n    input x: f32[N, C, {maps}]\n    output y = x |> {source}\n}}\n")
    sizes = (5, 7, 6)[:axes]
    name, arguments = CALLS[source]
    x = torch.randn(2, 3, *sizes, dtype=torch.float64, requires_grad=True)
    y = getattr(F, f"{name}{axes}d")(x, **arguments)
    g = torch.randn_like(y)
    (dx,) = torch.autograd.grad(y, x, g)
    with torch.no_grad():
        found = evaluate(joint_graph(lower(path)), {"x": x, "grad.y": g}, {}, dtype=torch.float64)
    torch.testing.assert_close(found["y"], y, rtol=REAL_TOLERANCE, atol=REAL_TOLERANCE)
    torch.testing.assert_close(found["grad.x"], dx, rtol=REAL_TOLERANCE, atol=REAL_TOLERANCE)


def test_indices_are_places_in_row_major_order() -> None:
    path = OPERATORS["max_pool"].reference
    assert path is not None
    x = torch.zeros(1, 1, 4, 6)
    x[0, 0, 3, 1] = x[0, 0, 1, 4] = 1.0
    _, indices = reference(path)(x, kernel=2, stride=0, padding=0)
    assert indices[0, 0, 1, 0] == 3 * 6 + 1
    assert indices[0, 0, 0, 2] == 1 * 6 + 4
    types = infer("max_pool", "f32[N, C, H, W]", kernel=2)
    assert types[1].dtype is DType.I64 and types[1].shape == types[0].shape


@pytest.mark.parametrize(
    ("operator", "x", "attrs", "message"),
    [
        ("max_pool", "f32[N, 8]", {"kernel": 2}, "`x` is f32[N, 8], expected [N, C, ...S]"),
        ("max_pool", "i64[N, 8, H]", {"kernel": 2}, "expected a floating dtype"),
        ("max_pool", "f32[N, 8, H]", {"kernel": 0}, "`kernel` is 0, expected at least 1"),
        ("avg_pool", "f32[N, 8, H]", {"kernel": 2, "stride": -1}, "`stride` is -1, expected at least 1"),
        (
            "avg_pool",
            "f32[N, 8, H]",
            {"kernel": 3, "padding": 2},
            "`padding` is 2, expected 0 to 1, half of kernel = 3",
        ),
        (
            "max_pool",
            "f32[N, 8, 9, 2]",
            {"kernel": 3},
            "axis 3 and padding = 0 have no room for a window of 3",
        ),
        ("adaptive_avg_pool", "f32[N, 8, H]", {"size": 0}, "`size` is 0, expected at least 1"),
        ("global_max_pool", "f32[N, 8]", {}, "`x` is f32[N, 8], expected [N, C, ...S]"),
    ],
)
def test_what_pooling_refuses(operator: str, x: str, attrs: dict[str, AttrValue], message: str) -> None:
    with pytest.raises(TypeRuleViolated) as caught:
        infer(operator, x, **attrs)
    assert message in str(caught.value)


def infer(operator: str, x: str, **attrs: AttrValue) -> tuple[TensorType, ...]:
    entry = OPERATORS[operator]
    return infer_types(entry, (parse_type(x),), complete_attrs(entry, attrs, node=operator))
