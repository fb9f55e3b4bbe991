"""Building: names, defaults, constants, spans, and what is refused."""

from __future__ import annotations

import pytest

from esper.errors import Span
from esper.ir import Builder, DType, TensorType, Value, symbol
from esper.ir.errors import InvalidNode, TypeRuleViolated, UnknownIROperator

ROWS = TensorType(DType.F32, (symbol("N"), 4))
SPAN = Span("a.esp", 1, 2, 1, 5)


@pytest.fixture
def build() -> Builder:
    return Builder("b")


def test_a_second_node_of_an_operator_is_numbered(build: Builder) -> None:
    x = build.input("x", ROWS)
    assert [build.op("exp", x).node for _ in range(3)] == ["exp", "exp_2", "exp_3"]


def test_a_fresh_name_is_neither_taken_nor_reserved() -> None:
    build = Builder("b", reserved=["exp", "exp_2"])
    assert build.op("exp", build.input("x", ROWS)).node == "exp_3"


def test_a_reserved_name_may_be_used_by_name() -> None:
    build = Builder("b", reserved=["exp"])
    assert build.op("exp", build.input("x", ROWS), name="exp").node == "exp"


def test_nodes_in_a_scope_bear_its_name_and_span(build: Builder) -> None:
    x = build.input("x", ROWS)
    build.scope = build.node(build.op("neg", x, name="layer", span=SPAN).node)
    node = build.node(build.op("exp", x).node)
    assert (node.name, node.span) == ("layer.exp", SPAN)


def test_a_number_becomes_a_constant_of_the_other_operands_dtype(build: Builder) -> None:
    x = build.input("x", ROWS.with_dtype(DType.BF16))
    build.op("mul", x, 2.0)
    assert str(build.node("constant").type) == "bf16[]"


def test_a_number_beside_a_condition_takes_the_dtype_of_the_branch(build: Builder) -> None:
    x, condition = build.input("x", ROWS), build.input("c", ROWS.with_dtype(DType.BOOL))
    assert build.type(build.op("where", condition, x, 0.0)) == ROWS


def test_attributes_left_out_have_their_defaults(build: Builder) -> None:
    x = build.input("x", ROWS)
    node = build.node(build.op("sum", x, axes=(1,)).node)
    assert dict(node.attrs) == {"axes": (1,), "keepdims": False}


def test_there_is_one_seed(build: Builder) -> None:
    assert build.seed() == build.seed()


@pytest.mark.parametrize(
    ("shape", "expected"), [((4,), "sum"), ((1, 4), "reshape"), ((), "sum"), ((symbol("N"), 4), "input")]
)
def test_sum_to_undoes_a_broadcast(build: Builder, shape: tuple[int, ...], expected: str) -> None:
    value = build.sum_to(build.input("x", ROWS), shape)
    assert build.type(value).shape == shape
    assert build.node(value.node).op == expected


def test_an_attribute_that_must_be_given_is_asked_for(build: Builder) -> None:
    with pytest.raises(InvalidNode, match="`sum` needs the attribute `axes`"):
        build.op("sum", build.input("x", ROWS))


def test_an_unknown_attribute_is_refused(build: Builder) -> None:
    with pytest.raises(InvalidNode, match="`exp` has no attribute `speed`"):
        build.op("exp", build.input("x", ROWS), speed=1)


def test_an_unknown_operator_is_refused_where_it_stands(build: Builder) -> None:
    with pytest.raises(UnknownIROperator) as raised:
        build.op("expp", build.input("x", ROWS), span=SPAN)
    assert raised.value.span == SPAN


def test_a_broken_type_rule_is_reported_where_it_stands(build: Builder) -> None:
    x, y = build.input("x", ROWS), build.input("y", ROWS.with_shape((3,)))
    with pytest.raises(TypeRuleViolated, match="do not broadcast") as raised:
        build.op("add", x, y, span=SPAN)
    assert raised.value.span == SPAN


def test_too_few_operands_are_counted(build: Builder) -> None:
    with pytest.raises(TypeRuleViolated, match="takes 2 operands, found 1"):
        build.op("add", build.input("x", ROWS))


def test_an_operand_that_may_not_be_absent_is_named(build: Builder) -> None:
    with pytest.raises(TypeRuleViolated, match="the operand `y` is missing"):
        build.op("add", build.input("x", ROWS), None)


@pytest.mark.parametrize("name", ["x", "a b", "", "1a", "a-b", "a.b.", "a\n", "é"])
def test_a_name_that_is_taken_or_none_is_refused(build: Builder, name: str) -> None:
    x = build.input("x", ROWS)
    with pytest.raises(InvalidNode):
        build.op("exp", x, name=name)


def test_results_are_values_of_one_node(build: Builder) -> None:
    x = build.input("x", ROWS)
    assert build.ops("layer_norm", x, None, None) == tuple(Value("layer_norm", index) for index in range(3))
