"""Positions: rotations keep lengths and depend on distances alone; sinusoids and slopes are the papers'."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from esper.ir import Builder, parse_type
from esper.ir.errors import TypeRuleViolated
from esper.lang import lower
from esper.ops.reference.evaluate import evaluate
from esper.ops.reference.position import alibi_bias, rotary_embedding, sinusoidal_encoding
from esper.passes import joint_graph, run_passes
from esper.urza.compiler import make_programs
from esper.urza.eager.torch_tier import call, graph_module


def rotated(
    x: torch.Tensor, base: float = 10000.0, axis: int = -2, start: int = 0, inverse: bool = False
) -> torch.Tensor:
    return rotary_embedding(x, base=base, axis=axis, start=start, inverse=inverse)


def test_a_pair_is_a_complex_number_times_a_phase() -> None:
    x = torch.randn(2, 5, 8, dtype=torch.float64)
    pairs = torch.complex(x[..., :4], x[..., 4:])
    for t in range(5):
        for i in range(4):
            phase = t * 100.0 ** (-2 * i / 8)
            turned = pairs[:, t, i] * complex(math.cos(phase), math.sin(phase))
            found = rotated(x, base=100.0)[:, t]
            torch.testing.assert_close(torch.complex(found[:, i], found[:, i + 4]), turned)


@given(start=st.integers(0, 50), shift=st.integers(0, 50))
def test_products_of_rotated_rows_depend_on_their_distance_alone(start: int, shift: int) -> None:
    generator = torch.Generator().manual_seed(start)
    q, k = (torch.randn(6, 8, dtype=torch.float64, generator=generator) for _ in range(2))
    near = rotated(q, start=start) @ rotated(k, start=start).mT
    far = rotated(q, start=start + shift) @ rotated(k, start=start + shift).mT
    torch.testing.assert_close(near, far)


def test_a_rotation_back_undoes_it_and_the_axis_of_positions_may_be_any(tmp_path: Path) -> None:
    x = torch.randn(2, 3, 5, 8, dtype=torch.float64)
    torch.testing.assert_close(rotated(rotated(x, start=7), start=7, inverse=True), x)
    torch.testing.assert_close(rotated(x.transpose(1, 2), axis=1).transpose(1, 2), rotated(x))
    torch.testing.assert_close(rotated(x, start=2)[:, :, :3], rotated(F.pad(x, (0, 0, 2, 0)))[:, :, 2:5])
    torch.testing.assert_close(rotated(x).norm(dim=-1), x.norm(dim=-1))


def test_angles_of_coarse_dtypes_are_float32() -> None:
    x = torch.zeros(4096, 2, dtype=torch.bfloat16)
    x[:, 0] = 1.0
    positions = torch.arange(4096.0)
    expected = torch.stack([positions.cos(), positions.sin()], -1).bfloat16()
    assert torch.equal(rotated(x), expected)


def test_sinusoids_are_the_papers() -> None:
    found = sinusoidal_encoding(torch.zeros(3, 7, 6, dtype=torch.float64), base=10000.0, start=2)
    for t in range(7):
        for i in range(3):
            angle = (t + 2) / 10000.0 ** (2 * i / 6)
            assert found[t, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-12)
            assert found[t, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-12)


@pytest.mark.parametrize(
    ("heads", "exponents"),
    [(1, [8]), (2, [4, 8]), (8, [1, 2, 3, 4, 5, 6, 7, 8]), (3, [4, 8, 2]), (6, [2, 4, 6, 8, 1, 3])],
)
def test_slopes_of_distances_are_the_papers(heads: int, exponents: list[float]) -> None:
    q, k = torch.zeros(1, heads, 3, 2, dtype=torch.float64), torch.zeros(1, 1, 4, 2, dtype=torch.float64)
    found = alibi_bias(q, k)
    assert found.shape == (heads, 3, 4)
    distance = torch.tensor([[0.0, 1, 2, 3], [1, 0, 1, 2], [2, 1, 0, 1]], dtype=torch.float64)
    torch.testing.assert_close(found, torch.stack([-(2.0**-e) * distance for e in exponents]))


SOURCE = """
blueprint positions() {
    input x: f32[N, T, 8]
    h = x + sinusoidal_encoding(x)
    q = h |> reshape([N, T, 2, 4]) |> rotary_embedding(base=100.0, axis=1, start=3) |> permute([0, 2, 1, 3])
    a = scaled_dot_product_attention(q, q, q, alibi_bias(q, q), causal=true)
    output y = a |> permute([0, 2, 1, 3]) |> reshape([N, T, 8])
}
"""


def by_hand(x: torch.Tensor) -> torch.Tensor:
    h = x + sinusoidal_encoding(x, base=10000.0, start=0)
    q = rotated(h.unflatten(-1, (2, 4)).transpose(1, 2), base=100.0, start=3)
    bias = alibi_bias(q, q).masked_fill(torch.ones(q.shape[2], q.shape[2]).triu(1).bool(), -math.inf)
    return F.scaled_dot_product_attention(q, q, q, bias).transpose(1, 2).flatten(2)


def test_a_source_with_all_of_them_and_its_gradient(tmp_path: Path) -> None:
    path = tmp_path / "positions.esp"
    path.write_text(SOURCE)
    ir = lower(path)
    x = torch.randn(2, 5, 8, dtype=torch.float64, requires_grad=True)
    y = by_hand(x)
    g = torch.randn_like(y)
    (dx,) = torch.autograd.grad(y, x, g)
    with torch.no_grad():
        found = evaluate(joint_graph(ir), {"x": x, "grad.y": g}, {}, dtype=torch.float64)
    torch.testing.assert_close(found["y"], y)
    torch.testing.assert_close(found["grad.x"], dx)
    prepared = run_passes(ir)
    module = graph_module(prepared)
    for length in (1, 9):
        given = torch.randn(3, length, 8)
        torch.testing.assert_close(call(module, prepared, {"x": given})[0], by_hand(given))
    assert [program.outside for program in make_programs(ir).both] == [(), ()]


@pytest.mark.parametrize(
    ("operator", "types", "attrs", "message"),
    [
        ("rotary_embedding", ["f32[T, 7]"], {}, "its last axis is 7, expected pairs"),
        ("rotary_embedding", ["f32[8]"], {}, "`x` is f32[8], expected [..., T, D]"),
        ("rotary_embedding", ["i64[T, 8]"], {}, "expected a floating dtype"),
        ("rotary_embedding", ["f32[T, 8]"], {"axis": 1}, "`axis` is the last axis of f32[T, 8]"),
        ("rotary_embedding", ["f32[T, 8]"], {"axis": 2}, "`axis` is 2, which is no axis of f32[T, 8]"),
        ("rotary_embedding", ["f32[T, 8]"], {"base": 0.5}, "`base` is 0.5, expected a number above 1"),
        ("rotary_embedding", ["f32[T, 8]"], {"start": -1}, "`start` is -1, expected zero or more"),
        ("sinusoidal_encoding", ["f32[T, 7]"], {}, "its last axis is 7, expected pairs"),
        ("alibi_bias", ["f32[T, 8]", "f32[T, 8]"], {}, "`q` is f32[T, 8], expected [B, H, T, D]"),
    ],
)
def test_what_is_refused(
    operator: str, types: list[str], attrs: dict[str, int | float], message: str
) -> None:
    build = Builder("b")
    operands = [build.input(f"x{index}", parse_type(text)) for index, text in enumerate(types)]
    with pytest.raises(TypeRuleViolated) as caught:
        build.ops(operator, *operands, name=None, span=None, **attrs)
    assert message in str(caught.value)
