"""Text, JSON and networkx: each form reads back to the graph it was made from."""

from __future__ import annotations

import json

import networkx as nx
import pytest
from hypothesis import given

from esper.errors import Span
from esper.ir import BlueprintIR, Builder, DType, TensorType, symbol
from esper.ir.errors import MalformedIR
from esper.passes import joint_graph
from esper.testing import blueprint_irs

ROWS = TensorType(DType.F32, (symbol("N"), 4))


@given(blueprint_irs())
def test_text_reads_back(ir: BlueprintIR) -> None:
    assert BlueprintIR.from_text(str(ir)) == ir


@given(blueprint_irs())
def test_json_reads_back(ir: BlueprintIR) -> None:
    assert BlueprintIR.from_json(ir.to_json()) == ir


@given(blueprint_irs())
def test_json_is_strict_json_on_one_line(ir: BlueprintIR) -> None:
    text = ir.to_json()
    assert "\n" not in text
    assert json.loads(text)["schema_version"] == 1


@given(blueprint_irs())
def test_networkx_reads_back(ir: BlueprintIR) -> None:
    assert BlueprintIR.from_networkx(ir.graph) == ir


@given(blueprint_irs(differentiable=True, max_nodes=4))
def test_joint_graphs_read_back(ir: BlueprintIR) -> None:
    joint = joint_graph(ir)
    assert BlueprintIR.from_text(str(joint)) == joint
    assert BlueprintIR.from_json(joint.to_json()) == joint


@given(blueprint_irs())
def test_an_edge_says_which_result_is_which_operand(ir: BlueprintIR) -> None:
    edges = sorted((s, t, d["result"], d["operand"]) for s, t, d in ir.graph.edges(data=True))
    assert edges == sorted(
        (value.node, node.name, value.index, position)
        for node in ir.nodes
        for position, value in enumerate(node.operands)
        if value is not None
    )


def test_json_keeps_spans() -> None:
    build = Builder("b")
    span = Span("a.esp", 3, 1, 3, 9)
    ir = build.finish({"y": build.op("exp", build.input("x", ROWS), span=span)})
    assert BlueprintIR.from_json(ir.to_json()).node("exp").span == span


@pytest.mark.parametrize("value", [1e-05, -0.0, float("inf"), float("-inf"), 3.0, 1e300, 5e-324])
def test_every_constant_but_nan_reads_back(value: float) -> None:
    build = Builder("b")
    ir = build.finish({"y": build.op("mul", build.input("x", ROWS), value)})
    for again in (BlueprintIR.from_text(str(ir)), BlueprintIR.from_json(ir.to_json())):
        assert str(again.node("constant").attrs["value"]) == str(value)


def test_a_second_result_reads_back() -> None:
    build = Builder("b")
    results = build.ops("layer_norm", build.input("x", ROWS), None, None)
    ir = build.finish({"y": build.op("neg", results[1]), "s": results[2]})
    assert "%layer_norm#2" in str(ir)
    assert BlueprintIR.from_text(str(ir)) == ir


def test_comments_and_layout_do_not_count() -> None:
    text = "blueprint b{ # a comment\n%x=input():f32[N,4]#no result\n #\noutput y=%x}"
    assert str(BlueprintIR.from_text(text)) == "blueprint b {\n  %x = input() : f32[N, 4]\n  output y = %x\n}"


def test_the_networkx_view_is_frozen() -> None:
    build = Builder("b")
    graph = build.finish({"y": build.input("x", ROWS)}).graph
    with pytest.raises(nx.NetworkXError):
        graph.add_node("z")


def _copy(ir: BlueprintIR) -> nx.MultiDiGraph[str]:
    return nx.MultiDiGraph(ir.graph)


def test_a_cycle_in_a_networkx_graph_is_refused() -> None:
    build = Builder("b")
    graph = _copy(build.finish({"y": build.op("exp", build.input("x", ROWS))}))
    graph.add_edge("exp", "exp", result=0, operand=0)
    with pytest.raises(MalformedIR, match="cycle"):
        BlueprintIR.from_networkx(graph)


def test_an_edge_without_its_numbers_is_refused() -> None:
    build = Builder("b")
    graph = _copy(build.finish({"y": build.op("exp", build.input("x", ROWS))}))
    graph.add_edge("x", "exp")
    with pytest.raises(MalformedIR, match="result"):
        BlueprintIR.from_networkx(graph)


def test_a_key_that_stands_twice_in_json_is_refused() -> None:
    build = Builder("b")
    text = build.finish({"y": build.input("x", ROWS)}).to_json()
    with pytest.raises(MalformedIR, match="the key `op` is given twice"):
        BlueprintIR.from_json(text.replace('"op": "input"', '"op": "exp", "op": "input"'))


def test_a_syntax_error_in_a_type_is_told_at_its_place() -> None:
    with pytest.raises(MalformedIR) as caught:
        BlueprintIR.from_text("blueprint b {\n  %x = input() : f32[2,\n N N]\n  output y = %x\n}")
    assert caught.value.place == (3, 4)
