"""Rewriting: no rule can leave an edge without its end, or change a type unseen."""

from __future__ import annotations

import pytest
from hypothesis import given

from esper.ir import BlueprintIR, Builder, DType, Node, TensorType, Value, symbol, verify
from esper.ir.errors import InvalidNode
from esper.ir.rewrite import needed_by, rewrite
from esper.testing import blueprint_irs

ROWS = TensorType(DType.F32, (symbol("N"), 4))


@pytest.fixture
def chain() -> BlueprintIR:
    build = Builder("b")
    x = build.input("x", ROWS)
    return build.finish({"y": build.op("neg", build.op("exp", x)), "z": Value("exp")})


@given(blueprint_irs())
def test_a_rule_that_keeps_everything_gives_the_graph_itself(ir: BlueprintIR) -> None:
    assert rewrite(ir, lambda build, node: None) == ir


@given(blueprint_irs())
def test_replacing_every_node_by_a_copy_keeps_the_hash(ir: BlueprintIR) -> None:
    def copy(build: Builder, node: Node) -> tuple[Value, ...] | None:
        if not node.operands:
            return None
        return build.ops(node.op, *node.operands, name=None, span=None, **node.attrs)

    again = rewrite(ir, copy)
    verify(again)
    assert again.hash == ir.hash


def test_readers_and_results_follow_a_replacement(chain: BlueprintIR) -> None:
    after = rewrite(chain, lambda build, node: (Value("x"),) if node.op == "exp" else None)
    assert after.node("neg").operands == (Value("x"),)
    assert after.outputs[1] == ("z", Value("x"))


def test_a_rule_may_append_and_its_nodes_bear_the_scope(chain: BlueprintIR) -> None:
    def twice(build: Builder, node: Node) -> list[Value] | None:
        x = node.operands[0] if node.operands else None
        return [build.op("mul", build.op("exp", x), 1.0)] if node.op == "exp" else None

    after = rewrite(chain, twice)
    assert [node.name for node in after.nodes] == ["x", "exp.exp", "constant", "exp.mul", "neg"]
    verify(after)


def test_a_replacement_of_another_type_is_refused(chain: BlueprintIR) -> None:
    def narrower(build: Builder, node: Node) -> list[Value] | None:
        return [build.op("sum", Value("x"), axes=(0,))] if node.op == "exp" else None

    with pytest.raises(InvalidNode, match="node `exp`: a rewrite changed"):
        rewrite(chain, narrower)


def test_a_node_in_place_of_another_keeps_its_name(chain: BlueprintIR) -> None:
    with pytest.raises(InvalidNode, match="a rewrite changed its name"):
        rewrite(chain, lambda build, node: node.replace(name="other"))


def test_what_a_node_needs_is_all_that_it_depends_on(chain: BlueprintIR) -> None:
    assert needed_by(chain, ["exp"]) == {"x", "exp"}
    assert needed_by(chain, ["neg"]) == {"x", "exp", "neg"}
