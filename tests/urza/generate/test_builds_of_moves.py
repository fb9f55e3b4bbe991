"""Kernels that move, fold and look up build ahead of time, without spills; wide where sizes allow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from esper.ir import Builder, DType, TensorType, Value, symbol
from esper.ir.dims import Size
from esper.urza.builder.ahead_of_time import build_kernels
from esper.urza.builder.cache import KernelCache
from esper.urza.compiler import make_programs
from esper.urza.kernel import BuiltKernel

N, S = symbol("N"), symbol("S")
Use = tuple[str, tuple[Size, ...], dict[str, Any]]


def built(uses: list[Use], target: str, folder: Path) -> list[BuiltKernel]:
    """The kernels of one graph that holds `uses`, of bf16 tensors, forward and backward."""
    build = Builder("built")
    outputs: dict[str, Value] = {}
    for number, (op, shape, attrs) in enumerate(uses):
        x = build.op("exp", build.input(f"x{number}", TensorType(DType.BF16, shape)))
        outputs[f"y{number}"] = build.op(op, x, **attrs)
    found = build_kernels(make_programs(build.finish(outputs)).kernels, [target], cache=KernelCache(folder))
    return list(found.kernels)


ANY: list[Use] = [
    ("slice", (N, 64, S), {"axes": (1, 2), "start": (5, 0), "stop": (64, S), "step": (2, 1)}),
    ("flip", (N, S), {"axes": (1,)}),
    ("roll", (N, S), {"shifts": (3,), "axes": (1,)}),
    ("pad", (N, 64, S), {"pad": (1, 2, 3, 0), "mode": "reflect"}),
    ("pad", (N, S), {"pad": (1, 2), "mode": "circular"}),
    ("interpolate", (N, 16, S, S), {"scale": 2, "mode": "linear"}),
    ("interpolate", (N, 16, S), {"scale": 2}),
    ("rotary_embedding", (N, S, 64), {"axis": 1}),
    ("amax", (N, 64, S), {"axes": (1,), "keepdims": False}),
    ("amax", (N, S), {"axes": (1,), "keepdims": False}),
    ("prod", (N, 8, S), {"axes": (1,), "keepdims": False}),
    ("cumsum", (N, S), {"axis": 1, "reverse": True}),
    ("cumsum", (N, S, 64), {"axis": 1}),
]
WIDE: list[Use] = [
    ("slice", (N, 128), {"axes": (1,), "start": (64,), "stop": (128,)}),
    ("pad", (N, 128), {"pad": (64, 64)}),
    ("roll", (N, 128), {"shifts": (64,), "axes": (1,)}),
    ("sum", (N, S, 64), {"axes": (1,), "keepdims": False}),
    ("softmax", (N, S, 128), {"axis": 1}),
]


@pytest.mark.parametrize("target", ["sm_80", "sm_90"])
def test_nothing_spills(target: str, tmp_path: Path) -> None:
    kernels = built(ANY, target, tmp_path)
    assert [kernel.kernel.name for kernel in kernels if kernel.resources.spill_bytes] == []


def test_accesses_are_wide_where_sizes_are_multiples_of_8(tmp_path: Path) -> None:
    kernels = built(WIDE, "sm_90", tmp_path)
    assert [(k.kernel.name, k.resources.vector_bits) for k in kernels if k.resources.vector_bits < 122] == []


def test_indices_build(tmp_path: Path) -> None:
    build = Builder("indices")
    x = build.input("x", TensorType(DType.BF16, (N, 64)))
    weight = build.param("weight", TensorType(DType.BF16, (100, 64)), init="normal")
    place = build.op("argmax", x, axis=1, keepdims=False)
    first = build.op("argmin", build.input("y", TensorType(DType.F32, (N, S))), axis=0, keepdims=True)
    y = build.op("add", x, build.op("embedding", place, weight))
    hot = build.op("one_hot", place, classes=64, dtype=DType.BF16)
    loss = build.op("cross_entropy", build.op("pow", build.op("mul", y, hot), y), place)
    graph = build.finish({"loss": loss, "first": first})
    kernels = build_kernels(make_programs(graph).kernels, ["sm_90"], cache=KernelCache(tmp_path)).kernels
    assert [kernel.kernel.name for kernel in kernels if kernel.resources.spill_bytes] == []
