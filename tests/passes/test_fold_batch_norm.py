"""A batch norm by running statistics is folded into what comes before it, and nothing else changes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from esper.ir import BlueprintIR
from esper.lang import lower
from esper.passes import Law, run_passes
from esper.testing import random_values
from esper.testing.laws import require_law


def graph(product: str, affine: bool = True, training: bool = False, extra: str = "") -> BlueprintIR:
    """A batch norm of 6 channels behind `product`, a line that makes `%p` of `%x`."""
    rank = 4 if "conv" in product else 2
    shape = "[N, 6, S, S]" if rank == 4 else "[N, 6]"
    weight = (
        '%gain = param() {init="ones", fan_in=1, gain=1.0} : f32[6]\n'
        '%bias = param() {init="normal", fan_in=1, gain=1.0} : f32[6]\n'
        if affine
        else ""
    )
    operands = "%gain, %bias" if affine else "_, _"
    flag = str(training).lower()
    return BlueprintIR.from_text(
        f"""blueprint g {{
          %x = input() : f32[N, {"4, S, S" if rank == 4 else "4"}]
          %w = param() {{init="normal", fan_in=1, gain=1.0}} : f32[6, 4{", 1, 1" if rank == 4 else ""}]
          %b = param() {{init="normal", fan_in=1, gain=1.0}} : f32[6]
          {weight}
          %mean = buffer() {{init="zeros"}} : f32[6]
          %var = buffer() {{init="ones"}} : f32[6]
          {product}
          %y = batch_norm(%p, {operands}, %mean, %var) {{training={flag}, momentum=0.1, eps=1e-05}}
            : f32{shape}, f32[6], f32[6], f32[6], f32[6]
          output y = %y
          output rstd = %y#2
          {extra}
        }}"""
    )


CONV = "{stride=1, padding=0, dilation=1, groups=1} : f32[N, 6, S, S]"
PRODUCTS = {
    "convolution": f"%p = convolution(%x, %w) {CONV}",
    "convolution with a bias": f"%c = convolution(%x, %w) {CONV}\n"
    "%r = reshape(%b) {shape=[1, 6, 1, 1]} : f32[1, 6, 1, 1]\n%p = add(%r, %c) : f32[N, 6, S, S]",
    "conv": f"%p = conv(%x, %w, %b) {CONV}",
    "linear": "%p = linear(%x, %w, %b) : f32[N, 6]",
    "matmul": "%p = matmul(%x, %w) {transpose_a=false, transpose_b=true} : f32[N, 6]",
    "matmul with a bias": "%m = matmul(%x, %w) {transpose_a=false, transpose_b=true} : f32[N, 6]\n"
    "%p = add(%m, %b) : f32[N, 6]",
}


@pytest.mark.parametrize("affine", [True, False], ids=["affine", "plain"])
@pytest.mark.parametrize("name", PRODUCTS)
def test_it_disappears_and_the_outputs_stay(name: str, affine: bool) -> None:
    ir = graph(PRODUCTS[name], affine)
    after = run_passes(ir, "fold_batch_norm,dce")
    assert not after.of("batch_norm")
    for op in ("convolution", "conv", "linear", "matmul"):
        assert len(after.of(op)) == len(ir.of(op))
    require_law(Law.REAL_EQUAL, ir, after, random_values(ir))
    assert {node.name for node in after.params} == {node.name for node in run_passes(ir, "dce").params}


@pytest.mark.parametrize(
    "ir",
    [
        graph(PRODUCTS["conv"], training=True),
        graph(PRODUCTS["conv"], extra="output again = %p"),
        graph(f"{PRODUCTS['matmul'].replace('%p', '%h')}\n%p = gelu(%h) : f32[N, 6]"),
    ],
    ids=["in training", "read elsewhere", "behind an activation"],
)
def test_where_it_cannot_be_folded_it_stays(ir: BlueprintIR) -> None:
    assert run_passes(ir, "fold_batch_norm") == ir


@pytest.mark.parametrize("name", ["conv_enhance", "depthwise"])
def test_the_librarys_convolutions_take_theirs_in(name: str) -> None:
    before = run_passes(lower(name), "inference,expand")
    after = run_passes(before, "fold_batch_norm,dce")
    assert len(after.of("batch_norm")) < len(before.of("batch_norm"))


def test_a_folded_graph(golden: Callable[[str, str], None]) -> None:
    golden("fold_batch_norm.ir", f"{run_passes(graph(PRODUCTS['convolution']), 'fold_batch_norm,dce')}\n")
