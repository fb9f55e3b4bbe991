"""conv_to_matmul, merge_convs, fold_pad, split_concat: other convolutions, the same outputs and gradients."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esper.ir import BlueprintIR, Builder, DType, Size, TensorType, Value, symbol
from esper.lang import lower
from esper.passes import Law, joint_graph, run_passes
from esper.testing import random_values
from esper.testing.laws import require_gradients, require_law

EXAMPLES = settings(max_examples=settings().max_examples // 7 or 1)  # each runs gradients, too


def require_same_training(ir: BlueprintIR, after: BlueprintIR) -> None:
    """The same outputs, parameters, and gradients of inputs and parameters, in float64."""
    values = random_values(ir, {"N": 2, "S": 7})
    require_law(Law.REAL_EQUAL, ir, after, values)
    require_gradients(ir, joint_graph(after), values)
    assert {(node.name, node.type) for node in after.params} == {(node.name, node.type) for node in ir.params}


@st.composite
def geometries(draw: st.DrawFn) -> dict[str, int]:
    kernel, dilation = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    padding = draw(st.integers(0, dilation * (kernel - 1)))
    return {"stride": draw(st.integers(1, 2)), "padding": padding, "dilation": dilation, "kernel": kernel}


def convolved(
    build: Builder, x: Value, channels: int, geometry: dict[str, int], scaled: bool = False
) -> Value:
    """A convolution of `x` by a weight of its own, which may be computed from one."""
    type = build.type(x)
    attrs = {name: value for name, value in geometry.items() if name != "kernel"}
    window = (geometry["kernel"],) * (type.rank - 2)
    weight = build.param(build.fresh("w"), TensorType(DType.F32, (channels, type.shape[1], *window)))
    if scaled:
        weight = build.op("mul", weight, 0.5)
    return build.op("convolution", x, weight, name=None, span=None, **attrs)


def a_map(build: Builder, channels: int, sizes: tuple[Size, ...], name: str = "x") -> Value:
    return build.input(name, TensorType(DType.F32, (symbol("N"), channels, *sizes)))


# --- conv_to_matmul ---


@st.composite
def gates(draw: st.DrawFn) -> BlueprintIR:
    build = Builder("gate")
    x = a_map(build, draw(st.integers(1, 4)), (1,) * draw(st.integers(1, 3)))
    geometry = {"stride": draw(st.integers(1, 2)), "padding": 0, "dilation": 1, "kernel": 1}
    h = convolved(build, x, draw(st.integers(1, 4)), geometry, scaled=draw(st.booleans()))
    y = convolved(build, build.op("gelu", h), draw(st.integers(1, 4)), geometry)
    return build.finish({"y": y, "h": h} if draw(st.booleans()) else {"y": y})


@EXAMPLES
@given(ir=gates())
def test_convolutions_of_single_elements_become_products(ir: BlueprintIR) -> None:
    after = run_passes(ir, "conv_to_matmul")
    assert len(after.of("matmul")) == 2 and not after.of("convolution")
    require_same_training(ir, after)


@pytest.mark.parametrize("name", ["squeeze_excite", "mbconv_block"])
def test_the_librarys_gates_become_products(name: str) -> None:
    before = run_passes(lower(name))
    after = run_passes(before, "conv_to_matmul")
    assert len(before.of("convolution")) - len(after.of("convolution")) == len(after.of("matmul")) == 2


# --- merge_convs ---


@st.composite
def siblings(draw: st.DrawFn) -> BlueprintIR:
    build = Builder("siblings")
    geometry = draw(geometries())
    sizes = (symbol("S"),) * draw(st.integers(1, 2))
    x = a_map(build, draw(st.integers(1, 3)), sizes)
    count = draw(st.integers(2, 4))
    results = [
        build.op("gelu", convolved(build, x, draw(st.integers(1, 3)), geometry, draw(st.booleans())))
        for _ in range(count)
    ]
    return build.finish({f"y{index}": value for index, value in enumerate(results)})


@EXAMPLES
@given(ir=siblings())
def test_convolutions_of_one_map_by_alike_windows_become_one(ir: BlueprintIR) -> None:
    after = run_passes(ir, "merge_convs")
    assert len(after.of("convolution")) == 1
    require_same_training(ir, after)
    assert run_passes(after, "merge_convs") == after


CONV = "{{stride={0}, padding=0, dilation=1, groups={1}}}"
SIBLINGS = """
blueprint s {{
  %x = input() : f32[N, 4, 8]
  %z = input() : f32[N, 4, 8]
  %v = param() {{init="normal", fan_in=4, gain=1.0}} : f32[2, {channels}, 1]
  %a = convolution(%x, %v) {first} : f32[N, 2, 8]
  %w = param() {{init="normal", fan_in=4, gain=1.0}} : f32[6, {channels}, 1]
  %b = convolution(%{reads}, {weight}) {second} : f32[N, 6, {size}]
  output a = %a
  output b = %b
}}
"""


def two(stride: int = 1, groups: int = 1, reads: str = "x", weight: str = "%w") -> BlueprintIR:
    """Two convolutions, the first with stride 1."""
    return BlueprintIR.from_text(
        SIBLINGS.format(
            channels=4 // groups,
            first=CONV.format(1, groups),
            second=CONV.format(stride, groups),
            size=8 // stride,
            reads=reads,
            weight=weight,
        )
    )


def test_two_siblings(golden: Callable[[str, str], None]) -> None:
    golden("merge_convs.ir", f"{run_passes(two(), 'merge_convs')}\n")


@pytest.mark.parametrize(
    "ir", [two(stride=2), two(groups=2), two(reads="z")], ids=["another stride", "groups", "another map"]
)
def test_convolutions_that_are_not_alike_stay(ir: BlueprintIR) -> None:
    assert run_passes(ir, "merge_convs") == ir


def test_a_weight_that_depends_on_an_input_keeps_its_convolution() -> None:
    build = Builder("hyper")
    x = a_map(build, 2, (8,))
    mean = build.op("sum", x, axes=(0, 2), keepdims=False)
    weight = build.op("reshape", build.op("broadcast_to", mean, shape=(2, 2)), shape=(2, 2, 1))
    other = build.param("w", TensorType(DType.F32, (2, 2, 1)))
    ir = build.finish({"a": build.op("convolution", x, weight), "b": build.op("convolution", x, other)})
    assert run_passes(ir, "merge_convs") == ir


def test_the_branches_of_an_inception_block_begin_with_one_convolution() -> None:
    before = run_passes(lower("inception_block"))
    after = run_passes(before, "merge_convs")
    assert len(before.of("convolution")) - len(after.of("convolution")) == 2
    assert after.params and set(after.params) == set(before.params)


# --- fold_pad ---


@st.composite
def padded(draw: st.DrawFn) -> BlueprintIR:
    build = Builder("padded")
    geometry = draw(geometries())
    axes = draw(st.integers(1, 2))
    x = a_map(build, 2, (symbol("S"),) * axes)
    ends = draw(st.lists(st.integers(0, 3), min_size=2 * axes, max_size=2 * axes))
    keep = 2 * draw(st.integers(1, axes))
    y = convolved(build, build.op("pad", x, pad=tuple(ends[:keep])), 3, geometry)
    return build.finish({"y": build.op("gelu", y)})


@EXAMPLES
@given(ir=padded())
def test_a_padding_is_taken_in_where_windows_stand_at_the_same_places(ir: BlueprintIR) -> None:
    after = run_passes(ir, "fold_pad,dce")
    (before,), (pad,) = ir.of("convolution"), ir.of("pad")
    ends = pad.attrs["pad"]
    assert isinstance(ends, tuple)
    firsts = [*ends[::2], *([0] * (before.type.rank - 2 - len(ends) // 2))]
    most = max(end for end in ends if isinstance(end, int))
    is_placed = all((most - first) % before.attrs["stride"] == 0 for first in firsts)  # type: ignore[operator]
    assert bool(after.of("pad")) is not is_placed
    require_same_training(ir, after)


CAUSAL = """
blueprint causal {{
  %x = input() : f32[N, 4, T]
  %w = param() {{init="normal", fan_in=8, gain=1.0}} : f32[2, 4, 3]
  %pad = pad(%x) {{pad=[{pad}], mode="{mode}", value={value}}} : f32[N, 4, T + 4]
  %y = convolution(%pad, %w) {{stride=1, padding=0, dilation=2, groups=1}} : f32[N, 2, T]
  output y = %y
  {extra}
}}
"""


def causal(pad: str = "4, 0", mode: str = "constant", value: float = 0.0, extra: str = "") -> BlueprintIR:
    return BlueprintIR.from_text(CAUSAL.format(pad=pad, mode=mode, value=value, extra=extra))


def test_a_causal_convolution(golden: Callable[[str, str], None]) -> None:
    golden("fold_pad.ir", f"{run_passes(causal(), 'fold_pad,dce')}\n")


def test_a_padding_of_both_ends_alike_leaves_no_slice() -> None:
    assert not run_passes(causal("2, 2"), "fold_pad,dce").of("slice")


@pytest.mark.parametrize(
    "ir",
    [causal(mode="circular"), causal(value=1.0), causal(extra="output padded = %pad")],
    ids=["another mode", "no zeros", "read elsewhere"],
)
def test_another_padding_stays(ir: BlueprintIR) -> None:
    assert run_passes(ir, "fold_pad") == ir


def test_zeros_for_samples_and_channels_stay() -> None:
    build = Builder("channels")
    x = build.op("pad", a_map(build, 2, (8,)), pad=(0, 0, 1, 1))
    ir = build.finish({"y": convolved(build, x, 3, {"kernel": 3, "padding": 0})})
    assert run_passes(ir, "fold_pad") == ir


def test_padding_twice_is_padding_once() -> None:
    build = Builder("twice")
    x = a_map(build, 2, (symbol("S"),))
    x = build.op("pad", build.op("pad", x, pad=(2, 0)), pad=(1, 1))
    ir = build.finish({"y": convolved(build, x, 3, {"kernel": 3, "padding": 0})})
    after = run_passes(ir, "fold_pad,dce")
    assert not after.of("pad")
    require_same_training(ir, after)


def test_the_wavenet_block_pads_nothing() -> None:
    assert not run_passes(lower("wavenet_block"), "expand,fold_pad,dce").of("pad")


# --- split_concat ---


@st.composite
def joined(draw: st.DrawFn) -> BlueprintIR:
    build = Builder("joined")
    widths = draw(st.lists(st.integers(1, 3), min_size=2, max_size=3))
    if draw(st.booleans()):
        sizes = (symbol("S"),) * draw(st.integers(1, 2))
        parts = [a_map(build, width, sizes, f"x{index}") for index, width in enumerate(widths)]
        x = build.op("concat", *parts, axis=draw(st.sampled_from([1, -1 - len(sizes)])))
        return build.finish({"y": build.op("gelu", convolved(build, x, 3, draw(geometries())))})
    lead = (symbol("N"), 2)[: draw(st.integers(1, 2))]
    parts = [
        build.input(f"x{index}", TensorType(DType.F32, (*lead, width))) for index, width in enumerate(widths)
    ]
    x = build.op("concat", *parts, axis=-1)
    transposed = draw(st.booleans())
    shape = (3, sum(widths)) if transposed else (sum(widths), 3)
    weight = build.param("w", TensorType(DType.F32, shape))
    return build.finish({"y": build.op("gelu", build.op("matmul", x, weight, transpose_b=transposed))})


@EXAMPLES
@given(ir=joined())
def test_a_product_of_what_is_joined_is_a_sum_of_products(ir: BlueprintIR) -> None:
    after = run_passes(ir, "split_concat,dce")
    assert not after.of("concat")
    require_same_training(ir, after)


def test_what_is_joined_of_what_is_joined_is_split_as_a_whole() -> None:
    build = Builder("nested")
    a, b, c = (a_map(build, width, (8,), name) for name, width in (("a", 1), ("b", 2), ("c", 3)))
    x = build.op("concat", build.op("concat", a, b, axis=1), c, axis=1)
    ir = build.finish({"y": convolved(build, x, 2, {"kernel": 3, "padding": 1})})
    after = run_passes(ir, "split_concat,dce")
    assert len(after.of("convolution")) == 3 and not after.of("concat")
    require_same_training(ir, after)


JOINED = """
blueprint j {{
  %x = input() : f32[2, {axes}]
  %z = input() : f32[2, {axes}]
  %w = param() {{init="normal", fan_in=8, gain=1.0}} : f32[{weight}]
  %joined = concat(%x, %z) {{axis={axis}}} : f32[{joined}]
  {line}
  output y = %y
  {extra}
}}
"""
LINE = "%y = convolution(%joined, %w) {{stride=1, padding=0, dilation=1, groups={0}}} : f32[{1}]"
MAPS = {
    "axes": "4, 6",
    "weight": "2, 8, 1",
    "axis": 1,
    "joined": "2, 8, 6",
    "line": LINE.format(1, "2, 2, 6"),
}


def test_two_maps_side_by_side(golden: Callable[[str, str], None]) -> None:
    ir = BlueprintIR.from_text(JOINED.format(**MAPS, extra=""))
    golden("split_concat.ir", f"{run_passes(ir, 'split_concat,dce')}\n")


@pytest.mark.parametrize(
    "text",
    [
        JOINED.format(**MAPS, extra="output joined = %joined"),
        JOINED.format(**{**MAPS, "weight": "2, 4, 1", "line": LINE.format(2, "2, 2, 6")}, extra=""),
        JOINED.format(
            **{
                **MAPS,
                "weight": "2, 4, 1",
                "axis": 0,
                "joined": "4, 4, 6",
                "line": LINE.format(1, "4, 2, 6"),
            },
            extra="",
        ),
    ],
    ids=["read elsewhere", "groups", "joined along the batch"],
)
def test_other_joins_stay(text: str) -> None:
    ir = BlueprintIR.from_text(text)
    assert run_passes(ir, "split_concat") == ir


@pytest.mark.parametrize("name", ["residual_dense", "unet_up", "inception_block"])
def test_the_librarys_joins_before_convolutions_are_split(name: str) -> None:
    before = run_passes(lower(name))
    after = run_passes(before, "split_concat,dce")
    assert not after.of("concat") and set(after.params) == set(before.params)
