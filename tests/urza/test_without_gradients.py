"""Graphs of which nothing has a gradient have forward kernels alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from esper.cli.esperc import main
from esper.ir import Builder, DType, TensorType, Value, symbol
from esper.urza.compiler import make_programs
from esper.urza.run.seed import CompiledSeed
from esper.urza.verify.verification import verify_programs
from tests.urza.run.test_citizen import ByTorch

ROWS = TensorType(DType.F32, (symbol("N"), 4))

TRUTHS = """
blueprint truths() {
    input x: f32[N, 4]
    input y: f32[N, 4]
    output concat(greater(x, y), less(exp(x), 1.0), axis=-1)
}
"""
COUNTS = """
blueprint counts() {
    input x: i64[N, 4]
    input y: i64[N, 3]
    output concat(x + x, y * y, axis=-1)
}
"""


def greater(build: Builder) -> Value:
    """Of floating inputs, booleans."""
    return build.op("greater", build.input("x", ROWS), build.input("y", ROWS))


def rounded_share(build: Builder) -> Value:
    """A floating output that no floating input reaches by floating values."""
    return build.op("mul", build.op("cast", greater(build), dtype=DType.F32), 0.5)


@pytest.mark.parametrize("make", [greater, rounded_share], ids=lambda make: make.__name__)
def test_only_forward_kernels_are_made_and_they_are_right(make: Callable[[Builder], Value]) -> None:
    build = Builder("plain")
    programs = make_programs(build.finish({"result": make(build)}))
    assert programs.both == (programs.forward,) and programs.kernels == programs.forward.kernels
    assert programs.parts.saved == () and programs.backward.steps == ()
    assert verify_programs(programs).ok


@pytest.mark.parametrize("make", [greater, rounded_share], ids=lambda make: make.__name__)
def test_a_seed_runs_them_and_its_results_need_no_gradient(make: Callable[[Builder], Value]) -> None:
    build = Builder("plain")
    ir = build.finish({"result": make(build)})
    seed = CompiledSeed(ir, tier="triton", supply=ByTorch(ir))
    x, y = torch.randn(3, 4).requires_grad_(), torch.randn(3, 4)
    result = seed(x, y)
    assert seed.status().tier == "triton" and not result.requires_grad
    assert torch.equal(result, (x > y).to(result.dtype) * (0.5 if result.is_floating_point() else 1))


def test_where_what_needs_a_gradient_reaches_no_result_the_rest_still_runs() -> None:
    build = Builder("chosen")
    x, y = build.input("x", ROWS), build.input("y", ROWS)
    ir = build.finish({"result": build.op("where", build.op("greater", x, 0.0), y, 0.0)})
    seed = CompiledSeed(ir, tier="triton", supply=ByTorch(ir))
    x_given, y_given = torch.randn(3, 4).requires_grad_(), torch.randn(3, 4)
    assert not seed(x_given, y_given).requires_grad and seed.status().tier == "triton"
    seed(x_given, y_given.requires_grad_()).sum().backward()
    assert x_given.grad is None and torch.equal(y_given.grad, (x_given > 0).float())  # type: ignore[arg-type]


@pytest.mark.parametrize("source", [TRUTHS, COUNTS], ids=["truths", "counts"])
def test_the_commands_compile_and_verify_them(source: str, tmp_path: Path) -> None:
    path = tmp_path / "plain.esp"
    path.write_text(source)
    for command in (["verify", str(path), "--json"], ["compile", str(path), "--target", "sm_90", "--json"]):
        found = CliRunner(env={"ESPER_CACHE_DIR": str(tmp_path)}).invoke(main, command)
        assert found.exit_code == 0, found.output
        assert {kernel["direction"] for kernel in json.loads(found.stdout)["kernels"]} == {"forward"}
    for stage in ("joint", "plan", "triton"):
        assert CliRunner().invoke(main, ["compile", str(path), "--emit", stage]).exit_code == 0
    assert CliRunner().invoke(main, ["explain", str(path)]).exit_code == 0
