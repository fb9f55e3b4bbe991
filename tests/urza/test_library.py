"""Every blueprint of the library compiles ahead of time, forward and backward."""

from __future__ import annotations

from pathlib import Path

import pytest

from esper.lang import LibraryEntry, library, lower
from esper.urza.builder.cache import KernelCache
from esper.urza.compiler import compile_ir


@pytest.mark.parametrize("entry", library(), ids=lambda entry: entry.name)
def test_a_blueprint_compiles_for_a_gpu_without_one(entry: LibraryEntry, tmp_path: Path) -> None:
    compiled = compile_ir(lower(entry.name, precision="bf16"), ["sm_90"], cache=KernelCache(tmp_path), jobs=1)
    report = compiled.report()
    assert {kernel["direction"] for kernel in report["kernels"]} == {"forward", "backward"}
    assert [kernel["name"] for kernel in report["kernels"] if kernel["spill_bytes"]] == []
    products = [k for k in report["kernels"] if k["name"].startswith(("matmul", "attention"))]
    assert all(kernel["matrix_instructions"] > 0 for kernel in products)
