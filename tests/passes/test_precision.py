"""precision: what runs narrow, what stays, and that nothing else of the graph changes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings

from esper.ir import OPERATORS, BlueprintIR, Builder, DType, TensorType, symbol
from esper.lang import library, lower
from esper.passes import Law, joint_graph, run_passes
from esper.passes.precision import BY_LOWERING, BY_NAME, STATISTICS, Need, Precision, need_of
from esper.testing import blueprint_irs, random_values
from esper.testing.laws import require_law

LAW = settings.get_profile("law")
LIBRARY = [entry.name for entry in library()]
PRODUCTS = sorted(name for name, entry in OPERATORS.items() if need_of(entry) is Need.NARROW)


def dtypes(ir: BlueprintIR, op: str) -> list[DType]:
    return [node.type.dtype for node in ir.of(op)]


def reads_f32(ir: BlueprintIR, op: str) -> bool:
    """Whether some node of `op` reads float32, beside its statistics."""
    return any(
        value is not None
        and ir.type(value).dtype is DType.F32
        and OPERATORS[op].input_of(index).name not in STATISTICS.get(op, ())
        for node in ir.of(op)
        for index, value in enumerate(node.operands)
    )


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_every_operator_has_a_rule(name: str) -> None:
    assert need_of(OPERATORS[name]) in Need


def test_the_table_names_operators_and_their_operands_only() -> None:
    assert set(BY_NAME) <= set(OPERATORS)
    for name, kept in STATISTICS.items():
        assert set(kept) <= {entry.name for entry in OPERATORS[name].inputs}
    assert {type(entry.lowering) for entry in OPERATORS.values()} <= set(BY_LOWERING)


@pytest.mark.parametrize("name", ["layer_norm", "softmax", "log_softmax", "exp", "log", "div", "scan"])
def test_norms_softmax_and_what_magnifies_errors_stay(name: str) -> None:
    assert need_of(OPERATORS[name]) is Need.WIDE


@pytest.mark.parametrize("dtype", [DType.BF16, DType.F16])
@pytest.mark.parametrize("form", ["as written", "expanded", "joint"])
@pytest.mark.parametrize("name", LIBRARY)
def test_every_product_of_the_library_runs_narrow(name: str, form: str, dtype: DType) -> None:
    ir = lower(name)
    if form != "as written":
        ir = run_passes(ir, "expand") if form == "expanded" else joint_graph(ir)
    after = run_passes(ir, [Precision(dtype)])
    if form != "as written" or not ir.of("multi_head_attention"):  # its products come with `expand`
        assert any(after.of(op) for op in PRODUCTS) and after != ir
    assert not any(reads_f32(after, op) for op in PRODUCTS)
    assert after.inputs == ir.inputs and after.params == ir.params and after.buffers == ir.buffers
    for op in ("layer_norm", "rms_norm", "batch_norm", "group_norm", "softmax", "scan"):
        assert after.of(op) == () or not any(dtype in {t.dtype for t in node.types} for node in after.of(op))
    by_name = {node.name for node in ir.nodes}
    assert {node.op for node in after.nodes if node.name not in by_name} <= {"cast", "constant"}
    assert Precision(dtype).run(after) == after


def mixed(*lines: str, outputs: str = "output y = %y") -> BlueprintIR:
    """A product, `lines` that make `%m` of its result `%a`, a product of that, and the output."""
    head = """
    %x = input() : f32[N, 4]
    %w = param() {init="normal", fan_in=4, gain=1.0} : f32[4, 4]
    %a = matmul(%x, %w) {transpose_a=false, transpose_b=false} : f32[N, 4]"""
    tail = "%y = matmul(%m, %w) {transpose_a=false, transpose_b=false} : f32[N, 4]"
    return BlueprintIR.from_text("\n".join(["blueprint b {", head, *lines, tail, outputs, "}"]))


@pytest.mark.parametrize("line", ["%m = gelu(%a) : f32[N, 4]", "%m = mul(%a, %a) : f32[N, 4]"])
def test_between_products_a_pointwise_operator_runs_narrow(line: str) -> None:
    after = run_passes(mixed(line), "precision")
    assert after.node("m").type.dtype is DType.BF16
    assert len(after.of("cast")) == 3  # x, w and the output


def test_a_weight_is_cast_once() -> None:
    after = run_passes(mixed("%m = gelu(%a) : f32[N, 4]"), "precision")
    assert [node.name for node in after.of("cast") if node.operands[0] == after.node("w").result()] == [
        "w.bf16"
    ]


@pytest.mark.parametrize(
    "line",
    [
        "%m = softmax(%a) {axis=-1} : f32[N, 4]",
        "%m = exp(%a) : f32[N, 4]",
        "%m = add(%a, %x) : f32[N, 4]",
    ],
    ids=["softmax", "exp", "a sum with what came in"],
)
def test_what_needs_its_digits_stays_between_products(line: str) -> None:
    after = run_passes(mixed(line), "precision")
    assert after.node("m").type.dtype is DType.F32
    assert dtypes(after, "matmul") == [DType.BF16, DType.BF16]


def test_a_product_that_is_kept_stays_and_so_does_what_follows_it() -> None:
    ir = mixed("%m = gelu(%a) : f32[N, 4]")
    after = run_passes(ir, "precision{keep=[a]}")
    assert dtypes(after, "matmul") == [DType.F32, DType.BF16]
    assert after.node("m").type.dtype is DType.F32
    assert run_passes(after, "precision{keep=[a]}") == after


def test_what_no_product_reads_stays() -> None:
    ir = mixed("%m = gelu(%a) : f32[N, 4]", "%z = neg(%m) : f32[N, 4]", outputs="output z = %z")
    assert run_passes(run_passes(ir, "dce"), "precision").node("m").type.dtype is DType.F32


@pytest.mark.parametrize(("limit", "dtype"), [(4, DType.BF16), (3, DType.F32)])
def test_a_sum_runs_narrow_up_to_a_number_of_elements(limit: int, dtype: DType) -> None:
    ir = mixed(
        "%s = sum(%a) {axes=[1], keepdims=true} : f32[N, 1]",
        "%m = broadcast_to(%s) {shape=[N, 4]} : f32[N, 4]",
    )
    after = run_passes(ir, [Precision(longest_sum=limit)])
    assert after.node("s").type.dtype is dtype


def test_a_sum_over_a_symbolic_number_of_elements_stays() -> None:
    ir = mixed(
        "%s = sum(%a) {axes=[0], keepdims=true} : f32[1, 4]",
        "%m = broadcast_to(%s) {shape=[N, 4]} : f32[N, 4]",
    )
    assert run_passes(ir, "precision").node("s").type.dtype is DType.F32


@pytest.mark.parametrize(("value", "dtype"), [("0.5", DType.F16), ("1e6", DType.F32), ("1e-7", DType.F32)])
def test_a_constant_that_the_dtype_cannot_hold_keeps_its_reader_wide(value: str, dtype: DType) -> None:
    ir = mixed(f"%c = constant() {{value={value}}} : f32[]", "%m = mul(%a, %c) : f32[N, 4]")
    assert run_passes(ir, "precision{dtype=f16}").node("m").type.dtype is dtype


@pytest.mark.parametrize("dtype", [DType.F64, DType.F32])
def test_a_dtype_that_is_not_narrow_changes_nothing(dtype: DType) -> None:
    ir = mixed("%m = gelu(%a) : f32[N, 4]")
    assert run_passes(ir, [Precision(dtype)]) == ir


@pytest.mark.parametrize("dtype", [DType.F64, DType.F16, DType.BF16])
def test_other_dtypes_are_left_alone(dtype: DType) -> None:
    build = Builder("b")
    x = build.input("x", TensorType(dtype, (symbol("N"), 4)))
    w = build.param("w", TensorType(dtype, (4, 4)))
    ir = build.finish({"y": build.op("gelu", build.op("matmul", x, w))})
    assert run_passes(ir, "precision") == ir


def test_attention_keeps_its_statistics() -> None:
    joint = joint_graph(lower("attention"))
    after = run_passes(joint, "precision")
    (backward,) = after.of("scaled_dot_product_attention_backward")
    names = (entry.name for entry in OPERATORS[backward.op].inputs)
    found = {
        name: value and after.type(value).dtype for name, value in zip(names, backward.operands, strict=True)
    }
    assert found["logsumexp"] is DType.F32
    assert {found[name] for name in ("q", "k", "v", "result", "g")} == {DType.BF16}


def test_the_body_of_a_loop_stays_float32() -> None:
    build = Builder("b")
    x = build.input("x", TensorType(DType.F32, (symbol("N"), 3, 4)))
    weights = [build.param(f"w{i}", TensorType(DType.F32, (12, 4))) for i in range(2)]
    biases = [build.param(f"b{i}", TensorType(DType.F32, (12,))) for i in range(2)]
    ir = build.finish({"y": build.op("gru", x, *weights, *biases)})
    expanded = run_passes(ir, "expand")
    after = run_passes(expanded, "precision")
    assert after.of("scan")[0].attrs == expanded.of("scan")[0].attrs


def test_a_graph_in_mixed_precision(golden: Callable[[str, str], None]) -> None:
    ir = mixed(
        '%b = param() {init="zeros", fan_in=1, gain=1.0} : f32[4]',
        "%s = add(%a, %b) : f32[N, 4]",
        "%h = gelu(%s) : f32[N, 4]",
        "%p = softmax(%h) {axis=-1} : f32[N, 4]",
        "%m = mul(%h, %s) : f32[N, 4]",
        outputs="output y = %y\noutput p = %p",
    )
    golden("precision.ir", f"{run_passes(ir, 'precision')}\n")


SAMPLED = [*PRODUCTS, "gelu", "mul", "add", "softmax", "permute", "sum", "gelu_backward"]
TRAINED = [name for name in SAMPLED if not name.endswith(("_backward", "_grad"))]


@settings(LAW, max_examples=60)
@given(ir=blueprint_irs(operators=SAMPLED, dtypes=(DType.F32,), symbolic=False))
def test_graphs_of_products_keep_the_law(ir: BlueprintIR) -> None:
    for dtype in (DType.BF16, DType.F16):
        after = run_passes(ir, [Precision(dtype)])
        require_law(Law.TOLERANCE, ir, after, random_values(ir))
        assert not any(reads_f32(after, op) for op in PRODUCTS)
        assert Precision(dtype).run(after) == after


@settings(LAW, max_examples=60)
@given(ir=blueprint_irs(operators=TRAINED, dtypes=(DType.F32,)))
def test_joint_graphs_of_products_keep_the_law(ir: BlueprintIR) -> None:
    joint = joint_graph(ir)
    after = run_passes(joint, "precision")
    require_law(Law.TOLERANCE, joint, after, random_values(joint))
    assert not any(reads_f32(after, op) for op in PRODUCTS)
