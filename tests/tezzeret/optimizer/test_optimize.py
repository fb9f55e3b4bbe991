"""The optimizer: each technique does what it is for, and what is trained stays what it was."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import Any

import pytest
import torch

from esper.errors import WrongArgument
from esper.ir import BlueprintIR, DType
from esper.lang import lower
from esper.ops.reference.evaluate import evaluate
from esper.passes import Law, joint_graph, run_passes
from esper.testing import random_values
from esper.testing.laws import require_gradients, require_law
from esper.tezzeret.optimizer import GOALS, Optimized, optimize
from esper.tezzeret.optimizer.figures import CALL_SECONDS, LAUNCH_SECONDS, SAME, Figures
from esper.urza.run.seed import CompiledSeed

SMALL: dict[str, dict[str, Any]] = {
    "squeeze_excite": {"channels": 8, "reduce": 2},
    "inception_block": {"channels": 4, "width": 2},
    "residual_dense": {"channels": 4, "growth": 2, "depth": 2},
    "wavenet_block": {"channels": 4},
}
"""Library blueprints that the techniques change, small enough to run in float64."""


@cache
def exactly(name: str) -> tuple[BlueprintIR, Optimized]:
    """A small blueprint, and what is made of it for memory without giving digits up."""
    ir = lower(name, **SMALL[name])
    return ir, optimize(ir, "memory", laws=SAME)


def techniques(found: Optimized) -> list[str]:
    return [step.technique for step in found.steps]


@pytest.mark.parametrize("name", SMALL)
def test_outputs_and_gradients_of_the_same_parameters_stay_what_they_are(name: str) -> None:
    ir, found = exactly(name)
    values = random_values(ir, {"N": 2, **dict.fromkeys([s for s in ir.symbols if s != "N"], 6)})
    require_law(Law.REAL_EQUAL, ir, found.ir, values)
    require_gradients(ir, joint_graph(found.ir), values)
    assert {node.name: node.type for node in found.ir.params} == {node.name: node.type for node in ir.params}


@pytest.mark.parametrize("name", SMALL)
def test_the_pipeline_that_is_told_makes_the_graph(name: str) -> None:
    ir, found = exactly(name)
    assert found.steps
    assert run_passes(ir, found.pipeline) == found.ir


@pytest.mark.parametrize("name", SMALL)
def test_a_seed_of_the_result_begins_as_a_seed_of_the_graph_and_takes_its_state(name: str) -> None:
    before, after = (CompiledSeed(ir, generator=torch.Generator().manual_seed(3)) for ir in _pair(name))
    state, other = before.state_dict(), after.state_dict()
    assert list(state) == list(other)
    assert all(torch.equal(state[key], other[key]) for key in state)
    after.load_state_dict(state)


def _pair(name: str) -> tuple[BlueprintIR, BlueprintIR]:
    ir, found = exactly(name)
    return ir, found.ir


@pytest.mark.parametrize("objective", GOALS)
def test_each_step_serves_the_objective(objective: str) -> None:
    found = optimize(lower("squeeze_excite", **SMALL["squeeze_excite"]), objective)
    rank = GOALS[objective].rank
    figures = [found.before, *(step.after for step in found.steps)]
    assert all(rank(after) < rank(before) for before, after in pairwise(figures))
    assert found.after == figures[-1]
    assert all(rank(step.after) >= rank(step.before) for step in found.declined)


def test_a_gate_becomes_products_and_scales_before_it_meets_the_map() -> None:
    found = optimize(lower("squeeze_excite", **SMALL["squeeze_excite"]), "latency")
    assert {"fusion", "bottlenecks"} <= set(techniques(found))
    assert found.after.calls == 0 < found.before.calls
    assert found.after.flops < found.before.flops


def test_what_is_joined_for_products_alone_is_not_kept() -> None:
    _, found = exactly("residual_dense")
    assert techniques(found) == ["bottlenecks"]
    assert found.after.peak < found.before.peak


def test_a_block_of_parallel_convolutions_begins_with_one() -> None:
    ir = lower("inception_block", **SMALL["inception_block"])
    found = optimize(ir, "latency", laws=SAME)
    assert techniques(found) == ["parallel paths"]
    assert found.after.calls < found.before.calls
    (fork,) = found.forks
    assert (fork.at, fork.join, len(fork.branches)) == ("x", "concat", 3)
    assert [branch.flops for branch in fork.branches] == sorted(branch.flops for branch in fork.branches)


def test_accuracy_gives_no_digit_up_where_latency_does() -> None:
    ir = lower("mlp_block", features=64)
    found, narrow = (optimize(ir, objective, sizes={"N": 4096}) for objective in ("accuracy", "latency"))
    assert all(type.dtype is not DType.BF16 for node in found.ir.nodes for type in node.types)
    assert techniques(narrow) == ["precision"]
    assert narrow.after.latency < found.after.latency


def test_what_serves_nothing_leaves_the_graph_as_it_is() -> None:
    ir = lower("norm", features=8)
    found = optimize(ir, "latency", laws=SAME)
    assert found.steps == () and found.ir is ir and found.pipeline == ""
    assert found.before == found.after


def test_a_batch_norm_by_running_statistics_is_known_to_cost_the_plan_nothing() -> None:
    ir = run_passes(lower("resnet_block", channels=8), "inference")
    found = optimize(ir, "latency", laws=SAME, is_trained=False)
    (declined,) = [step for step in found.declined if step.entry == "fold_batch_norm"]
    assert declined.after.nanoseconds >= declined.before.nanoseconds


def test_the_forward_pass_alone_takes_less_than_a_training_step() -> None:
    ir = lower("conv_block", channels=8)
    step, forward = (
        optimize(ir, "latency", laws=frozenset(), is_trained=flag).before for flag in (True, False)
    )
    assert forward.seconds < step.seconds and forward.kernels < step.kernels
    assert forward.saved == 0 < step.saved


def test_the_order_of_techniques_is_searched() -> None:
    ir, _ = exactly("residual_dense")
    wide, narrow = (optimize(ir, "memory", beam=beam) for beam in (3, 1))
    assert GOALS["memory"].rank(wide.after) <= GOALS["memory"].rank(narrow.after)
    assert wide.planned >= narrow.planned


def test_launches_count_beside_work() -> None:
    figures = Figures(seconds=1e-6, kernels=2, calls=1, flops=0, bytes=0, saved=0, peak=0)
    assert figures.latency == pytest.approx(1e-6 + 2 * LAUNCH_SECONDS + CALL_SECONDS)


def test_an_objective_that_is_none_is_refused() -> None:
    with pytest.raises(WrongArgument, match="latency or memory or balanced or accuracy"):
        optimize(lower("norm"), "speed")


def test_a_narrow_graph_keeps_its_signature_and_runs() -> None:
    ir = lower("glu_block", features=16)
    step = optimize(ir, "memory", budget=1.0)
    assert techniques(step) == ["precision"]
    found = step.ir
    assert found.inputs == ir.inputs
    values = random_values(ir, {"N": 2, **dict.fromkeys([s for s in ir.symbols if s != "N"], 4)})
    before, after = (evaluate(one, values.inputs, values.weights)["result"] for one in (ir, found))
    assert before.dtype is after.dtype
    assert 0 < (before - after).norm() < 0.05 * before.norm()
