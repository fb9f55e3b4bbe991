"""`scan`: what a loop means, its gradient by a reverse loop, and what its type rule refuses."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from esper.ir import BlueprintIR, Builder, DType, TensorType, Value, symbol, verify
from esper.ir.dims import evaluate_size
from esper.ir.errors import TypeRuleViolated
from esper.ir.graph import Node
from esper.ir.operator import OPERATORS, AttrValue, Site
from esper.ops.reference.evaluate import bind_sizes, evaluate
from esper.ops.reference.scan import scan
from esper.ops.scan import Layout
from esper.passes import Law, joint_graph, partition, run_passes
from esper.passes.errors import NotDifferentiable
from esper.testing import blueprint_irs, random_values
from esper.testing.laws import require_gradients, require_law, run
from esper.testing.variants import renamed
from esper.urza.eager.torch_tier import call, graph_module

ROW = TensorType(DType.F64, (4,))


def scans(max_nodes: int = 1) -> st.SearchStrategy[BlueprintIR]:
    return blueprint_irs(operators=["scan"], max_nodes=max_nodes)


def with_all_results(ir: BlueprintIR) -> BlueprintIR:
    return ir.replace(
        outputs=[(f"{node.name}.{value.index}", value) for node in ir.of("scan") for value in node.results]
    )


def unrolled(node: Node, operands: list[torch.Tensor], sizes: dict[str, int]) -> list[torch.Tensor]:
    """What a scan means, by its body evaluated as a graph of its own once a step."""
    layout = Layout.of(node.attrs)
    body = layout.body
    shown = {}  # sizes that no input of the body shows
    for name, size in sizes.items():
        if TensorType(DType.F32, (symbol(name),)) not in [entry.type for entry in body.inputs]:
            more = Node(f"size.{name}", "input", (), {}, (TensorType(DType.F32, (symbol(name),)),))
            body = body.replace(nodes=[*body.nodes, more])
            shown[more.name] = torch.zeros(size)
    state, sequences = operands[: layout.carries], operands[layout.carries : layout.constants]
    steps = range(sequences[0].shape[layout.axis(sequences[0].ndim - 1)])
    yielded: dict[int, list[torch.Tensor]] = {}
    for step in reversed(steps) if node.attrs["reverse"] else steps:
        slices = [sequence.select(layout.axis(sequence.ndim - 1), step) for sequence in sequences]
        given = [*state, *slices, *operands[layout.constants :]]
        inputs = dict(zip((entry.name for entry in layout.body.inputs), given, strict=True))
        inputs |= shown
        found = [evaluate(body, inputs, {})[name] for name, _ in body.outputs]
        before, state = state, found[: layout.carries]
        yielded[step] = [*found[layout.carries :], *(before if node.attrs["histories"] else [])]
    stacked = zip(*(yielded[step] for step in steps), strict=True)
    return [*state, *(torch.stack(rows, layout.axis(rows[0].ndim)) for rows in stacked)]


@given(scans())
def test_a_scan_is_its_body_once_a_step(ir: BlueprintIR) -> None:
    values = random_values(ir)
    (node,) = ir.of("scan")
    outputs = [(f"r{index}", value) for index, value in enumerate(node.results)]
    outputs += [(f"o{index}", value) for index, value in enumerate(node.operands) if value is not None]
    found = run(ir.replace(outputs=outputs), values)
    operands = [found[f"o{index}"] for index in range(len(node.operands))]
    sizes = bind_sizes(ir, {key: tuple(tensor.shape) for key, tensor in values.inputs.items()})
    for index, expected in enumerate(unrolled(node, operands, sizes)):
        torch.testing.assert_close(found[f"r{index}"], expected, rtol=0, atol=0, equal_nan=True)


@given(scans(max_nodes=3))
def test_gradients_pass_through_every_result(ir: BlueprintIR) -> None:
    ir = with_all_results(ir)
    require_gradients(ir, joint_graph(ir), random_values(ir))


@settings(max_examples=60)
@given(scans(max_nodes=1))
def test_a_gradient_is_differentiated_again(ir: BlueprintIR) -> None:
    first = renamed(joint_graph(with_all_results(run_passes(ir))))
    try:
        second = joint_graph(first)
    except NotDifferentiable:
        return  # an operator of the body has a first derivative only
    require_gradients(first, second, random_values(first))


@given(scans(max_nodes=3))
def test_passes_work_in_bodies_by_their_laws(ir: BlueprintIR) -> None:
    ir = with_all_results(ir)
    require_law(
        Law.REAL_EQUAL, ir, run_passes(ir, "expand,decompose,canonicalize,fold,cse,dce"), random_values(ir)
    )


@settings(max_examples=60)
@given(scans(max_nodes=2))
def test_the_torch_tier_runs_scans_and_their_gradients(ir: BlueprintIR) -> None:
    """To the bit, but for operators that the tier runs by another of torch's kernels."""
    joint = joint_graph(ir)
    values = random_values(joint)
    expected = run(joint, values)
    found = call(graph_module(joint), joint, {**values.inputs, **values.weights})
    tolerance = 0.02 if has_fast_path(joint) else 0.0
    for name, result in zip([name for name, _ in joint.outputs], found, strict=True):
        finite = expected[name][expected[name].isfinite()]
        most = finite.double().abs().max().item() if finite.numel() else 0.0
        torch.testing.assert_close(result, expected[name], rtol=0, atol=tolerance * most, equal_nan=True)


def has_fast_path(ir: BlueprintIR) -> bool:
    """Whether an operator of `ir` or of a body has a reference for its first result alone."""
    own = any(OPERATORS[node.op].first_result_reference is not None for node in ir.nodes)
    return own or any(has_fast_path(body) for node in ir.nodes for _, body in node.bodies)


def decaying_sum(steps: int | None = None, reverse: bool = False) -> BlueprintIR:
    """Sums over x: f64[T, 4]: `h = h * decay + x`; results are the last h and every h."""
    step = Builder("step")
    h, x, decay = (step.input(name, ROW) for name in ("h", "x", "decay"))
    after = step.op("add", step.op("mul", h, decay), x)
    body = step.finish({"h": after, "y": after})
    build = Builder("decaying_sum")
    rows = build.input("x", ROW.with_shape((symbol("T") if steps is None else steps, 4)))
    start, decay = build.input("start", ROW), build.param("decay", ROW)
    last, every = build.ops("scan", start, rows, decay, body=body, carries=1, sequences=1, reverse=reverse)
    return build.finish({"last": last, "every": every})


def test_a_running_sum_runs_forwards_and_backwards() -> None:
    given = {"x": torch.ones(3, 4, dtype=torch.float64), "start": torch.zeros(4, dtype=torch.float64)}
    decay = {"decay": torch.full((4,), 0.5, dtype=torch.float64)}
    for reverse, expected in ((False, [1.0, 1.5, 1.75]), (True, [1.75, 1.5, 1.0])):
        found = evaluate(decaying_sum(reverse=reverse), given, decay)
        assert found["every"][:, 0].tolist() == expected
        assert found["last"].tolist() == [1.75] * 4


def test_a_carry_that_is_a_constant_on_another_device_is_moved_without_being_spread_out() -> None:
    found: list[torch.Tensor] = []

    def step(h: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        found.append(h)
        return (x,)

    start = torch.zeros(()).broadcast_to(3, 4)
    rows = torch.empty(2, 3, 4, device="meta")
    last = scan(start, rows, body=step, carries=1, sequences=1, reverse=False, along=0, histories=False)
    assert isinstance(last, torch.Tensor)
    assert (found[0].device.type, found[0].shape, found[0].stride()) == ("meta", (3, 4), (0, 0))


def test_a_thousand_steps_and_their_gradients_are_no_deeper_than_one() -> None:
    ir = decaying_sum()
    values = random_values(ir, sizes={"T": 1000})
    values.weights["decay"].fill_(0.9)
    require_gradients(ir, joint_graph(ir), values)


def test_the_graph_does_not_grow_with_the_steps() -> None:
    assert joint_graph(decaying_sum(2)).size == joint_graph(decaying_sum(1000)).size


def test_what_is_saved_is_the_carries_before_each_step() -> None:
    build = Builder("b")
    step = Builder("step")
    h, x = (step.input(name, ROW) for name in ("h", "x"))
    body = step.finish({"h": step.op("tanh", step.op("mul", step.op("exp", h), x))})
    rows = build.input("x", ROW.with_shape((symbol("T"), 4)))
    ir = build.finish({"y": build.op("scan", build.input("h", ROW), rows, body=body, carries=1, sequences=1)})
    assert [str(entry.type) for entry in partition(joint_graph(ir)).saved] == ["f64[T, 4]"]


def test_gradients_that_nobody_asks_for_are_not_computed() -> None:
    """A loop whose sequence alone has a gradient carries no sums of constants' gradients."""
    joint = joint_graph(decaying_sum(), wrt=("x",))
    forward, backward = joint.of("scan")
    assert forward.attrs["histories"] is False
    assert backward.attrs["carries"] == 1
    assert backward.attrs["reverse"] is True
    joint = joint_graph(decaying_sum(), wrt=("decay",))
    forward, backward = joint.of("scan")
    assert forward.attrs["histories"] is True
    assert (backward.attrs["carries"], len(backward.types)) == (2, 2)


def recurrence(along: int) -> BlueprintIR:
    """`h = tanh(h W + x + b)` over x: f64[T, N, 4] or f64[N, T, 4], and a doubled weight beside it."""
    state = TensorType(DType.F64, (symbol("N"), 4))
    matrix = TensorType(DType.F64, (4, 4))
    step = Builder("step")
    h, x, w, b = (step.input(n, t) for n, t in (("h", state), ("x", state), ("w", matrix), ("b", ROW)))
    squared = step.op("mul", w, w)
    more = step.op("add", step.op("matmul", h, w), step.op("matmul", x, squared))
    after = step.op("tanh", step.op("add", step.op("add", more, x), b))
    body = step.finish({"h": after, "y": after})
    build = Builder("recurrence")
    rows = build.input("x", state.with_shape((symbol("T"), symbol("N"), 4)))
    if along:
        rows = build.op("permute", rows, axes=(1, 0, 2))
    operands = (build.input("start", state), rows, build.param("w", matrix), build.param("b", ROW))
    last, every = build.ops("scan", *operands, body=body, carries=1, sequences=1, along=along)
    return build.finish({"last": last, "every": every})


@pytest.mark.parametrize("along", [0, 1])
def test_gradients_that_one_operator_sums_over_all_steps_are_no_carries(along: int) -> None:
    """The bias's, and of the weight's the product with the state; the square's must be carried."""
    ir = recurrence(along)
    joint = joint_graph(ir)
    _, backward = joint.of("scan")
    (body,) = (body for _, body in backward.bodies)
    carried = [node.name for node in body.inputs[: int(str(backward.attrs["carries"]))]]
    assert carried == ["d.h", "d.w"]
    assert not body.of("sum")
    assert len([node for node in joint.of("matmul") if node.attrs["transpose_a"]]) == 1
    require_gradients(ir, joint, random_values(ir))


def test_additions_of_a_value_to_itself_are_not_taken_apart() -> None:
    """A gradient that doubles forty times is the sum of 2^40 terms."""
    step = Builder("step")
    h, x = (step.input(name, ROW.with_shape((3, 4))) for name in ("h", "x"))
    b = step.input("b", ROW)
    y = step.op("add", step.op("mul", h, x), b)
    for _ in range(40):
        y = step.op("add", y, y)
    y = step.op("mul", y, 2.0**-40)
    body = step.finish({"h": y})
    build = Builder("b")
    rows = build.input("x", ROW.with_shape((2, 3, 4)))
    operands = (build.input("h", ROW.with_shape((3, 4))), rows, build.param("b", ROW))
    ir = build.finish({"y": build.op("scan", *operands, body=body, carries=1, sequences=1)})
    require_gradients(ir, joint_graph(ir), random_values(ir))


def test_a_scan_that_no_gradient_passes_yields_no_histories() -> None:
    build = Builder("b")
    step = Builder("step")
    h, x = (step.input(name, TensorType(DType.I64)) for name in ("h", "x"))
    body = step.finish({"h": step.op("add", h, x)})
    start, rows = build.input("h", TensorType(DType.I64)), build.input("x", TensorType(DType.I64, (3,)))
    count = build.op("scan", start, rows, body=body, carries=1, sequences=1)
    y = build.op("mul", build.op("cast", count, dtype=DType.F64), build.input("z", ROW))
    joint = run_passes(build.finish({"y": y}), "autodiff")
    assert [node.attrs["histories"] for node in joint.of("scan")] == [False]


def test_an_operator_without_a_gradient_in_a_body_is_named() -> None:
    step = Builder("step")
    x = step.input("x", TensorType(DType.F32, (4,)))
    y = step.op("relu_backward", x, x)
    body = step.finish({"y": y})
    build = Builder("b")
    rows = build.input("x", TensorType(DType.F32, (3, 4)))
    ir = build.finish({"y": build.op("scan", rows, body=body, carries=0, sequences=1)})
    with pytest.raises(NotDifferentiable, match="node `relu_backward`"):
        joint_graph(ir)


def test_a_scan_costs_its_body_once_a_step() -> None:
    ir = decaying_sum(7)
    (node,) = ir.of("scan")
    types = tuple(ir.type(value) for value in node.operands if value is not None)
    entry = OPERATORS["scan"]
    assert entry.cost is not None
    assert evaluate_size(entry.cost(Site(entry, types, node.attrs, node.types)).flops, {}) == 7 * 4 * 2


def test_equal_scans_are_one_whatever_their_bodies_call_their_nodes() -> None:
    ir = decaying_sum()
    (node,) = ir.of("scan")
    again = renamed(ir).of("scan")[0]
    twin = node.replace(name="twin", attrs={**node.attrs, "body": again.attrs["body"]})
    both = ir.replace(nodes=[*ir.nodes, twin], outputs=[*ir.outputs, ("twin", Value("twin", 1))])
    verify(both.replace(nodes=[*ir.nodes, twin.replace(attrs=node.attrs)]))
    assert len(run_passes(both, "cse,dce").of("scan")) == 1


def body(inputs: list[str], outputs: list[str]) -> BlueprintIR:
    """A body that yields its inputs `outputs`."""
    build = Builder("step")
    for index, text in enumerate(inputs):
        build.input(f"i{index}", TensorType(DType.F32, tuple(int(c) for c in text)))
    return build.finish({f"y{index}": Value(name) for index, name in enumerate(outputs)})


Case = tuple[list[tuple[int, ...]], BlueprintIR, dict[str, AttrValue], str]
REFUSED: list[Case] = [
    ([(3, 4)], body(["4"], ["i0"]), {"carries": -1}, "carries is -1, expected at least 0"),
    ([(3, 4)], body(["4"], ["i0"]), {"sequences": 0}, "sequences is 0, expected at least 1"),
    ([(3, 4)], body(["4"], ["i0"]), {"sequences": 2}, "takes 0 carries and 2 sequences, found 1 operands"),
    ([(3, 4)], body(["4", "4"], ["i0"]), {}, "`step` has 2 inputs, found 1 operands"),
    (
        [(3, 4), (4,)],
        body(["4", "4"], ["i0"]),
        {"sequences": 2},
        "operand 1 is f32[4], operand 0 has 3 steps",
    ),
    ([()], body([""], ["i0"]), {}, "operand 0 is f32[], a sequence has at least one axis"),
    ([(0, 4)], body(["4"], ["i0"]), {}, "operand 0 is f32[0, 4], expected at least one step"),
    ([(3, 4)], body(["5"], ["i0"]), {}, "`i0` of `step` is f32[5], a slice of operand 0 is f32[4]"),
    (
        [(5,), (3, 4)],
        body(["4", "4"], ["i0"]),
        {"carries": 1},
        "`i0` of `step` is f32[4], operand 0 is f32[5]",
    ),
    (
        [(5,), (3, 4)],
        body(["5", "4"], ["i1"]),
        {"carries": 1},
        "`y0` of `step` is f32[4], expected f32[5], as the next `i0`",
    ),
    ([(4,), (4,), (3, 4)], body(["4", "4", "4"], ["i0"]), {"carries": 2}, "1 outputs, fewer than 2 carries"),
]


@pytest.mark.parametrize(("shapes", "step", "attrs", "expected"), REFUSED, ids=[case[3] for case in REFUSED])
def test_a_scan_that_does_not_fit_its_body_is_refused(
    shapes: list[tuple[int, ...]], step: BlueprintIR, attrs: dict[str, AttrValue], expected: str
) -> None:
    build = Builder("b")
    operands = [build.input(f"x{index}", TensorType(DType.F32, shape)) for index, shape in enumerate(shapes)]
    given: dict[str, AttrValue] = {"carries": 0, "sequences": 1, "body": step, **attrs}
    with pytest.raises(TypeRuleViolated) as raised:
        build.ops("scan", *operands, name=None, span=None, **given)
    assert expected in str(raised.value)
