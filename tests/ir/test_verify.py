"""The verifier: for each rule, a graph that breaks it alone, and the words that say so."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from esper.errors import EsperError
from esper.ir import BlueprintIR, DType, Node, TensorType, Value, symbol, verify
from esper.ir.errors import InvalidGraph, InvalidNode, UnknownIROperator
from esper.ir.graph import frozen_attrs
from esper.ir.operator import Attrs
from esper.testing import blueprint_irs
from esper.testing.changes import CHANGES, changed

ROWS = TensorType(DType.F32, (symbol("N"), 4))
VECTOR = ROWS.with_shape((4,))
NONE: Attrs = frozen_attrs({})
X = Node("x", "input", (), NONE, (ROWS,))
EXP = Node("e", "exp", (Value("x"),), NONE, (ROWS,))
BUFFER = Node("b", "buffer", (), frozen_attrs({"init": "zeros"}), (ROWS,))
SEED = Node("s", "seed", (), NONE, (TensorType(DType.I64),))


def graph(
    *nodes: Node, output: str = "x", index: int = 0, updates: tuple[tuple[str, Value], ...] = ()
) -> BlueprintIR:
    return BlueprintIR("b", nodes, (("y", Value(output, index)),), updates)


@pytest.mark.parametrize(
    ("ir", "kind", "reason"),
    [
        (graph(X, EXP.replace(op="expp")), UnknownIROperator, "`expp` is not in the operator table"),
        (graph(X, X), InvalidNode, "the name is taken"),
        (graph(X, EXP.replace(name="1")), InvalidNode, "the name is not letters"),
        (graph(EXP, X), InvalidNode, "reads `x`, which no earlier node defines"),
        (graph(X, EXP.replace(operands=(Value("x", 1),))), InvalidNode, "reads result 1 of `x`"),
        (graph(X, EXP.replace(operands=())), InvalidNode, "takes 1 operands, found 0"),
        (graph(X, EXP.replace(operands=(None,))), InvalidNode, "operand `x` is missing"),
        (graph(X.replace(operands=(Value("x"),))), InvalidNode, "no earlier node"),
        (graph(SEED, X.replace(operands=(Value("s"),))), InvalidNode, "takes no operands"),
        (graph(X, EXP.replace(types=())), InvalidNode, "has 1 results"),
        (graph(X, EXP.replace(types=(VECTOR,))), InvalidNode, "declares f32.4., its operator gives"),
        (graph(X, EXP.replace(attrs=frozen_attrs({"a": 1}))), InvalidNode, "`exp` has no attribute `a`"),
        (graph(X, BUFFER.replace(attrs=NONE)), InvalidNode, "needs the attribute `init`"),
        (graph(X, BUFFER.replace(attrs=frozen_attrs({"init": 1}))), InvalidNode, "not a string of zeros"),
        (graph(X.replace(types=(ROWS.with_shape((-1,)),))), InvalidNode, "below 1"),
        (graph(X, output="z"), InvalidGraph, "result `y` is %z, which no node defines"),
        (graph(X, index=1), InvalidGraph, "result `y` is %x#1"),
        (graph(X, updates=(("x", Value("x")),)), InvalidGraph, "the update of `x` names no buffer"),
        (graph(X, BUFFER.replace(types=(VECTOR,)), updates=(("b", Value("x")),)), InvalidGraph, "not f32.4"),
        (graph(X, BUFFER, updates=(("b", Value("x")),) * 2), InvalidGraph, "two updates of one buffer"),
        (graph(X, SEED, SEED.replace(name="t")), InvalidGraph, "two seeds"),
        (graph(X).replace(outputs=[]), InvalidGraph, "no output"),
        (graph(X).replace(outputs=[("y", Value("x"))] * 2), InvalidGraph, "two outputs share a name"),
        (graph(X).replace(outputs=[("y z", Value("x"))]), InvalidGraph, "`y z` is not a name"),
        (graph(X).replace(name="b c"), InvalidGraph, "`b c` is not a name"),
    ],
)  # fmt: skip
def test_a_broken_rule_is_named(ir: BlueprintIR, kind: type[EsperError], reason: str) -> None:
    with pytest.raises(kind, match=reason):
        verify(ir)


def test_the_graphs_above_are_valid_but_for_their_fault() -> None:
    verify(graph(X, EXP, BUFFER, SEED, output="e", updates=(("b", Value("e")),)))


def test_an_axis_is_never_empty() -> None:
    with pytest.raises(InvalidNode, match="below 1"):
        verify(graph(X.replace(types=(ROWS.with_shape((0,)),))))


@given(blueprint_irs(), st.data())
def test_dropping_a_node_that_is_read_is_noticed(ir: BlueprintIR, data: st.DataObject) -> None:
    read = [node for node in ir.nodes if ir.users(node.name)]
    if read:
        gone = data.draw(st.sampled_from(read))
        with pytest.raises(EsperError):
            verify(ir.replace(nodes=[node for node in ir.nodes if node is not gone]))


@given(blueprint_irs(), st.data())
def test_a_type_that_the_operator_does_not_give_is_noticed(ir: BlueprintIR, data: st.DataObject) -> None:
    computed = [node for node in ir.nodes if node.operands]
    if computed:
        node = data.draw(st.sampled_from(computed))
        types = tuple(type.with_shape((*type.shape, 7)) for type in node.types)
        with pytest.raises(InvalidNode):
            verify(ir.replace(nodes=[node.replace(types=types) if n is node else n for n in ir.nodes]))


@given(blueprint_irs(), st.sampled_from(sorted(CHANGES)), st.integers(0, 99))
def test_what_a_graph_shares_with_a_verified_one_hides_no_fault(
    ir: BlueprintIR, kind: str, seed: int
) -> None:
    other = changed(ir, kind, seed)
    assume(other is not None)
    assert other is not None
    verify(ir)
    assert verdict(other.replace(), ir) == verdict(other.replace(), None)


def verdict(ir: BlueprintIR, made_of: BlueprintIR | None) -> str:
    """What the verifier says, or nothing."""
    try:
        verify(ir, made_of)
    except EsperError as error:
        return f"{error.code}: {error}"
    return ""


def test_a_graph_that_was_refused_vouches_for_none_of_its_nodes() -> None:
    node = Node("y", "relu", (Value("x"),), NONE, (VECTOR,))
    broken = BlueprintIR("broken", (X, node), (("y", node.result()),))
    for made_of in (None, broken):
        with pytest.raises(InvalidNode, match="`y`: declares"):
            verify(broken.replace(name="again"), made_of)
