"""A graph read from a networkx view: what is wrong with it is told by node and rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import networkx as nx
import pytest

from esper.ir import BlueprintIR, Builder, DType, TensorType, Value
from esper.ir.errors import MalformedIR

PAIR = TensorType(DType.F32, (2,))


@pytest.fixture
def view() -> nx.MultiDiGraph[Any]:
    """`y = x - w`, as a view that may be changed."""
    build = Builder("b")
    x, w = build.input("x", PAIR), build.input("w", PAIR)
    return nx.MultiDiGraph(build.finish({"y": build.op("sub", x, w, name="d")}).graph)


def _edges(view: nx.MultiDiGraph[Any], *edges: tuple[str, Any, Any]) -> None:
    """Replaces all edges by some from a node, with `result` and `operand`, to `d`."""
    view.remove_edges_from(list(view.edges()))
    for source, result, operand in edges:
        view.add_edge(source, "d", result=result, operand=operand)


def _change(view: nx.MultiDiGraph[Any], name: str, **changes: Any) -> None:
    view.nodes[name]["node"] = view.nodes[name]["node"].replace(**changes)


def test_edges_decide_which_operand_reads_what(view: nx.MultiDiGraph[Any]) -> None:
    _edges(view, ("x", 0, 1), ("w", 0, 0))
    assert BlueprintIR.from_networkx(view).node("d").operands == (Value("w"), Value("x"))


@pytest.mark.parametrize(
    ("edges", "reason"),
    [
        ([("x", 0, 0), ("w", 0, -1)], "node `d`: its edge from `w` has `operand` = -1, expected 0 to 1"),
        ([("x", 0, 0), ("w", 0, 2)], "node `d`: its edge from `w` has `operand` = 2, expected 0 to 1"),
        ([("x", 0, 0), ("w", 0, 0)], "node `d`: two edges are its operand 0"),
        ([("x", "0", 0), ("w", 0, 1)], "node `d`: its edge from `x` has `result` = '0', expected an integer"),
        ([("x", 0.0, 0), ("w", 0, 1)], "node `d`: its edge from `x` has `result` = 0.0, expected an integer"),
        (
            [("x", 0, 0), ("w", 0, True)],
            "node `d`: its edge from `w` has `operand` = True, expected an integer",
        ),
    ],
)
def test_an_edge_that_fits_no_operand_is_refused(
    view: nx.MultiDiGraph[Any], edges: list[tuple[str, Any, Any]], reason: str
) -> None:
    _edges(view, *edges)
    with pytest.raises(MalformedIR) as caught:
        BlueprintIR.from_networkx(view)
    assert str(caught.value) == reason


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda view: view.graph.update(name=3), "graph `3`: its `name` is 3, expected text"),
        (lambda view: view.graph.update(outputs=7), "graph `b`: its `outputs` is 7, expected pairs"),
        (lambda view: view.graph.update(outputs=[1, 2]), "graph `b`: its `outputs` holds 1, expected pairs"),
        (lambda view: view.graph.update(outputs=[("y", "d")]), "graph `b`: its `outputs` holds ('y', 'd')"),
        (lambda view: view.graph.update(updates=[("y",)]), "graph `b`: its `updates` holds ('y',)"),
        (lambda view: view.add_node(5), "graph `b`: a node is named 5, expected text"),
        (lambda view: view.add_node("z", node="x"), "node `z`: its data `node` is 'x', expected a `Node`"),
        (lambda view: view.add_node("z"), "node `z`: its data `node` is None, expected a `Node`"),
        (lambda view: _change(view, "x", attrs=None), "node `x`: its `attrs` is None, expected a mapping"),
        (lambda view: _change(view, "x", attrs={1: 2}), "node `x`: an attribute is named 1, expected text"),
        (lambda view: _change(view, "x", op=["sub"]), "node `x`: its `op` is ['sub'], expected text"),
        (
            lambda view: _change(view, "d", operands=None),
            "node `d`: its `operands` is None, expected a tuple",
        ),
        (lambda view: _change(view, "x", types=None), "node `x`: its `types` is None, expected a tuple"),
        (
            lambda view: _change(view, "x", types=(None,)),
            "node `x`: None among its `types` is not a tensor type",
        ),
        (lambda view: _change(view, "x", span=3), "node `x`: its `span` is 3, expected a `Span` or None"),
    ],
)
def test_mistyped_data_is_refused(
    view: nx.MultiDiGraph[Any], change: Callable[[nx.MultiDiGraph[Any]], None], reason: str
) -> None:
    change(view)
    with pytest.raises(MalformedIR) as caught:
        BlueprintIR.from_networkx(view)
    assert str(caught.value).startswith(reason)
