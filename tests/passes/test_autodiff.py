"""autodiff: gradients against torch.autograd, the shape of the joint graph, and what it refuses."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esper.ir import BlueprintIR, Builder, DType, TensorType, symbol
from esper.passes import joint_graph, run_passes
from esper.passes.autodiff import Autodiff
from esper.passes.errors import NotDifferentiable, ReservedName, UnknownGradient
from esper.testing import blueprint_irs, random_values
from esper.testing.laws import require_gradients
from esper.testing.strategies import sampled_operators

ROWS = TensorType(DType.F32, (symbol("N"), 4))


@settings.get_profile("law")
@given(ir=blueprint_irs(differentiable=True))
def test_gradients_are_what_torch_gives_through_the_references(ir: BlueprintIR) -> None:
    require_gradients(ir, run_passes(ir, "expand,autodiff"), random_values(ir))


@settings.get_profile("law")
@given(ir=blueprint_irs(differentiable=True))
def test_cleaning_the_joint_graph_keeps_its_gradients(ir: BlueprintIR) -> None:
    require_gradients(ir, joint_graph(ir), random_values(ir))


@pytest.mark.parametrize("name", sampled_operators(differentiable=True))
@settings(max_examples=30)
@given(data=st.data())
def test_each_operator_alone_has_the_gradients_that_torch_gives(name: str, data: st.DataObject) -> None:
    ir = data.draw(blueprint_irs(operators=[name], max_nodes=2))
    require_gradients(ir, joint_graph(ir), random_values(ir))


@settings.get_profile("law")
@given(ir=blueprint_irs(differentiable=True))
def test_outputs_and_updates_stay(ir: BlueprintIR) -> None:
    joint = Autodiff().run(run_passes(ir, "expand"))
    assert joint.outputs[: len(ir.outputs)] == run_passes(ir, "expand").outputs
    assert [name for name, _ in joint.updates] == [name for name, _ in ir.updates]


@settings.get_profile("law")
@given(ir=blueprint_irs(differentiable=True))
def test_each_gradient_has_the_type_of_what_it_is_the_gradient_of(ir: BlueprintIR) -> None:
    joint = joint_graph(ir)
    for name, value in joint.outputs[len(ir.outputs) :]:
        leaf = joint.node(name.removeprefix("grad."))
        assert leaf.op in ("input", "param")
        assert joint.type(value) == leaf.type
    for node in joint.inputs[len(ir.inputs) :]:
        assert node.type == joint.type(dict(joint.outputs)[node.name.removeprefix("grad.")])


@pytest.fixture
def product() -> BlueprintIR:
    build = Builder("product")
    x, w = build.input("x", ROWS), build.param("w", ROWS.with_shape((4,)))
    return build.finish({"y": build.op("mul", x, w)})


def test_only_the_gradients_that_are_asked_for_are_computed(product: BlueprintIR) -> None:
    joint = joint_graph(product, wrt=("w",))
    assert [name for name, _ in joint.outputs] == ["y", "grad.w"]
    assert len(joint_graph(product).nodes) > len(joint.nodes)


def test_a_param_that_no_output_depends_on_has_no_gradient() -> None:
    build = Builder("b")
    x = build.input("x", ROWS)
    build.param("w", ROWS)
    joint = Autodiff().run(build.finish({"y": build.op("neg", x)}))
    assert [name for name, _ in joint.outputs] == ["y", "grad.x"]


def test_a_gradient_does_not_pass_a_comparison() -> None:
    build = Builder("b")
    x, w = build.input("x", ROWS), build.param("w", ROWS)
    joint = joint_graph(build.finish({"y": build.op("where", build.op("greater", w, 0.0), x, 1.0)}))
    assert [name for name, _ in joint.outputs] == ["y", "grad.x"]


def test_an_output_that_is_an_input_passes_its_gradient_on() -> None:
    build = Builder("b")
    x = build.input("x", ROWS)
    joint = joint_graph(build.finish({"y": x}))
    assert str(dict(joint.outputs)["grad.x"]) == "%grad.y"


def test_two_outputs_of_one_value_add_their_gradients() -> None:
    build = Builder("b")
    x = build.input("x", ROWS)
    joint = joint_graph(build.finish({"y": x, "z": x}))
    assert joint.node(dict(joint.outputs)["grad.x"].node).op == "add"


def test_second_derivatives_are_refused_with_the_operators_reason() -> None:
    build = Builder("b")
    x = build.input("x", ROWS)
    ir = build.finish({"y": build.op("gelu_backward", x, x)})
    with pytest.raises(NotDifferentiable, match="`gelu_backward` has no gradient: second derivatives"):
        Autodiff().run(ir)


def test_asking_for_the_gradient_of_what_is_no_floating_leaf_is_refused(product: BlueprintIR) -> None:
    with pytest.raises(UnknownGradient, match="`mul`"):
        Autodiff(("mul",)).run(product)


def test_names_that_autodiff_adds_are_reserved(product: BlueprintIR) -> None:
    with pytest.raises(ReservedName):
        Autodiff().run(joint_graph(product))


def test_gradient_nodes_have_the_span_and_scope_of_what_they_differentiate(small: BlueprintIR) -> None:
    joint = joint_graph(small)
    added = [node for node in joint.nodes if node.name not in small and node.op not in ("input", "constant")]
    assert added and all(node.name.split(".")[0] in small for node in added)
