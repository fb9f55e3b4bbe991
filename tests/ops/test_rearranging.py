"""Slices, joins and shorthands for views are torch's, from a blueprint's source, gradients included."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from esper.ir import TensorType, parse_type
from esper.ir.build import complete_attrs, infer_types
from esper.ir.errors import TypeRuleViolated
from esper.ir.operator import OPERATORS, AttrValue
from esper.lang import BlueprintRejected, lower
from esper.ops.reference.evaluate import evaluate, reference
from esper.ops.reference.slicing import SliceOutOfRange, slice_axes
from esper.passes import joint_graph, run_passes
from esper.testing.laws import REAL_TOLERANCE
from esper.urza.compiler import make_programs
from esper.urza.eager.torch_tier import call, graph_module
from esper.urza.verify.verification import verify_programs

CALLS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "slice(x, axes=1, start=1)": lambda x: x[:, 1:],
    "slice(x, axes=-1, start=-3, stop=-1)": lambda x: x[..., -3:-1],
    "slice(x, axes=[2, 0], start=[1, 0], stop=[6, 1], step=[2, 1])": lambda x: x[:1, :, 1:6:2],
    "slice(x, axes=1, stop=T - 1)": lambda x: x[:, :-1],
    "slice(x, axes=1, step=2)": lambda x: x[:, ::2],
    "flip(x, axes=[0, -1])": lambda x: x.flip(0, -1),
    "roll(x, shifts=[1, -2], axes=[1, 2])": lambda x: x.roll((1, -2), (1, 2)),
    "x |> concat(x * 2, x, axis=-1)": lambda x: torch.cat([x, x * 2, x], -1),
    "concat(x)": lambda x: x,
    "concat(slice(x, axes=1, start=1), x, axis=1)": lambda x: torch.cat([x[:, 1:], x], 1),
    "stack(x, x * 2, axis=-1)": lambda x: torch.stack([x, x * 2], -1),
    "chunk(x, chunks=3, index=-1)": lambda x: x.chunk(3, -1)[-1],
    "unsqueeze(x, -1) |> squeeze(3)": lambda x: x,
    "unsqueeze(x, 1)": lambda x: x.unsqueeze(1),
    "flatten(x)": lambda x: x.flatten(),
    "flatten(x, start=1)": lambda x: x.flatten(1),
    "transpose(x)": lambda x: x.mT,
    "transpose(x, 0, -1)": lambda x: x.transpose(0, -1),
    "tile(x, [2, 1, 3])": lambda x: x.tile(2, 1, 3),
    "tile(x, [2, 1, 1, 2])": lambda x: x.tile(2, 1, 1, 2),
    "repeat_interleave(x, 3, axis=1)": lambda x: x.repeat_interleave(3, 1),
    "glu(x)": F.glu,
    "swiglu(x, axis=2)": lambda x: x[..., :3] * F.silu(x[..., 3:]),
    "reglu(x)": lambda x: x[..., :3] * F.relu(x[..., 3:]),
    "geglu(x)": lambda x: x[..., :3] * F.gelu(x[..., 3:]),
}


def blueprint(folder: Path, expression: str) -> Path:
    path = folder / "net.esp"
    path.write_text(f"blueprint net() {{\n    input x: f32[N, T, 6]\n    output y = {expression}\n}}\n")
    return path


@pytest.mark.parametrize("expression", CALLS)
def test_a_call_and_its_gradient_are_torchs(expression: str, tmp_path: Path) -> None:
    ir = lower(blueprint(tmp_path, expression))
    x = torch.randn(2, 5, 6, dtype=torch.float64, requires_grad=True)
    y = CALLS[expression](x)
    g = torch.randn_like(y)
    (dx,) = torch.autograd.grad(y, x, g)
    with torch.no_grad():
        found = evaluate(joint_graph(ir), {"x": x, "grad.y": g}, {}, dtype=torch.float64)
    torch.testing.assert_close(found["y"], y, rtol=REAL_TOLERANCE, atol=REAL_TOLERANCE)
    torch.testing.assert_close(found["grad.x"], dx, rtol=REAL_TOLERANCE, atol=REAL_TOLERANCE)


@pytest.mark.parametrize("expression", CALLS)
def test_the_torch_tier_reads_the_sizes_of_a_call_from_its_input(expression: str, tmp_path: Path) -> None:
    ir = run_passes(lower(blueprint(tmp_path, expression)))
    module = graph_module(ir)
    for batch, length in ((1, 2), (3, 7)):
        x = torch.randn(batch, length, 6)
        torch.testing.assert_close(call(module, ir, {"x": x})[0], CALLS[expression](x))


def test_the_kernels_around_slices_and_joins_are_right(tmp_path: Path) -> None:
    expression = "concat(relu(swiglu(x)), roll(slice(x, axes=2, start=1, stop=4), 1, 1), axis=1) * 2"
    found = verify_programs(make_programs(lower(blueprint(tmp_path, expression))), sizes={"T": 3})
    assert found.ok
    assert found.outside == ()


@given(st.data())
def test_a_slice_and_its_gradient_are_each_others_transpose(data: st.DataObject) -> None:
    """`<slice(x), g> = <x, slice_backward(g)>`, for Python's slices with positive steps."""
    size = data.draw(st.integers(1, 9))
    start = data.draw(st.integers(0, size - 1))
    stop = data.draw(st.integers(start + 1, size))
    step = data.draw(st.integers(1, 4))
    given_start = start - size if data.draw(st.booleans()) else start
    attrs: dict[str, AttrValue] = {
        "axes": (0,), "start": (given_start,), "stop": (stop,), "step": (step,)
    }  # fmt: skip
    (type,) = infer("slice", [f"f64[{size}]"], attrs)
    count = len(range(start, stop, step))
    assert type.shape == (count,)
    x, g = torch.arange(1.0, size + 1).double(), torch.arange(1.0, count + 1).double() * 7
    part = apply("slice", x, **attrs)
    back = apply("slice_backward", g, shape=(size,), **attrs)
    assert torch.equal(part, x[start:stop:step])
    assert torch.dot(part, g) == torch.dot(x, back)


def test_a_join_of_parts_is_the_whole(tmp_path: Path) -> None:
    parts = ", ".join(f"chunk(x, chunks=3, index={index}, axis=2)" for index in range(3))
    ir = lower(blueprint(tmp_path, f"concat({parts}, axis=2)"))
    x = torch.randn(2, 3, 6)
    assert torch.equal(evaluate(ir, {"x": x}, {})["y"], x)


def test_a_slice_that_the_sizes_at_run_time_leave_empty_is_an_error(tmp_path: Path) -> None:
    ir = lower(blueprint(tmp_path, "slice(x, axes=1, start=2)"))
    with pytest.raises(SliceOutOfRange, match="2 to 2 is no part of axis 1"):
        evaluate(ir, {"x": torch.zeros(1, 2, 6)}, {})
    with pytest.raises(SliceOutOfRange):
        slice_axes(torch.zeros(3), axes=(0,), start=(1,), stop=(4,), step=())


RESULTS: list[tuple[str, list[str], dict[str, AttrValue], str]] = [
    ("slice", ["f32[N, T]"], {"axes": (1,), "start": (1,), "step": (2,)}, "f32[N, T//2]"),
    ("slice", ["f32[N, T]"], {"axes": (-1,), "start": (-1,)}, "f32[N, 1]"),
    ("slice", ["bool[8, 4]"], {"axes": (0, 1), "stop": (-2, 3)}, "bool[6, 3]"),
    ("concat", ["f32[N, T]", "f32[N, 3]"], {"axis": 1}, "f32[N, T + 3]"),
    ("stack", ["i64[N, T]", "i64[N, T]"], {"axis": 1}, "i64[N, 2, T]"),
    ("flatten", ["f32[N, 2, T]"], {"start": 1}, "f32[N, 2*T]"),
    ("tile", ["f32[N]"], {"repeats": (3, 2)}, "f32[3, 2*N]"),
    ("chunk", ["f32[N, 2*C]"], {"chunks": 2, "index": 0}, "f32[N, C]"),
    ("glu", ["f32[N, 2*C]"], {}, "f32[N, C]"),
]


@pytest.mark.parametrize(("operator", "types", "attrs", "expected"), RESULTS)
def test_sizes_follow_the_symbols(
    operator: str, types: list[str], attrs: dict[str, AttrValue], expected: str
) -> None:
    assert [str(type) for type in infer(operator, types, attrs)] == [expected]


REFUSED: list[tuple[str, list[str], dict[str, AttrValue], str]] = [
    ("slice", ["f32[8]"], {"axes": (1,)}, "`axes` has 1, which is no axis of f32[8]"),
    ("slice", ["f32[8, 8]"], {"axes": (1, -1)}, "`axes` is [1, -1], which names an axis of f32[8, 8] twice"),
    ("slice", ["f32[8]"], {"axes": (0,), "start": (5,), "stop": (5,)}, "5 to 5 is no part of axis 0"),
    ("slice", ["f32[8]"], {"axes": (0,), "stop": (9,)}, "expected 0 <= start < stop <= 8"),
    ("slice", ["f32[8]"], {"axes": (0,), "start": (-9,)}, "-1 to 8 is no part of axis 0 of f32[8]"),
    ("slice", ["f32[N]"], {"axes": (0,), "start": (-1,), "stop": (-1,)}, "is no part of axis 0 of f32[N]"),
    ("slice", ["f32[8]"], {"axes": (0,), "step": (0,)}, "`step` is [0], expected integers of at least 1"),
    ("slice", ["f32[8, 8]"], {"axes": (0, 1), "start": (1,)}, "`start` has 1 values and `axes` has 2"),
    ("slice_backward", ["f32[4]"], {"shape": (8,), "axes": (0,), "stop": (3,)}, "`g` is f32[4], expected"),
    ("roll", ["f32[8]"], {"shifts": (1, 2), "axes": (0,)}, "`shifts` has 2 values and `axes` has 1"),
    ("flip", ["f32[8]"], {"axes": (3,)}, "`axes` has 3, which is no axis of f32[8]"),
    ("concat", ["f32[8]", "bf16[8]"], {}, "found f32[8] and bf16[8] in `tensors`: the dtypes differ"),
    ("concat", ["f32[8, 2]", "f32[8, 3]"], {}, "they differ beside axis 0"),
    ("concat", ["f32[8, 2]", "f32[8]"], {}, "they differ beside axis 0"),
    ("concat", ["f32[]"], {}, "`axis` is 0, which is no axis of f32[]"),
    ("stack", ["f32[8]", "f32[4]"], {}, "found f32[8] and f32[4] in `tensors`, expected equal shapes"),
    ("squeeze", ["f32[8, N]"], {"axes": (1,)}, "axis 1 of f32[8, N] is N, expected 1"),
    ("unsqueeze", ["f32[8]"], {"axis": 2}, "`axis` is 2, which is no axis of f32[8, 1]"),
    ("flatten", ["f32[8, 4]"], {"start": 1, "end": 0}, "`start` is axis 1 and `end` is axis 0"),
    ("tile", ["f32[8, 4]"], {"repeats": (2,)}, "`repeats` has 1 values, expected one for each axis"),
    ("tile", ["f32[8]"], {"repeats": (0,)}, "`repeats` is [0], expected at least 1"),
    ("repeat_interleave", ["f32[8]"], {"repeats": 0, "axis": 0}, "`repeats` is [0], expected at least 1"),
    ("chunk", ["f32[8]"], {"chunks": 3, "index": 0}, "axis 0 of f32[8] is 8, not divisible by chunks = 3"),
    ("chunk", ["f32[8]"], {"chunks": 2, "index": 2}, "`index` is 2, expected 0 to 1 for chunks = 2"),
    ("chunk", ["f32[8]"], {"chunks": 0, "index": 0}, "`chunks` is 0, expected at least 1"),
    ("glu", ["f32[7]"], {}, "axis 0 of f32[7] is 7, expected two halves"),
    ("swiglu", ["i64[8]"], {}, "expected a floating dtype"),
]  # fmt: skip


@pytest.mark.parametrize(("operator", "types", "attrs", "message"), REFUSED)
def test_what_is_refused_and_how(
    operator: str, types: list[str], attrs: dict[str, AttrValue], message: str
) -> None:
    with pytest.raises(TypeRuleViolated) as caught:
        infer(operator, types, attrs)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("concat(x, x, 2)", "`tensors` of `concat` is the integer 2, expected a tensor"),
        ("concat()", "the operand `tensors` is missing"),
        ("concat(x, tensors=x)", "the argument `tensors` of `concat` is given twice"),
        ("concat(x, x, axis=3)", "`axis` is 3, which is no axis of"),
    ],
)
def test_what_a_join_in_a_source_may_not_be(expression: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(BlueprintRejected) as caught:
        lower(blueprint(tmp_path, expression))
    assert message in str(caught.value)


def infer(operator: str, types: list[str], attrs: dict[str, AttrValue]) -> tuple[TensorType, ...]:
    entry = OPERATORS[operator]
    return infer_types(entry, [parse_type(t) for t in types], complete_attrs(entry, attrs, node=operator))


def apply(operator: str, x: torch.Tensor, **attrs: AttrValue) -> torch.Tensor:
    path = OPERATORS[operator].reference
    assert path is not None
    found = reference(path)(x, **attrs)
    assert isinstance(found, torch.Tensor)
    return found
