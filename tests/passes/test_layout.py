"""Convolutions read and write maps with channels last, and permutes stay only where such chains end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from esper.ir import BlueprintIR, DType
from esper.lang import lower
from esper.ops.reference import channels_last as last
from esper.ops.reference import convolution as first
from esper.passes import Law, joint_graph, run_passes
from esper.testing import random_values
from esper.testing.laws import require_law

BLUEPRINTS = Path(__file__).parents[2] / "blueprints"
FORMS = ("convolution", "convolution_input_grad", "convolution_weight_grad")


def counts(ir: BlueprintIR) -> dict[str, int]:
    """How many permutes and convolutions of either form there are."""
    ops = ("permute", *FORMS, *(f"{op}_channels_last" for op in FORMS))
    return {op: len(found) for op in ops if (found := ir.of(op))}


@pytest.mark.parametrize(("name", "convolutions", "permutes"), [("conv_enhance", 2, 3), ("depthwise", 3, 2)])
def test_a_library_block_runs_with_channels_last(name: str, convolutions: int, permutes: int) -> None:
    ir = run_passes(lower(BLUEPRINTS / f"{name}.esp"))
    after = run_passes(ir, "layout")
    assert counts(ir) == {"convolution": convolutions}
    assert counts(after) == {"permute": permutes, "convolution_channels_last": convolutions}
    require_law(Law.REAL_EQUAL, ir, after, random_values(ir))


@pytest.mark.parametrize(("name", "convolutions", "permutes"), [("conv_enhance", 2, 5), ("depthwise", 3, 5)])
def test_so_do_its_gradients(name: str, convolutions: int, permutes: int) -> None:
    joint = joint_graph(lower(BLUEPRINTS / f"{name}.esp"))
    after = run_passes(joint, "layout")
    assert counts(after) == {"permute": permutes} | {f"{op}_channels_last": convolutions for op in FORMS}
    require_law(Law.REAL_EQUAL, joint, after, random_values(joint))


def test_convolutions_that_run_narrow_stay_narrow() -> None:
    joint = joint_graph(lower(BLUEPRINTS / "conv_enhance.esp"))
    after = run_passes(joint, "precision,layout")
    for op in FORMS:
        earlier, later = after.of(f"{op}_channels_last")
        assert earlier.type.dtype is later.type.dtype is DType.BF16


CHAIN = """
blueprint chain {
  %x = input() : f32[N, 4, S, S]
  %w = param() {init="normal", fan_in=1, gain=1.0} : f32[6, 4, 3, 3]
  %b = param() {init="normal", fan_in=1, gain=1.0} : f32[6]
  %v = param() {init="normal", fan_in=1, gain=1.0} : f32[6, 1, 1, 1]
  %mean = buffer() {init="zeros"} : f32[6]
  %variance = buffer() {init="ones"} : f32[6]
  %c = convolution(%x, %w) {stride=1, padding=1, dilation=1, groups=1} : f32[N, 6, S, S]
  %r = reshape(%b) {shape=[6, 1, 1]} : f32[6, 1, 1]
  %biased = add(%c, %r) : f32[N, 6, S, S]
  %n = batch_norm(%biased, _, _, %mean, %variance) {training=false, momentum=0.1, eps=1e-05}
    : f32[N, 6, S, S], f32[6], f32[6], f32[6], f32[6]
  %wide = cast(%n) {dtype=f64} : f64[N, 6, S, S]
  %h = relu(%wide) : f64[N, 6, S, S]
  %narrow = cast(%h) {dtype=f32} : f32[N, 6, S, S]
  %y = convolution(%narrow, %v) {stride=1, padding=0, dilation=1, groups=6} : f32[N, 6, S, S]
  %pooled = sum(%y) {axes=[2, 3], keepdims=false} : f32[N, 6]
  output pooled = %pooled
}
"""


def test_a_chain_has_one_permute(golden: Callable[[str, str], None]) -> None:
    ir = BlueprintIR.from_text(CHAIN)
    after = run_passes(ir, "layout")
    assert counts(after) == {"permute": 1, "convolution_channels_last": 2}
    require_law(Law.REAL_EQUAL, ir, after, random_values(ir))
    golden("layout.ir", f"{after}\n")


@pytest.mark.parametrize(
    ("line", "output"),
    [
        ("%y = reshape(%c) {shape=[N, 6*S, S]} : f32[N, 6*S, S]", "other readers"),
        (
            "%seed = seed() : i64[]\n%y = dropout(%c, %seed) {p=0.5, offset=1} : f32[N, 6, S, S]",
            "draws, which count elements in their order",
        ),
        (
            "%y = sum(%c) {axes=[0], keepdims=false} : f32[6, S, S]",
            "sums whose axes would change their order",
        ),
        (
            "%z = input() : f32[M, N, 6, S, S]\n%y = add(%z, %c) : f32[M, N, 6, S, S]",
            "operands of more axes",
        ),
    ],
    ids=lambda text: text.split()[0] if not text.startswith("%") else "line",
)
def test_what_needs_the_order_reads_a_permute(line: str, output: str) -> None:
    ir = BlueprintIR.from_text(
        f"""blueprint g {{
          %x = input() : f32[N, 4, S, S]
          %w = param() {{init="normal", fan_in=1, gain=1.0}} : f32[6, 4, 1, 1]
          %c = convolution(%x, %w) {{stride=1, padding=0, dilation=1, groups=1}} : f32[N, 6, S, S]
          {line}
          output y = %y
        }}"""
    )
    after = run_passes(ir, "layout")
    (reader,) = (node for node in after.nodes if node.name == "y")
    assert "permute" in {after.node(operand.node).op for operand in reader.operands if operand}, output
    assert counts(after) == {"permute": 2, "convolution_channels_last": 1}
    require_law(Law.REAL_EQUAL, ir, after, random_values(ir))


def test_a_graph_without_convolutions_stays_as_it_is() -> None:
    for name in ("mlp_block", "attention", "norm"):
        ir = run_passes(lower(BLUEPRINTS / f"{name}.esp"))
        assert run_passes(ir, "layout") == ir


@pytest.mark.parametrize("name", ["conv_enhance", "depthwise"])
def test_gradients_taken_after_the_pass_have_channels_last(name: str) -> None:
    ir = run_passes(lower(BLUEPRINTS / f"{name}.esp"))
    joint = joint_graph(run_passes(ir, "layout"))
    assert not set(counts(joint)) & set(FORMS)
    require_law(Law.REAL_EQUAL, joint_graph(ir), joint, random_values(joint))


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_references_are_those_of_convolution_on_permuted_maps(axes: int) -> None:
    random = torch.Generator().manual_seed(0)
    x = torch.randn(2, 4, *(5, 6, 3)[:axes], dtype=torch.float64, generator=random)
    weight = torch.randn(6, 2, *[2] * axes, dtype=torch.float64, generator=random)
    geometry = {"stride": 2, "padding": 1, "dilation": 1, "groups": 2}
    y = first.convolution(x, weight, **geometry)
    g = torch.randn(y.shape, dtype=torch.float64, generator=random)
    x_last, g_last = (value.movedim(1, -1).contiguous() for value in (x, g))
    torch.testing.assert_close(last.convolution(x_last, weight, **geometry), y.movedim(1, -1))
    dx = first.convolution_input_grad(g, weight, shape=tuple(x.shape), **geometry)
    found = last.convolution_input_grad(g_last, weight, shape=tuple(x_last.shape), **geometry)
    torch.testing.assert_close(found, dx.movedim(1, -1))
    dweight = first.convolution_weight_grad(g, x, shape=tuple(weight.shape), **geometry)
    found = last.convolution_weight_grad(g_last, x_last, shape=tuple(weight.shape), **geometry)
    torch.testing.assert_close(found, dweight)


def test_a_map_is_written_with_its_channels_last_in_memory() -> None:
    x, weight = torch.ones(2, 5, 6, 4), torch.ones(8, 4, 3, 3)
    geometry = {"stride": 1, "padding": 1, "dilation": 1, "groups": 1}
    y = last.convolution(x, weight, **geometry)
    assert y.is_contiguous()
    assert last.convolution_input_grad(y, weight, shape=(2, 5, 6, 4), **geometry).is_contiguous()


@pytest.mark.parametrize("axes", [[1], [2], [3], [1, 2], [2, 3], [0, 3]])
@pytest.mark.parametrize("keepdims", ["true", "false"])
def test_a_sum_reads_the_axes_where_they_lie(axes: list[int], keepdims: str) -> None:
    ir = BlueprintIR.from_text(
        f"""
blueprint sums {{
  %x = input() : f32[2, 3, 5, 7]
  %w = param() {{init="normal", fan_in=1, gain=1.0}} : f32[4, 3, 1, 1]
  %c = convolution(%x, %w) {{stride=1, padding=0, dilation=1, groups=1}} : f32[2, 4, 5, 7]
  %s = sum(%c) {{axes={axes}, keepdims={keepdims}}} : f32[{", ".join(_left(axes, keepdims == "true"))}]
  output y = %s
}}
"""
    )
    after = run_passes(ir, "layout")
    assert after.of("convolution_channels_last")
    require_law(Law.REAL_EQUAL, ir, after, random_values(ir))


def _left(axes: list[int], keepdims: bool) -> list[str]:
    sizes = [(axis, "1" if axis in axes else str(size)) for axis, size in enumerate((2, 4, 5, 7))]
    return [size for axis, size in sizes if keepdims or axis not in axes]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_weight_that_no_element_meets_has_a_gradient_of_zero(dtype: torch.dtype) -> None:
    """The oneDNN library would leave it as the memory was."""
    x, g = torch.ones(4, 1, 1, 3, dtype=dtype), torch.ones(4, 1, 1, 1, dtype=dtype)
    expected = torch.zeros(1, 3, 3, 3)
    expected[:, :, 1, 1] = 4.0
    for _ in range(50):
        nans = [torch.full((count,), torch.nan, dtype=x.dtype) for count in (27, 32, 64, 128, 256, 1024)]
        del nans
        found = last.convolution_weight_grad(
            g, x, shape=(1, 3, 3, 3), stride=2, padding=1, dilation=1, groups=1
        )
        assert torch.equal(found.float(), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("is_cast", [False, True])
def test_a_window_that_meets_padding_alone_gives_the_bias(dtype: torch.dtype, is_cast: bool) -> None:
    """The oneDNN library would crash on it."""
    x, w, bias = (torch.ones(*shape, dtype=dtype) for shape in ((2, 2, 1, 3), (6, 1, 1, 1), (6,)))
    with torch.autocast("cpu", enabled=is_cast):
        bare = last.convolution(x, w, stride=2, padding=1, dilation=2, groups=3)
        y = first.conv(x.movedim(-1, 1), w, bias, stride=2, padding=1, dilation=2, groups=3)
    assert torch.equal(bare, torch.zeros(2, 2, 2, 6, dtype=dtype))
    assert torch.equal(y, torch.ones(2, 6, 2, 2, dtype=dtype))
