"""Graphs that the type rules or the verifier refuse, since no operator means anything by them."""

from __future__ import annotations

import copy
import pickle

import pytest

import esper.ops  # noqa: F401  (fills the operator table)
from esper.ir import BlueprintIR, Builder, DType, TensorType, symbol
from esper.ir.errors import InvalidGraph, InvalidNode, TypeRuleViolated


def _read(*lines: str) -> BlueprintIR:
    return BlueprintIR.from_text("blueprint b {\n" + "\n".join(lines) + "\n}")


PARTS = "%g = input() : f64[2, 3, 2, 2]"
EMPTY = "%y = adaptive_avg_pool_backward(%g) {shape=[2, 3, 0, 0], size=2} : f64[2, 3, 0, 0]"
X, Y = "%x = input() : f32[2, 3]", "output y = %y"


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["%y = constant() {value=0.5} : i32[]", Y], "0.5 is no i32"),
        (["%y = constant() {value=2.0} : bool[]", Y], "2 is no bool"),
        (["%y = constant() {value=inf} : i32[]", Y], "inf is no i32"),
        (["%y = constant() {value=3e9} : i32[]", Y], "3e.09 is no i32"),
        (["%y = constant() {value=1.0} : f32[3]", Y], "a constant is a scalar"),
        (["%y = seed() : f32[3]", Y], "the seed is an"),
        (["%y = input() : f32[0, 3]", Y], "below 1"),
        (["%y = input() : f32[inf, 4]", Y], "`inf` is a number"),
        ([X, "%y = permute(%x) {axes=[N, N]} : f32[3, 2]", Y], "`axes` holds a size"),
        ([X, "%y = sum(%x) {axes=[1, N], keepdims=false} : f32[2]", Y], "`axes` holds a size"),
        ([PARTS, EMPTY, Y], "below 1"),
        (['%y = param() {init="zeros", fan_in=0, gain=1.0} : f32[2]', Y], "`fan_in` is 0"),
        (['%y = param() {init="zeros", fan_in=1, gain=inf} : f32[2]', Y], "`gain`"),
        ([X, "%y = leaky_relu(%x) {negative_slope=inf} : f32[2, 3]", Y], "`negative_slope`"),
        ([X, "%y = rms_norm(%x, _) {eps=-1.0} : f32[2, 3], f32[2, 1]", Y], "`eps`"),
        ([X, "%y = rms_norm(%x, _) {eps=0.0} : f32[2, 3], f32[2, 1]", Y], "`eps`"),
    ],
)
def test_a_node_that_means_nothing_is_refused(lines: list[str], reason: str) -> None:
    with pytest.raises(InvalidNode, match=reason):
        _read(*lines)


def test_an_output_may_not_have_the_name_of_an_updated_buffer() -> None:
    with pytest.raises(InvalidGraph, match="the output `b` has the name of an updated buffer"):
        _read(
            "%x = input() : f32[2]",
            '%b = buffer() {init="zeros"} : f32[2]',
            "%d = add(%b, %x) : f32[2]",
            "output b = %x",
            "update b = %d",
        )


@pytest.mark.parametrize(
    ("op", "dtypes"),
    [("div", (DType.I64, DType.I64)), ("div", (DType.BOOL, DType.BOOL)), ("sub", (DType.BOOL, DType.BOOL))],
)
def test_arithmetic_of_dtypes_that_it_would_change_is_refused(op: str, dtypes: tuple[DType, DType]) -> None:
    build = Builder("b")
    x, y = (build.input(name, TensorType(dtype, (3,))) for name, dtype in zip("xy", dtypes, strict=True))
    with pytest.raises(TypeRuleViolated):
        build.op(op, x, y)


@pytest.mark.parametrize("op", ["add", "mul", "maximum"])
def test_a_number_that_an_integer_cannot_hold_is_refused(op: str) -> None:
    build = Builder("b")
    x = build.input("x", TensorType(DType.I64, (3,)))
    with pytest.raises(TypeRuleViolated, match=r"0\.5 is no i64: cast the tensor"):
        build.op(op, x, 0.5)
    assert build.type(build.op(op, x, 2.0)).dtype is DType.I64


def test_a_result_without_elements_is_refused() -> None:
    build = Builder("b")
    x = build.input("x", TensorType(DType.F32, (4, 3)))
    with pytest.raises(TypeRuleViolated, match="a size is at least 1"):
        build.op("broadcast_to", x, shape=(0, 4, 3))


@pytest.mark.parametrize("op", ["group_norm", "channel_shuffle"])
def test_channels_that_are_not_known_to_divide_are_refused(op: str) -> None:
    build = Builder("b")
    x = build.input("x", TensorType(DType.F32, (2, symbol("C"), 5)))
    with pytest.raises(TypeRuleViolated, match="C"):
        build.op(op, x, *(None, None) if op == "group_norm" else (), groups=3)


def _pair() -> BlueprintIR:
    build = Builder("pair")
    x = build.input("x", TensorType(DType.F32, (symbol("N"), 4)))
    return build.finish({"y": build.op("mul", x, 0.5), "z": build.op("sum", x, axes=(1,))})


def test_a_graph_is_a_value_that_can_be_copied_hashed_and_sent_elsewhere() -> None:
    ir = _pair()
    for other in (pickle.loads(pickle.dumps(ir)), copy.deepcopy(ir), copy.copy(ir)):
        assert other == ir and hash(other) == hash(ir) and str(other) == str(ir)


def test_graphs_that_print_differently_are_not_equal() -> None:
    build = Builder("zeros")
    ir = build.finish({"y": build.constant(0.0)})
    (node,) = ir.of("constant")
    negative = ir.replace(nodes=[node.replace(attrs={"value": -0.0})])
    assert negative != ir
    assert node.replace(attrs={"value": 0.0}) == node
