"""Sizes that only a run can compare: what is left to it, what is an error at once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import esper
from esper import lang
from esper.ir.dims import Size, symbol
from esper.ir.errors import SizesDiffer
from esper.lang.sizes_at_run_time import can_be_equal

H, T, N = symbol("H"), symbol("T"), symbol("N")

THERE_AND_BACK = """blueprint there_and_back(features: dim = 4) {
    input x: f32[N, features, ...S]

    h = x |> max_pool(2) |> interpolate(scale=2)
    output x + h
}
"""


@pytest.mark.parametrize(
    ("one", "other", "can"),
    [
        (H, 2 * (H // 2), True),
        (H, H // 2, False),
        (H, (H - 1) // 2 + 1, False),  # only for a size of 1
        (H, 4 * H, False),
        (H, H + 1, False),
        (T, N, True),
        (T, 768, True),
        (3 * T, 768, True),
        (2 * (T // 2), 767, False),
        (4 * N, T, True),
        (N * T, 2 * T, True),
        (4, 8, False),
        (H, 100 * (H // 100), True),
        (H, 1024 * (H // 1024), True),
        (H // 64, 7, True),
        (H * H, 10000, True),
        (H * H, 10007, False),
        (H, 1, True),  # where it is written, a size of 1 counts
    ],
)
def test_two_sizes_can_be_equal_or_never_are(one: Size, other: Size, can: bool) -> None:
    assert can_be_equal(one, other) is can
    assert can_be_equal(other, one) is can


def test_a_size_that_is_a_number_before_any_run_is_not_left_to_it() -> None:
    assert not can_be_equal(T, N, frozenset({"T", "N"}))
    assert can_be_equal(T, N, frozenset({"N"}))


def _compiled(tmp_path: Path, text: str) -> torch.nn.Module:
    path = tmp_path / "block.esp"
    path.write_text(text, encoding="utf-8")
    seed: torch.nn.Module = esper.compile(path)
    return seed


def test_a_run_with_other_sizes_names_the_line_of_the_blueprint(tmp_path: Path) -> None:
    seed = _compiled(tmp_path, THERE_AND_BACK)
    with pytest.raises(SizesDiffer) as caught:
        seed(torch.zeros(2, 4, 6, 5))
    assert str(caught.value) == (
        "block.esp:5: `output x + h` needs 2*(S.0//2) = S.0 and 2*(S.1//2) = S.1: "
        "found the shape [2, 4, 6, 4], expected [2, 4, 6, 5]"
    )


def test_a_run_with_sizes_that_fit_is_that_of_torch_with_its_gradient(tmp_path: Path) -> None:
    seed = _compiled(tmp_path, THERE_AND_BACK)
    x = torch.randn(2, 4, 6, 8, generator=torch.Generator().manual_seed(0))
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    found = seed(ours)
    pooled = torch.nn.functional.max_pool2d(theirs, 2)
    expected = theirs + torch.nn.functional.interpolate(pooled, scale_factor=2)
    torch.testing.assert_close(found, expected)
    found.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.parametrize(
    "line",
    [
        "a + b",
        "where(greater(a, b), a, b)",
        "matmul(a, b, transpose_a=true)",
        "concat(a, b, axis=2) |> sum(axes=[0])",
        "stack(a, b)",
        "mse_loss(a, b)",
        "add_and_norm(a, b)",
        "a |> reshape([N, T // 2, 2 * features])",
        "chunk(a, 2, 0, axis=1) + chunk(b, 2, 1, axis=1)",
        "glu(a, axis=1)",
        "reshape(a, [N, 6 * features])",
        "reshape(a, [N, 3, 2, 2, T * features // 12])",
        "reshape(a, [2, 6 * features])",
        'einsum(a, b, equation="nta,nta->n")',
        'einsum(a, b, equation="nta,nua->a") + einsum(a, b, equation="nta,nta->a")',
        "cross_entropy(permute(a, [0, 2, 1]), argmax(b, axis=-1))",
    ],
)
def test_operators_leave_what_they_ask_of_sizes_to_the_run(line: str, tmp_path: Path) -> None:
    text = (
        "blueprint block(features: dim = 8) {\n    input a: f32[N, T, features]\n"
        f"    input b: f32[N, U, features]\n\n    output {line}\n}}\n"
    )
    path = tmp_path / "block.esp"
    path.write_text(text, encoding="utf-8")
    ir = esper.lower(path)
    assert ir.of("ensure_shape"), str(ir)
    generator = torch.Generator().manual_seed(0)
    inputs = {name: torch.randn(2, 6, 8, generator=generator, dtype=torch.float64) for name in ("a", "b")}
    weights = {
        node.name: torch.ones(node.type.concrete_shape({}), dtype=torch.float64)
        for node in (*ir.of("param"), *ir.of("buffer"))
    }
    given = {node.name: inputs[node.name] for node in ir.inputs}
    assert esper.evaluate(ir, given, weights, dtype=torch.float64)
    longer = {**given, "a": torch.randn(2, 7, 8, generator=generator, dtype=torch.float64)}
    with pytest.raises(SizesDiffer, match=r"^block\.esp:5: `output "):
        esper.evaluate(ir, longer, weights, dtype=torch.float64)


def test_a_check_of_what_is_equal_by_name_stays_silent(tmp_path: Path) -> None:
    path = tmp_path / "block.esp"
    path.write_text(THERE_AND_BACK, encoding="utf-8")
    assert lang.check(path) == []
