"""The gates are a table, and a figure that was not measured fails."""

import math
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, float64, tensor

from esper.kasmina.errors import MalformedEvaluation
from esper.kasmina.lifecycle.control import LIMIT, compare
from esper.kasmina.lifecycle.gates import GATES, GateParameters, check
from esper.leyline.gates import GateLevel
from esper.leyline.stages import SeedStage, is_valid_transition

GOOD = {
    "keeps_shape": 1.0,
    "leaves_input_unchanged": 1.0,
    "runs": 1.0,
    "stage_steps": 1e6,
    "others_in_place": 0.0,
    "gradient_ratio": 1.0,
    "descent_over_error": 10.0,
    "alpha": 1.0,
    "blend_steps_left": 0.0,
    "exploded_steps": 0.0,
    "loss_rise": -0.1,
    "heldout_examples": 1000.0,
    "gain": 0.2,
    "gain_over_error": 9.0,
    "gain_over_progress": 1.0,
}


def test_one_gate_stands_before_each_forward_transition() -> None:
    assert [gate.level for gate in GATES.values()] == list(GateLevel)
    assert all(is_valid_transition(gate.source, gate.target) for gate in GATES.values())
    assert [gate.source for gate in GATES.values()] == [SeedStage(n) for n in range(1, 7)]


def test_every_parameter_bounds_a_figure() -> None:
    used = {criterion.bound for gate in GATES.values() for criterion in gate.criteria}
    assert {field.name for field in fields(GateParameters)} - {"permissive"} <= used


@pytest.mark.parametrize("gate", GATES.values(), ids=lambda gate: gate.level.name)
def test_a_gate_passes_on_good_figures_and_on_nothing_less(gate: object) -> None:
    gate = next(entry for entry in GATES.values() if entry is gate)
    assert check(gate, GOOD, GateParameters()).passed
    for criterion in gate.criteria:
        for missing in (None, math.nan):
            result = check(gate, {**GOOD, criterion.figure: missing}, GateParameters())
            assert [failure.name for failure in result.failures] == [criterion.figure]
        absent = {name: figure for name, figure in GOOD.items() if name != criterion.figure}
        assert not check(gate, absent, GateParameters()).passed


def test_without_incubation_learning_is_not_asked_for() -> None:
    gate = GATES[SeedStage.TRAINING]
    figures = {"stage_steps": 100.0, "others_in_place": 0.0}
    assert check(gate, figures, GateParameters(), incubates=False).passed
    assert not check(gate, figures, GateParameters()).passed


@given(st.lists(st.floats(0, 1e30), min_size=2, max_size=6), st.floats(0, 1e30))
def test_the_figures_of_a_comparison_can_be_written_down(losses: list[float], start: float) -> None:
    grown = tensor(losses, dtype=float64)
    comparison = compare(grown, grown.flip(0), start)
    if comparison.control_loss > 0:
        assert abs(comparison.gain_over_error) <= LIMIT
        assert abs(comparison.gain_over_progress) <= LIMIT


LOSSES = st.lists(st.floats(0.01, 100), min_size=2, max_size=40)


@given(LOSSES, st.floats(0.0, 0.9))
def test_a_uniform_gain_is_measured_as_it_is(losses: list[float], share: float) -> None:
    control = tensor(losses, dtype=float64)
    comparison = compare(control * (1 - share), control, start_loss=200.0)
    assert comparison.gain == pytest.approx(share, abs=1e-9)


def test_the_error_is_that_of_the_paired_difference() -> None:
    control: Tensor = tensor([1.0, 3.0, 2.0, 2.0], dtype=float64)
    comparison = compare(control - tensor([0.1, 0.3, 0.1, 0.3], dtype=float64), control, start_loss=2.4)
    assert comparison.gain == pytest.approx(0.1)
    assert comparison.error == pytest.approx(0.11547 / 2 / 2, rel=1e-3)
    assert comparison.gain_over_progress == pytest.approx(0.5)


def test_a_gain_where_the_control_stood_still_is_beyond_its_progress() -> None:
    ones = tensor([1.0, 1.0], dtype=float64)
    assert compare(ones * 0.9, ones, start_loss=1.0).gain_over_progress == LIMIT
    assert compare(ones * 1.1, ones, start_loss=0.5).gain_over_progress == -LIMIT
    assert compare(ones, ones, start_loss=1.0).gain_over_progress == 0.0


def test_a_control_that_diverged_measures_nothing() -> None:
    ones = tensor([1.0, 1.0], dtype=float64)
    assert math.isnan(compare(ones, ones * math.nan, start_loss=1.0).gain)


def test_evaluations_of_different_lengths_are_refused() -> None:
    with pytest.raises(MalformedEvaluation, match="2 losses, then 3"):
        compare(tensor([1.0, 1.0]), tensor([1.0, 1.0, 1.0]), 1.0)
