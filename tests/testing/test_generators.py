"""The generators themselves: valid, few discards, every operator and every gradient, good shrinking."""

from __future__ import annotations

from collections import Counter

import torch
from hypothesis import HealthCheck, find, given, settings
from hypothesis import strategies as st

from esper.ir import OPERATORS, BlueprintIR, TensorType, parse_type, verify
from esper.passes import run_passes
from esper.testing import blueprint_irs, random_values, tensor_types
from esper.testing.laws import run
from esper.testing.strategies import sampled_operators

EVERY = settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])


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


def test_all_operators_are_generated_and_few_graphs_are_discarded() -> None:
    seen: Counter[str] = Counter()
    begun: list[None] = []

    @EVERY
    @given(st.data())
    def generate(data: st.DataObject) -> None:
        begun.append(None)
        ir = data.draw(blueprint_irs())
        seen["graphs"] += 1
        seen.update({node.op for node in ir.nodes})

    generate()
    assert set(sampled_operators()) <= set(seen)
    assert len(begun) - seen["graphs"] < len(begun) / 10


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
    assert {name for name, entry in OPERATORS.items() if entry.vjp is not None} <= taken


def test_a_graph_shrinks_to_the_nodes_that_matter() -> None:
    ir = find(
        blueprint_irs(),
        lambda ir: len(ir.of("matmul")) == 2,
        settings=settings(max_examples=5000, derandomize=True, database=None),
    )
    assert {node.op for node in ir.nodes} == {"input", "matmul"}
    assert not ir.symbols


@given(tensor_types())
def test_a_generated_type_round_trips(type: TensorType) -> None:
    assert parse_type(str(type)) == type


@given(blueprint_irs())
def test_random_values_depend_on_the_seed_alone(ir: BlueprintIR) -> None:
    first, again = random_values(ir, seed=3), random_values(ir, seed=3)
    for name, tensor in {**first.inputs, **first.weights}.items():
        assert torch.equal(tensor, {**again.inputs, **again.weights}[name])
