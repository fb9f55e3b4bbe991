"""The generators themselves: valid, few discards, every operator and every gradient, good shrinking."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import HealthCheck, find, given, settings
from hypothesis import strategies as st

from esper.ir import OPERATORS, BlueprintIR, DType, TensorType, parse_type, verify
from esper.passes import run_passes
from esper.testing import blueprint_irs, random_values, tensor_types
from esper.testing.laws import run
from esper.testing.strategies import sampled_operators

# Fixed draws, whatever the profile: what they cover is a fact about the generator, not luck.
EVERY = settings(
    max_examples=600, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
EVEN = settings(EVERY, max_examples=1500)  # eight for each operator, about twenty graphs
SHARE = 0.25  # of the mean number of graphs that an operator stands in: what the rarest has at least
SHRINK = settings(max_examples=5000, derandomize=True, database=None)


@given(blueprint_irs())
def test_a_generated_graph_is_valid(ir: BlueprintIR) -> None:
    verify(ir)


@given(blueprint_irs())
def test_a_generated_graph_runs_and_gives_the_declared_types(ir: BlueprintIR) -> None:
    values = random_values(ir)
    outputs = run(ir, values)
    for name, value in ir.outputs:
        assert tuple(outputs[name].shape) == ir.type(value).concrete_shape(values.sizes), name
        assert str(outputs[name].dtype).removeprefix("torch.") == {
            "f32": "float32", "f64": "float64", "bf16": "bfloat16", "f16": "float16",
            "i32": "int32", "i64": "int64", "bool": "bool",
        }[str(ir.type(value).dtype)]  # fmt: skip


def test_all_operators_are_generated_evenly_and_few_graphs_are_discarded() -> None:
    seen: Counter[str] = Counter()
    begun: list[None] = []
    finished: list[None] = []

    @EVEN
    @given(st.data())
    def generate(data: st.DataObject) -> None:
        begun.append(None)
        ir = data.draw(blueprint_irs())
        finished.append(None)
        seen.update({node.op for node in ir.nodes})

    generate()
    counts = {name: seen[name] for name in sampled_operators()}
    mean = sum(counts.values()) / len(counts)
    assert {name: count for name, count in counts.items() if count < SHARE * mean} == {}
    assert len(begun) - len(finished) < len(begun) / 10


def test_the_gradient_of_every_operator_is_taken() -> None:
    taken: set[str] = set()

    @EVERY
    @given(blueprint_irs(differentiable=True))
    def generate(ir: BlueprintIR) -> None:
        expanded = run_passes(ir, "expand")
        added = {node.name for node in run_passes(expanded, "autodiff").nodes} - {
            n.name for n in expanded.nodes
        }
        scopes = {name.rpartition(".")[0] for name in added}
        taken.update(node.op for node in expanded.nodes if node.name in scopes)

    generate()
    assert {name for name, entry in OPERATORS.items() if entry.vjp is not None} - taken == set()


def test_every_dtype_is_drawn_and_read() -> None:
    read: set[DType] = set()

    @EVERY
    @given(blueprint_irs())
    def generate(ir: BlueprintIR) -> None:
        read.update(ir.type(value).dtype for node in ir.nodes for value in node.operands if value is not None)

    generate()
    assert read == set(DType)


def test_a_graph_shrinks_to_the_nodes_that_matter() -> None:
    ir = find(blueprint_irs(), lambda ir: len(ir.of("matmul")) == 2, settings=SHRINK)
    assert {node.op for node in ir.nodes} == {"input", "matmul"}
    assert not ir.symbols


@pytest.mark.parametrize("name", ["exp", "conv", "layer_norm", "softmax_backward", "where"])
def test_a_graph_shrinks_to_the_simplest_use_of_the_operator_that_matters(name: str) -> None:
    found = find(blueprint_irs(), lambda ir: bool(ir.of(name)), settings=SHRINK)
    assert (
        found.hash
        == find(blueprint_irs(operators=[name], max_nodes=1), lambda ir: True, settings=SHRINK).hash
    )


@given(tensor_types())
def test_a_generated_type_round_trips(type: TensorType) -> None:
    assert parse_type(str(type)) == type


@given(blueprint_irs())
def test_random_values_depend_on_the_seed_alone(ir: BlueprintIR) -> None:
    first, again = random_values(ir, seed=3), random_values(ir, seed=3)
    for name, tensor in {**first.inputs, **first.weights}.items():
        assert torch.equal(tensor, {**again.inputs, **again.weights}[name])
