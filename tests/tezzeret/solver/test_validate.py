"""Violations name the rule, its kind, and the nodes that are the cause."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esper.ir.graph import BlueprintIR
from esper.ir.operator import OPERATORS, Leaf
from esper.ir.types import DType
from esper.lang import lower
from esper.testing.strategies import blueprint_irs
from esper.tezzeret.constraints import Constraint
from esper.tezzeret.costs import quantities
from esper.tezzeret.costs.figures import QUANTITIES
from esper.tezzeret.errors import UnknownQuantity, UnknownTarget
from esper.tezzeret.solver import Digits, Hardware, Stable, Without, parse_rule, validate
from esper.tezzeret.solver.errors import MalformedRule
from esper.tezzeret.solver.stability import instabilities
from esper.urza import errors as urza

SOME = ("norm", "conv_block", "film", "attention_layer", "squeeze_excite")
FEW = settings(max_examples=max(settings().max_examples // 10, 10))


@pytest.fixture(scope="module")
def mlp() -> BlueprintIR:
    return lower("mlp_block", features=64)


def block(folder: Path, body: str, type: str = "f32[N, 128]") -> BlueprintIR:
    path = folder / "block.esp"
    path.write_text(f"blueprint block() {{\n    input x: {type}\n    output {body}\n}}\n")
    return lower(path)


@given(name=st.sampled_from(SOME), quantity=st.sampled_from(QUANTITIES), share=st.floats(0.1, 1.9))
@FEW
def test_a_bound_is_violated_exactly_where_the_figure_is_beyond_it(
    name: str, quantity: str, share: float
) -> None:
    ir = lower(name)
    found = getattr(quantities(ir), quantity)
    rule = Constraint(quantity, "<=", found * share)
    violations = validate(ir, [rule])
    assert bool(violations) == (found > rule.bound)
    for violation in violations:
        assert violation.kind == "performance" and violation.excess == rule.excess(found)
        assert all(name in ir for name in violation.nodes)


def test_a_bound_on_a_sum_is_broken_by_the_fewest_nodes_that_would_make_up_for_it(mlp: BlueprintIR) -> None:
    (violation,) = validate(mlp, [parse_rule("params<=20000")])
    # Either layer holds about half of some 33,000 parameters.
    assert violation.nodes == ("linear",) and "33,216" in violation.reason
    (violation,) = validate(mlp, [parse_rule("params<=100")])
    assert violation.nodes[:2] == ("linear", "linear_2") and violation.excess == pytest.approx(331.16)


def test_a_lower_bound_names_no_node(mlp: BlueprintIR) -> None:
    (violation,) = validate(mlp, [parse_rule("flops>=1e15")])
    assert violation.nodes == ()


def test_latency_is_that_of_the_target_that_the_bound_names(mlp: BlueprintIR) -> None:
    slow, fast = (Constraint("latency_ms", "<=", 1e-9, target) for target in ("sm_80", "sm_90"))
    first, second = validate(mlp, [slow, fast])
    assert first.excess > second.excess and first.nodes
    with pytest.raises(UnknownTarget):
        validate(mlp, [Constraint("latency_ms", "<=", 1.0, "sm_1")])


@given(ir=blueprint_irs(), bound=st.integers(0, 12))
@FEW
def test_structure_is_bounded_as_it_is_counted(ir: BlueprintIR, bound: int) -> None:
    rules = [Constraint(name, "<=", bound) for name in ("depth", "nodes")]
    broken = {violation.rule.quantity: violation for violation in validate(ir, rules)}  # type: ignore[union-attr]
    assert ("nodes" in broken) == (len(ir.nodes) > bound)
    if "nodes" in broken:
        assert len(broken["nodes"].nodes) == len(ir.nodes) - bound
    if "depth" in broken:
        chain = broken["depth"].nodes
        assert len(chain) > bound
        for before, after in pairwise(chain):
            assert before in {value.node for value in ir.node(after).operands if value is not None}
            assert not isinstance(OPERATORS[ir.node(before).op].lowering, Leaf)


def test_width_names_the_node_at_which_most_lives() -> None:
    (violation,) = validate(lower("inception_block"), [parse_rule("width<=2")])
    assert violation.kind == "structural" and len(violation.nodes) == 1


def test_float64_has_no_kernels_on_any_gpu(tmp_path: Path) -> None:
    wide = block(tmp_path, "relu(x)", "f64[N, 4]")
    (violation,) = validate(wide, [Hardware("sm_90")])
    assert violation.kind == "hardware" and violation.nodes == ("x", "relu")
    assert validate(lower("norm"), [Hardware("sm_90")]) == []


def test_products_by_tf32_are_named_where_the_target_has_none(mlp: BlueprintIR) -> None:
    (violation,) = validate(mlp, [Hardware("gfx942", "tf32x3")])
    assert violation.nodes == ("linear", "linear_2")
    assert validate(mlp, [Hardware("gfx942"), Hardware("sm_80", "tf32x3")]) == []
    assert validate(lower("mlp_block", precision="bf16"), [Hardware("gfx942", "tf32x3")]) == []


def test_an_operator_is_found_inside_what_stands_for_it() -> None:
    (violation,) = validate(lower("gru_layer"), [Without("scan")])
    assert violation.nodes == ("gru",)
    assert validate(lower("norm"), [Without("scan")]) == []


def test_digits_are_those_of_what_an_operator_reads_and_makes() -> None:
    narrow = lower("mlp_block", features=64, precision="bf16")
    (violation,) = validate(narrow, [Digits("gelu", DType.F32)])
    assert violation.nodes == ("gelu",) and violation.kind == "numerical"
    assert validate(narrow, [Digits("gelu", DType.BF16), Digits("relu", DType.F64)]) == []
    # float16 has more digits than bfloat16, and fewer than float32.
    assert validate(narrow, [Digits("gelu", DType.F16)])


@pytest.mark.parametrize(
    ("body", "is_stable"),
    [
        ("exp(x)", False),
        ("exp(x - amax(x, axes=[1], keepdims=true))", True),
        ("exp(amax(x, axes=[1], keepdims=true) - x)", False),
        ("exp(x - amax(x * 2, axes=[1], keepdims=true))", False),
        ("exp(tanh(x) * 80)", True),
        ("exp(tanh(x) * 90)", False),
        ("exp(clamp(x, -1, 88))", True),
        ("exp(-square(x))", True),
        ("log(x)", False),
        ("log(softplus(x) + 0.001)", True),
        ("x / (abs(x) + 1)", True),
        ("x / abs(x)", False),
        ("rsqrt(square(x))", False),
        ("rsqrt(square(x) + 0.00001)", True),
        ("sqrt(x)", False),
        ("sqrt(relu(x))", True),
        ("softmax(x)", True),
        ("layer_norm(x)", True),
        ("mean(x, axes=[0])", True),
    ],
)
def test_a_graph_is_stable_where_intervals_keep_it_from_overflow(
    tmp_path: Path, body: str, is_stable: bool
) -> None:
    assert (validate(block(tmp_path, body), [Stable()]) == []) == is_stable


@pytest.mark.parametrize(
    ("body", "type", "is_stable"),
    [
        ("sum(x, axes=[1])", "f16[N, 128]", False),
        ("sum(x, axes=[1])", "f32[N, 128]", True),
        ("sum(x, axes=[1])", "bf16[N, 128]", True),
        ("sum(x, axes=[1])", "f16[N, 16]", True),
        ("sum(sigmoid(x), axes=[1])", "f16[N, 128]", True),
        ("mean(x, axes=[1])", "f16[N, 128]", True),
        ("square(x)", "f16[N, 8]", False),
        ("square(sigmoid(x))", "f16[N, 8]", True),
        ("exp(relu6(x) * 2)", "f16[N, 8]", False),
        ("exp(relu6(x) * 2)", "f32[N, 8]", True),
    ],
)
def test_float16_overflows_where_float32_does_not(
    tmp_path: Path, body: str, type: str, is_stable: bool
) -> None:
    assert (validate(block(tmp_path, body, type), [Stable()]) == []) == is_stable


def test_an_instability_tells_the_bound_that_is_missing(tmp_path: Path) -> None:
    (found,) = instabilities(block(tmp_path, "exp(x)"), {"N": 4})
    assert found.node == "exp" and f"{math.log(3.4028235e38):.4g}" in found.reason


@pytest.mark.parametrize(
    "text", ["depth<=12", "params<=20000", "on sm_90", "on gfx942 with tf32x3", "without scan", "stable"]
)
def test_a_rule_is_written_as_it_is_read(text: str) -> None:
    assert parse_rule(str(parse_rule(text))) == parse_rule(text)


def test_what_is_no_rule_is_refused_with_a_way_out() -> None:
    with pytest.raises(MalformedRule) as malformed:
        parse_rule("be small")
    assert "depth<=12" in malformed.value.help_text
    with pytest.raises(MalformedRule, match="softmx") as malformed:
        parse_rule("softmx in f32")
    assert malformed.value.help_text == "did you mean `softmax`?"
    with pytest.raises(UnknownQuantity) as unknown:
        parse_rule("dept<=3")
    assert unknown.value.help_text == "did you mean `depth`?"
    with pytest.raises(urza.UnknownTarget):
        parse_rule("on sm_1")
