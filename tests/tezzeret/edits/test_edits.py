"""Typed edits: each gives a verified graph or an error that teaches."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esper.errors import EsperError
from esper.ir.graph import BlueprintIR
from esper.lang import lower
from esper.testing.strategies import blueprint_irs
from esper.tezzeret.edits import Add, Remove, Resize, parse_edit
from esper.tezzeret.edits.errors import (
    ConstraintBroken,
    ImpossibleEdit,
    MalformedEdit,
    TypesDiffer,
    UnknownNode,
)
from esper.tezzeret.errors import UnknownQuantity

CALLS = ("relu()", "gelu", "dropout(0.5)", "layer_norm()", "linear(3)", "add(x)", "batch_norm()", "sum(-1)")


@pytest.fixture(scope="module")
def mlp() -> BlueprintIR:
    return lower("mlp_block", features=64)


def edited(ir: BlueprintIR, *edits: str) -> BlueprintIR:
    for text in edits:
        ir = parse_edit(text).apply(ir)
    return ir


def test_replacing_an_operator_gives_the_blueprint_with_that_operator(mlp: BlueprintIR) -> None:
    found = edited(mlp, "replace:gelu=relu")
    assert found.hash == lower("mlp_block", features=64, act="relu").hash
    assert found.node("gelu").op == "relu"


def test_resizing_a_layer_gives_the_blueprint_of_that_size_with_what_reads_it(mlp: BlueprintIR) -> None:
    smaller = lower("mlp_block", features=64, expand=2).hash
    assert edited(mlp, "resize:linear=128").hash == smaller
    assert edited(mlp, "resize:linear.features=128").hash == smaller


def test_resizing_passes_through_norms_and_their_statistics() -> None:
    block = lower("mobilenet_block", channels=16, expand=4)
    assert edited(block, "resize:conv=32").hash == lower("mobilenet_block", channels=16, expand=2).hash


def test_removing_takes_weights_along(mlp: BlueprintIR) -> None:
    found = edited(mlp, "remove:layer_norm")
    assert [node.name for node in found.nodes if node.name.startswith("layer_norm")] == []
    assert found.node("linear").operands[0] == found.inputs[0].result()


def test_what_only_its_own_statistics_read_goes_with_them() -> None:
    block = lower("mobilenet_block", channels=16)
    found = edited(block, "remove:add")
    assert [node.op for node in found.nodes] == ["input"] and not found.updates
    past = edited(block, "rewire:conv_2.0=relu6")
    assert "batch_norm_2" not in past and "depthwise_conv.weight" not in past
    assert {name for name, _ in past.updates} == {
        f"{norm}.running_{what}" for norm in ("batch_norm", "batch_norm_3") for what in ("mean", "var")
    }


def test_a_statistic_that_nothing_in_the_graph_reads_stays() -> None:
    counting = BlueprintIR.from_text(
        'blueprint counting {\n  %x = input() : f32[4]\n  %seen = buffer() {init="zeros"} : f32[4]\n'
        "  %exp = exp(%x) : f32[4]\n  %relu = relu(%x) : f32[4]\n"
        "  output y = %relu\n  update seen = %exp\n}\n"
    )
    assert edited(counting, "replace:relu=gelu").updates == counting.updates


def test_what_nothing_needed_stays_with_what_it_reads() -> None:
    idle = BlueprintIR.from_text(
        "blueprint idle {\n  %x = input() : f32[4]\n  %exp = exp(%x) : f32[4]\n"
        "  %idle = relu(%exp) : f32[4]\n  %tanh = tanh(%exp) : f32[4]\n  output y = %tanh\n}\n"
    )
    assert "idle" in edited(idle, "rewire:y=x") and "tanh" not in edited(idle, "rewire:y=x")


def test_adding_puts_a_node_before_all_readers(mlp: BlueprintIR) -> None:
    found = edited(mlp, "add:norm=rms_norm() after gelu")
    assert found.node("norm").operands[0] == found.node("gelu").result()
    assert found.node("linear_2").operands[0] == found.node("norm").result()
    assert "norm.weight" in found


def test_an_added_call_may_read_other_values(mlp: BlueprintIR) -> None:
    found = edited(mlp, "add:add(x) after linear_2")
    assert list(map(str, found.node("add_2").operands)) == ["%linear_2", "%x"]


def test_the_name_of_a_node_is_no_operand_where_an_argument_takes_none(mlp: BlueprintIR) -> None:
    found = edited(mlp, "add:feed_forward(32, activation=gelu) after linear_2")
    assert found.node("feed_forward").attrs["activation"] == "gelu"
    assert list(map(str, edited(mlp, "add:add(y=x) after linear_2").node("add_2").operands)) == [
        "%linear_2",
        "%x",
    ]


def test_random_nodes_draw_streams_of_their_own_from_the_one_seed(mlp: BlueprintIR) -> None:
    found = edited(mlp, "add:dropout(0.5) after gelu", "add:dropout(0.5) after layer_norm")
    assert len(found.of("seed")) == 1
    assert len({node.attrs["offset"] for node in found.of("dropout")}) == 2


def test_rewiring_an_output_and_an_operand(mlp: BlueprintIR) -> None:
    assert dict(edited(mlp, "rewire:result=linear_2").outputs)["result"].node == "linear_2"
    found = edited(mlp, "rewire:add.0=linear_2")
    assert list(map(str, found.node("add").operands)) == ["%linear_2", "%linear_2"]


def test_a_constraint_that_holds_changes_nothing(mlp: BlueprintIR) -> None:
    assert parse_edit("constrain:params<=50000").apply(mlp) is mlp


@pytest.mark.parametrize(
    ("text", "kind", "message", "way"),
    [
        ("remove:gleu", UnknownNode, "no node `gleu`", "did you mean `gelu`?"),
        ("remove:linear", TypesDiffer, "64], expected f32[N, S.0, S.1, 256]", "of that type are `%linear`"),
        ("replace:gelu=linear(8)", TypesDiffer, "8], expected f32[N, S.0, S.1, 256]", "of that type are"),
        ("replace:gelu=gleu", ImpossibleEdit, "unknown operator `gleu`", "did you mean `glu`?"),
        ("add:add(layer_norm) after gelu", ImpossibleEdit, "f32[N, S.0, S.1, 64] do not broadcast", "lists"),
        ("rewire:layer_norm.0=gelu", TypesDiffer, "`gelu` is f32[N", "`%linear_2`"),
        ("rewire:layer_norm.0=add", ImpossibleEdit, "`add` depends on `layer_norm`", "made before"),
        ("rewire:add.2=x", ImpossibleEdit, "reads nothing as its operand 2", "operands 0 to 1"),
        ("resize:gelu=3", ImpossibleEdit, "no such size", "`linear`, `linear_2`"),
        ("resize:linear_2=32", ImpossibleEdit, "`add` does not follow", "resize it to fit"),
        ("resize:linear=0", ImpossibleEdit, "0 is no size", "from 1 to"),
        ("remove:x", ImpossibleEdit, "`x` is a leaf", "`layer_norm`, `add`"),
        ("constrain:params<=20", ConstraintBroken, "params = 33,216", "relax the constraint"),
        ("constrain:parms<=20", UnknownQuantity, "`parms`", "did you mean `params`?"),
        ("delete:x", MalformedEdit, "`delete:x` is no edit", "remove:NODE"),
        ("resize:linear=x", MalformedEdit, "is no edit", "resize:NODE[.ARGUMENT]=SIZE"),
    ],
)
def test_what_does_not_fit_says_what_would(
    mlp: BlueprintIR, text: str, kind: type[EsperError], message: str, way: str
) -> None:
    with pytest.raises(kind) as raised:
        parse_edit(text).apply(mlp)
    assert message in str(raised.value)
    assert way in raised.value.help_text


@st.composite
def edits_of(draw: st.DrawFn, ir: BlueprintIR) -> str:
    """An edit of `ir` as it is written, whether or not it fits."""
    names = [node.name for node in ir.nodes]
    node, value = draw(st.sampled_from(names)), draw(st.sampled_from(names))
    call = draw(st.sampled_from(CALLS))
    number = draw(st.integers(0, 3))
    forms = (
        f"add:{call} after {value}",
        f"remove:{node}",
        f"replace:{node}={call}",
        f"rewire:{node}.{number}={value}#{draw(st.integers(0, 1))}",
        f"resize:{node}={number}",
    )
    return draw(st.sampled_from(forms))


@given(st.data())
@settings(max_examples=40)
def test_an_edit_gives_a_verified_graph_or_an_error(data: st.DataObject) -> None:
    ir = data.draw(blueprint_irs(max_nodes=5))
    for _ in range(3):
        edit = parse_edit(data.draw(edits_of(ir)))
        try:
            after = edit.apply(ir)
        except EsperError as error:
            assert str(error).startswith(f"`{edit}`: ")
            continue
        assert BlueprintIR.from_text(str(after)) == after  # reading verifies anew
        assert [node.type for node in after.inputs] == [node.type for node in ir.inputs]
        ir = after


@given(st.data())
@settings(max_examples=40)
def test_adding_and_removing_gives_the_graph_as_it_was(data: st.DataObject) -> None:
    ir = data.draw(blueprint_irs(max_nodes=5))
    value = data.draw(st.sampled_from([str(value) for node in ir.nodes for value in node.results]))
    try:
        added = Add(data.draw(st.sampled_from(CALLS)), value, "between").apply(ir)
    except EsperError:
        return
    if "between" in added:  # nothing needs it where nothing reads the value
        assert Remove("between").apply(added).hash == ir.hash


@given(st.data())
@settings(max_examples=20)
def test_resizing_to_the_same_size_is_the_identity(data: st.DataObject) -> None:
    features, size = data.draw(st.sampled_from([8, 16])), data.draw(st.sampled_from([1, 2, 4]))
    ir = lower("mlp_block", features=features, expand=size)
    assert Resize("linear", None, features * size).apply(ir) is ir
    other = data.draw(st.integers(1, 64))
    assert Resize("linear", None, features * size).apply(Resize("linear", None, other).apply(ir)) == ir
