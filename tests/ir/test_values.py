"""A graph is a value: nothing changes it, a copy with changes shares its nodes, and networkx can read it."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any

import networkx as nx
import pytest
from hypothesis import given

from esper.ir import BlueprintIR, Builder, Value, verify
from esper.ir.graph import Node
from esper.ir.rewrite import needed_by, rewrite
from esper.passes import PASSES, run_passes
from esper.testing import blueprint_irs


@given(blueprint_irs(max_nodes=4))
def test_no_part_of_a_graph_can_be_assigned(ir: BlueprintIR) -> None:
    node = ir.nodes[-1]
    parts: list[tuple[Any, str]] = [(ir, "nodes"), (ir, "outputs"), (node, "op"), (node.result(), "index"),
                                    (node.type, "shape")]  # fmt: skip
    for owner, field in parts:
        with pytest.raises((FrozenInstanceError, AttributeError)):
            setattr(owner, field, None)
    attrs: Any = node.attrs
    with pytest.raises(TypeError):
        attrs["added"] = 1
    with pytest.raises(nx.NetworkXError):
        ir.graph.remove_node(node.name)
    assert all(
        isinstance(part, tuple) for part in (ir.nodes, ir.outputs, ir.updates, node.operands, node.types)
    )


@given(blueprint_irs(max_nodes=4))
def test_a_copy_with_changes_shares_the_nodes_and_leaves_the_first_alone(ir: BlueprintIR) -> None:
    before = (str(ir), ir.hash)
    other = ir.replace(name="other")
    assert other.nodes is ir.nodes and other.outputs is ir.outputs
    dropped = ir.replace(outputs=ir.outputs[:1])
    assert dropped.nodes is ir.nodes
    assert (str(ir), ir.hash) == before


@given(blueprint_irs(max_nodes=4))
def test_no_pass_changes_its_argument(ir: BlueprintIR) -> None:
    text = str(ir)
    for name in PASSES:
        if name != "autodiff":
            run_passes(ir, name)
            assert str(ir) == text


@given(blueprint_irs())
def test_the_view_is_an_acyclic_graph_that_networkx_algorithms_take(ir: BlueprintIR) -> None:
    graph = ir.graph
    assert nx.is_directed_acyclic_graph(graph)
    assert set(nx.topological_sort(graph)) == {node.name for node in ir.nodes}
    last = ir.outputs[0][1].node
    assert nx.ancestors(graph, last) | {last} == needed_by(ir, [last])
    assert BlueprintIR.from_networkx(nx.MultiDiGraph(graph)) == ir


@given(blueprint_irs())
def test_no_rewrite_that_replaces_nodes_by_earlier_values_leaves_an_edge_open(ir: BlueprintIR) -> None:
    """Each node becomes the first value of its type, where there is one: readers and results follow."""

    def rule(build: Builder, node: Node) -> list[Value] | None:
        earlier = {build.type(value): value for n in reversed(build.nodes) for value in n.results}
        replaceable = node.op not in ("input", "buffer") and all(type in earlier for type in node.types)
        return [earlier[type] for type in node.types] if replaceable else None

    after = rewrite(ir, rule)
    verify(after)
    read = {o.node for node in after.nodes for o in node.operands if o} | {v.node for v in after.results}
    assert read <= {node.name for node in after.nodes}
    assert [after.type(value) for _, value in after.outputs] == [ir.type(value) for _, value in ir.outputs]
