"""partition: the two graphs together are the joint graph, and what is saved is what must be."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings

from esper.ir import OPERATORS, BlueprintIR, Builder, DType, TensorType, symbol, verify
from esper.ir.dims import Size, default_size, evaluate_size, size_symbols
from esper.ir.graph import Value
from esper.ir.operator import Pointwise, Reduction, Site, View
from esper.ir.rewrite import needed_by
from esper.lang import LibraryEntry, library, lower
from esper.ops.reference.evaluate import evaluate
from esper.passes import DECOMPOSED, joint_graph, partition, run_passes
from esper.passes.cut import MAX_CHAIN, Reason
from esper.passes.errors import NotAJointGraph
from esper.testing import blueprint_irs, random_values

ROWS = TensorType(DType.F32, (symbol("N"), 4))


def joint_of(ir: BlueprintIR) -> BlueprintIR | None:
    joint = joint_graph(ir)
    return joint if len(joint.outputs) > len(ir.outputs) else None


@settings.get_profile("law")
@given(ir=blueprint_irs(differentiable=True))
def test_forward_then_backward_computes_what_the_joint_graph_does(ir: BlueprintIR) -> None:
    joint = joint_of(ir)
    if joint is None:
        return
    parts = partition(joint)
    verify(parts.forward)
    verify(parts.backward)
    values = random_values(joint)
    together = evaluate(joint, values.inputs, values.weights_of(joint), seed=values.seed)
    forward = parts.forward
    ahead = evaluate(forward, values.inputs_of(forward), values.weights_of(forward), seed=values.seed)
    given = {**values.inputs, **{entry.name: ahead[entry.name] for entry in parts.saved}}
    weights = {
        node.name: values.weights[node.name] for node in parts.backward.params + parts.backward.buffers
    }
    inputs = {node.name: given[node.name] for node in parts.backward.inputs}
    back = evaluate(
        _with_sizes(parts.backward, joint), {**values.inputs, **inputs}, weights, seed=values.seed
    )
    for name, expected in together.items():
        found = back[name] if name in back else ahead[name]
        torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True, msg=name)


def _with_sizes(backward: BlueprintIR, joint: BlueprintIR) -> BlueprintIR:
    """The backward graph with all inputs of the joint graph, from which the evaluator has its sizes."""
    absent = [node for node in joint.inputs if node.name not in backward]
    return backward.replace(nodes=(*absent, *backward.nodes))


@settings.get_profile("law")
@given(ir=blueprint_irs(differentiable=True))
def test_no_leaf_constant_or_view_is_saved(ir: BlueprintIR) -> None:
    joint = joint_of(ir)
    if joint is None:
        return
    for entry in partition(joint).saved:
        node = joint.node(entry.value.node)
        assert not isinstance(OPERATORS[node.op].lowering, View)
        assert node.operands or node.name in dict(joint.updates)


@settings.get_profile("law")
@given(ir=blueprint_irs(differentiable=True))
def test_the_forward_graph_is_the_graph_itself_but_for_what_it_saves(ir: BlueprintIR) -> None:
    joint = joint_of(ir)
    if joint is None:
        return
    forward = partition(joint).forward
    plain = run_passes(forward.replace(outputs=forward.outputs[: len(ir.outputs)]), "dce")
    assert plain.hash == run_passes(ir, "expand,canonicalize,fold,cse,dce").hash


def read_bytes(joint: BlueprintIR) -> int:
    """Bytes of all that the backward pass reads of the forward pass, if nothing is computed again."""
    primal = [value.node for name, value in joint.outputs if not name.startswith("grad.")]
    updated = [name for name, _ in joint.updates]
    ahead = needed_by(joint, [*primal, *updated, *(value.node for _, value in joint.updates)])
    behind = needed_by(joint, [value.node for name, value in joint.outputs if name.startswith("grad.")])
    stack = [o for n in joint.nodes if n.name in behind - ahead for o in n.operands if o is not None]
    found: set[Value] = set()
    for value in stack:
        node = joint.node(value.node)
        if isinstance(OPERATORS[node.op].lowering, View):
            stack += [operand for operand in node.operands if operand is not None]
        elif node.name in ahead and (node.operands or node.name in updated):
            found.add(value)
    return sum(size_at_defaults(joint.type(value).bytes) for value in found)


def size_at_defaults(size: Size) -> int:
    return evaluate_size(size, {name: default_size(name) for name in size_symbols(size)})


@given(ir=blueprint_irs(differentiable=True))
def test_never_more_is_saved_than_the_backward_graph_reads(ir: BlueprintIR) -> None:
    joint = joint_of(ir)
    if joint is not None:
        assert size_at_defaults(partition(joint).saved_bytes) <= read_bytes(joint)


@given(ir=blueprint_irs(differentiable=True))
def test_the_same_graph_is_cut_alike_each_time(ir: BlueprintIR) -> None:
    joint = joint_of(ir)
    if joint is not None:
        assert partition(joint) == partition(BlueprintIR.from_json(joint.to_json()))


@given(ir=blueprint_irs(differentiable=True))
def test_what_is_computed_again_comes_from_what_is_saved_and_from_leaves(ir: BlueprintIR) -> None:
    joint = joint_of(ir)
    if joint is None:
        return
    parts = partition(joint)
    saved = {entry.value for entry in parts.saved}
    for entry in parts.recomputed:
        assert entry.node in parts.forward and entry.node in parts.backward
        node = joint.node(entry.node)
        operator = OPERATORS[node.op]
        operands = tuple(None if operand is None else joint.type(operand) for operand in node.operands)
        assert operator.cost is not None
        only_moves = operator.cost(Site(operator, operands, node.attrs, node.types)).flops == 0
        assert isinstance(operator.lowering, Pointwise | Reduction) or only_moves
        assert all(source in saved or not joint.node(source.node).operands for source in entry.sources)


def test_gradients_that_nobody_asks_for_are_in_neither_graph() -> None:
    build = Builder("b")
    x, y = build.input("x", ROWS), build.input("y", ROWS)
    joint = joint_graph(build.finish({"z": build.op("mul", x, y)}), wrt=("x",))
    assert [name for name, _ in partition(joint).backward.outputs] == ["grad.x"]


def test_what_is_cheap_is_computed_again_and_a_product_is_saved() -> None:
    build = Builder("b")
    x, w = build.input("x", ROWS), build.param("w", TensorType(DType.F32, (4, 4)))
    h = build.op("matmul", x, w, transpose_a=False, transpose_b=False)
    y = build.op("exp", build.op("gelu", h))
    parts = partition(joint_graph(build.finish({"y": build.op("mul", y, y)})))
    assert [(str(entry.value), entry.reason) for entry in parts.saved] == [("%matmul", Reason.EXPENSIVE)]
    assert [entry.node for entry in parts.recomputed] == ["gelu", "exp"]
    assert {entry.sources for entry in parts.recomputed} == {(h,)}
    assert str(parts.saved_bytes) == "16*N"


def test_what_a_product_of_the_backward_pass_reads_is_computed_again_where_that_saves_bytes() -> None:
    build = Builder("b")
    x, w = build.input("x", ROWS), build.param("w", TensorType(DType.F32, (4, 4)))
    y = build.op("matmul", build.op("exp", x), w, transpose_a=False, transpose_b=False)
    parts = partition(joint_graph(build.finish({"y": y})))
    assert not parts.saved
    assert [entry.node for entry in parts.recomputed] == ["exp"]


def test_what_is_only_moved_is_kept_where_products_read_it_in_both_passes() -> None:
    build = Builder("b")
    x, w = build.input("x", ROWS), build.param("w", TensorType(DType.F32, (8, 4)))
    halves = build.op("concat", build.op("gelu", x), x, axis=1)
    for read in (True, False):
        y = build.op("matmul", halves, w) if read else build.op("gelu", halves)
        parts = partition(joint_graph(build.finish({"y": y})))
        expected = [("%concat", Reason.MOVED)] if read else []
        assert [(str(entry.value), entry.reason) for entry in parts.saved] == expected


@pytest.mark.parametrize("is_output", [False, True])
def test_of_equal_bytes_what_is_in_memory_anyway_is_kept(is_output: bool) -> None:
    """A gate that does not leave the graph need not be written: a call made what it is computed from."""
    build = Builder("gate")
    x = build.input("x", TensorType(DType.F32, (2, 4, 8)))
    weight = build.param("weight", TensorType(DType.F32, (4, 4, 1)))
    gate = build.op("sigmoid", build.op("convolution", x, weight, stride=1, padding=0, dilation=1, groups=1))
    outputs = {"y": build.op("mul", x, gate)} | ({"gate": gate} if is_output else {})
    found = partition(joint_graph(build.finish(outputs)))
    assert [saved.value.node for saved in found.saved] == ["sigmoid" if is_output else "convolution"]


def test_a_part_of_what_is_kept_is_read_out_of_it() -> None:
    build = Builder("b")
    x, w = build.input("x", ROWS), build.param("w", TensorType(DType.F32, (8, 4)))
    h = build.op("sigmoid", build.op("matmul", x, build.param("v", TensorType(DType.F32, (4, 4)))))
    y = build.op("matmul", build.op("concat", x, h, axis=1), w)
    parts = partition(joint_graph(build.finish({"y": y})))
    assert [str(entry.value) for entry in parts.saved] == ["%concat"]
    part = parts.backward.node("saved.0.1")
    assert (part.op, part.operands, part.attrs["start"]) == ("slice", (Value("saved.0"),), (4,))
    assert not parts.recomputed


@pytest.mark.parametrize("entry", library(), ids=lambda entry: entry.name)
def test_a_normalised_row_is_computed_again_from_its_statistics(entry: LibraryEntry) -> None:
    joint = joint_graph(run_passes(lower(entry.name)))
    whole, apart = partition(joint), partition(run_passes(joint, DECOMPOSED))
    sizes = {name: default_size(name) for name in joint.symbols}
    assert evaluate_size(apart.saved_bytes, sizes) <= evaluate_size(whole.saved_bytes, sizes)


def test_dropout_is_drawn_again_at_its_offset() -> None:
    build = Builder("b")
    x, seed = build.input("x", ROWS), build.seed()
    y = build.op("dropout", x, seed, p=0.5, offset=7)
    parts = partition(joint_graph(build.finish({"y": build.op("mul", y, y)})))
    assert not parts.saved
    assert parts.backward.node("dropout") == parts.forward.node("dropout")


def test_a_long_chain_is_walked_again_in_short_pieces() -> None:
    build = Builder("b")
    value = build.input("x", ROWS)
    for _ in range(3 * MAX_CHAIN):
        value = build.op("gelu", value)
    parts = partition(joint_graph(build.finish({"y": value})))
    assert {entry.reason for entry in parts.saved} == {Reason.CHAIN}
    assert len(parts.saved) == 2 and len(parts.recomputed) == 3 * (MAX_CHAIN - 1)


def test_a_buffer_that_the_step_updates_is_saved_and_one_that_it_keeps_is_not() -> None:
    for updates, expected in (({"b": "neg"}, ["%b"]), ({}, [])):
        build = Builder("g")
        x, b = build.input("x", ROWS), build.buffer("b", ROWS)
        after = build.op("neg", b)
        outputs = {"y": build.op("mul", x, b), "z": after}
        ir = build.finish(outputs, dict.fromkeys(updates, after))
        assert [str(entry.value) for entry in partition(joint_graph(ir)).saved] == expected


def test_a_graph_without_gradients_is_refused() -> None:
    build = Builder("b")
    with pytest.raises(NotAJointGraph, match="no gradient outputs"):
        partition(build.finish({"y": build.op("neg", build.input("x", ROWS))}))
