"""Blueprints of the library compile ahead of time, forward and backward."""

from __future__ import annotations

from pathlib import Path

import pytest

from esper.ir.graph import BlueprintIR
from esper.lang import library, lower
from esper.urza.builder.cache import KernelCache
from esper.urza.compiler import compile_ir


def covering() -> list[BlueprintIR]:
    """Blueprints that together have every operator of the library; `benchmarks/targets.py` compiles all."""
    graphs = [lower(entry.name, precision="bf16") for entry in library()]
    operators = {ir.name: {node.op for node in ir.nodes} for ir in graphs}
    missing = set[str]().union(*operators.values())
    chosen = []
    while missing:
        chosen.append(max(graphs, key=lambda ir: len(operators[ir.name] & missing)))
        missing -= operators[chosen[-1].name]
    return chosen


@pytest.mark.parametrize("ir", covering(), ids=lambda ir: ir.name)
def test_a_blueprint_compiles_for_a_gpu_without_one(ir: BlueprintIR, tmp_path: Path) -> None:
    report = compile_ir(ir, ["sm_90"], cache=KernelCache(tmp_path), jobs=1).report()
    assert {kernel["direction"] for kernel in report["kernels"]} == {"forward", "backward"}
    assert [kernel["name"] for kernel in report["kernels"] if kernel["spill_bytes"]] == []
    products = [k for k in report["kernels"] if k["name"].startswith(("matmul", "attention"))]
    assert all(kernel["matrix_instructions"] > 0 for kernel in products)
