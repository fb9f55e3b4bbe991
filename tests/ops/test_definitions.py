"""What an operator is made of computes what its reference computes, in float64 and in narrow dtypes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import esper.ops  # noqa: F401  (fills the operator table)
from esper.ir import DType
from esper.ir.operator import OPERATORS, Composite, Decompose, Operator
from esper.ops.reference.evaluate import evaluate
from esper.passes import Law, joint_graph, run_passes
from esper.testing import blueprint_irs, random_values
from esper.testing.laws import require_gradients, require_law

DEFINED = tuple(e for e in OPERATORS.values() if isinstance(e.lowering, Composite | Decompose))
DECOMPOSED = tuple(e for e in DEFINED if isinstance(e.lowering, Decompose) and e.vjp is not None)
WITH_STATISTICS = tuple(e for e in OPERATORS.values() if len(e.results) > 1 and e.vjp is not None)


@pytest.mark.parametrize("entry", DEFINED, ids=lambda entry: entry.name)
@settings(max_examples=40)
@given(data=st.data())
def test_a_definition_is_the_reference_in_float64(entry: Operator, data: st.DataObject) -> None:
    ir = data.draw(blueprint_irs(operators=[entry.name], max_nodes=1))
    uses = ir.of(entry.name)
    ir = ir.replace(outputs=[(f"{n.name}.{i}", n.result(i)) for n in uses for i in range(len(n.types))])
    defined = run_passes(ir, "expand,decompose")
    assert not defined.of(entry.name)
    require_law(Law.REAL_EQUAL, ir, defined, random_values(ir))


@pytest.mark.parametrize("entry", DEFINED, ids=lambda entry: entry.name)
@settings(max_examples=20)
@given(data=st.data())
def test_a_definition_computes_narrow_dtypes_as_exactly_as_the_reference(
    entry: Operator, data: st.DataObject
) -> None:
    """Both stray from float64 by a few roundings of bfloat16."""
    ir = data.draw(blueprint_irs(operators=[entry.name], max_nodes=1, dtypes=(DType.BF16,)))
    values = random_values(ir)
    exact = evaluate(ir, values.inputs, values.weights, dtype=torch.float64)
    for graph in (ir, run_passes(ir, "expand,decompose")):
        for name, found in evaluate(graph, values.inputs, values.weights).items():
            if not exact[name].is_floating_point():
                assert torch.equal(found, exact[name]), name
                continue
            scale = max(1.0, exact[name].abs().max().item())
            torch.testing.assert_close(found.double(), exact[name], rtol=0.02, atol=0.02 * scale)


@pytest.mark.parametrize("entry", WITH_STATISTICS, ids=lambda entry: entry.name)
@settings(max_examples=40)
@given(data=st.data())
def test_gradients_pass_through_every_result(entry: Operator, data: st.DataObject) -> None:
    ir = data.draw(blueprint_irs(operators=[entry.name], max_nodes=1))
    uses = ir.of(entry.name)
    ir = ir.replace(outputs=[(f"{n.name}.{i}", n.result(i)) for n in uses for i in range(len(n.types))])
    require_gradients(ir, joint_graph(ir), random_values(ir))


@pytest.mark.parametrize("entry", DECOMPOSED, ids=lambda entry: entry.name)
@settings(max_examples=20)
@given(data=st.data())
def test_the_declared_gradient_is_the_gradient_of_the_definition(
    entry: Operator, data: st.DataObject
) -> None:
    ir = data.draw(blueprint_irs(operators=[entry.name], max_nodes=1))
    require_gradients(ir, run_passes(ir, "decompose,autodiff"), random_values(ir))
