"""Predictions: a declared law of time is recovered, corrected, told with intervals, and written down."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esper.lang import lower, size_values
from esper.tezzeret.prediction import Observation, Predictor, Profile, fit
from esper.tezzeret.prediction.calls import ACCUMULATE, VIEWS, Call, Calls, calls_of
from esper.tezzeret.prediction.device import Rates
from esper.tezzeret.prediction.errors import PredictorForeign, ProfileForeign
from esper.tezzeret.prediction.predictor import LEAST_FAMILIES, QUANTITIES, corrected
from esper.tezzeret.prediction.profile import CHAIN, Both, Direction, profile_of, tiny
from esper.tezzeret.prediction.sweep import Use, uses

AROUND = {"forward": 5e-6, "backward": 12e-6}
HOST = {"forward": 2e-6, "backward": 6e-6}
RATES = Rates(50e9, 10e9)
OPERATORS = ("transpose", "linear", "gelu", "layer_norm", "add", "accumulate")


def law(call: Call, direction: Direction) -> float:
    """Seconds of a call: its host, and half as much again as the roofline; a narrow product is slower."""
    if call.op in VIEWS:
        return HOST[direction]
    if call.op == ACCUMULATE:
        return 0.0 if direction == "forward" else call.bytes / RATES.bytes_per_second
    work = max(call.flops / RATES.flops_per_second, call.bytes / RATES.bytes_per_second)
    narrow = 1 + 2 ** (3 - call.figures[1]) if call.op == "linear" else 1.0
    return HOST[direction] + (1.5 if direction == "forward" else 3.0) * narrow * work


def lawful(calls: Sequence[Call]) -> Both:
    times = {
        direction: AROUND[direction] + sum(law(call, direction) for call in calls)
        for direction in ("forward", "backward")
    }
    return Both(**times)


@pytest.fixture(scope="module")
def profile() -> Profile:
    drawn = [use for use in uses(0, 0.5) if use.op in OPERATORS]
    times = {use: lawful(calls_of(use.lower(), {}).calls) for use in (tiny(1), tiny(CHAIN), *drawn)}
    return profile_of("a processor", "1.0", RATES, times)


@pytest.fixture(scope="module")
def bare(profile: Profile) -> Predictor:
    return fit(profile)


def block(features: int = 64, **sizes: int) -> Calls:
    ir = lower("mlp_block", features=features, sizes={"S": 4})
    return calls_of(ir, {**size_values(ir), **sizes})


def test_a_declared_law_is_recovered_at_sizes_that_were_not_measured(bare: Predictor) -> None:
    errors = []
    for use in uses(1, 0.3):
        if use.op in OPERATORS:
            calls = calls_of(use.lower(), {})
            true = lawful(calls.calls)
            found = bare.of(calls)
            errors.append(abs(math.log(found.step.seconds / (true.forward + true.backward))))
    assert len(errors) > 60
    assert sorted(errors)[int(0.9 * len(errors))] < 0.10


def test_a_block_takes_what_its_parts_take(bare: Predictor) -> None:
    true = lawful(block(N=8).calls)
    found = bare.of(block(N=8))
    assert found.forward.seconds == pytest.approx(true.forward, rel=0.1)
    assert found.step.seconds == pytest.approx(true.forward + true.backward, rel=0.1)


@settings(max_examples=25)
@given(features=st.integers(2, 24), examples=st.integers(1, 8))
def test_twice_the_examples_and_the_features_never_take_less(
    bare: Predictor, features: int, examples: int
) -> None:
    less, more = bare.of(block(8 * features, N=examples)), bare.of(block(16 * features, N=2 * examples))
    assert less.forward.seconds < more.forward.seconds
    assert less.step.seconds < more.step.seconds
    assert less.forward.seconds < less.step.seconds


def observations(families: int, rng: random.Random, bias: float) -> list[Observation]:
    """Blocks that take `bias` as long as the law says, but for an error of each family's own."""
    found = []
    for family in range(families):
        own = bias * rng.lognormvariate(0, 0.05)
        for _ in range(3):
            calls = block(8 * rng.randint(2, 30), N=rng.randint(1, 8))
            true = lawful(calls.calls)
            seconds = {"forward": true.forward * own, "step": (true.forward + true.backward) * own}
            found.append(Observation(str(family), calls, {name: seconds[name] for name in QUANTITIES}))
    return found


def test_what_all_families_have_in_common_is_corrected(bare: Predictor) -> None:
    predictor = corrected(bare, observations(24, random.Random(0), 1.4))
    for one in observations(8, random.Random(1), 1.4):
        assert predictor.of(one.calls).step.seconds == pytest.approx(one.seconds["step"], rel=0.2)


def test_intervals_hold_a_further_family_about_as_often_as_they_say(bare: Predictor) -> None:
    predictor = corrected(bare, observations(30, random.Random(2), 1.2))
    further = observations(60, random.Random(3), 1.2)
    held = [one for one in further if _holds(predictor, one)]
    assert 0.8 <= len(held) / len(further) <= 0.99


def _holds(predictor: Predictor, one: Observation) -> bool:
    estimate = predictor.of(one.calls).step
    return estimate.low <= one.seconds["step"] <= estimate.high


def test_too_few_families_give_no_interval_and_no_correction(bare: Predictor) -> None:
    few = observations(LEAST_FAMILIES - 1, random.Random(0), 3.0)
    found = corrected(bare, few).of(block(N=4))
    assert (found.step.low, found.step.high, found.step.has_interval) == (0.0, math.inf, False)
    assert found.step.seconds == bare.of(block(N=4)).step.seconds
    assert found.families == LEAST_FAMILIES - 1


def test_an_operator_that_was_not_measured_is_named_and_widens_the_interval(bare: Predictor) -> None:
    known = corrected(bare, observations(12, random.Random(0), 1.0))
    models = {op: model for op, model in known.operators.models.items() if op != "gelu"}
    ignorant = replace(known, operators=replace(known.operators, models=models, _known={}))
    sure, unsure = known.of(block(N=4)), ignorant.of(block(N=4))
    assert (sure.unmeasured, unsure.unmeasured) == ((), ("gelu",))
    assert unsure.step.high / unsure.step.low > sure.step.high / sure.step.low


def test_what_is_written_down_predicts_alike(bare: Predictor, profile: Profile) -> None:
    predictor = corrected(bare, observations(12, random.Random(0), 1.1))
    again = Predictor.from_json(predictor.to_json(), "x")
    assert again.of(block(N=4)) == predictor.of(block(N=4))
    assert again.to_json() == predictor.to_json()
    assert Profile.from_json(profile.model_dump_json(), "x") == profile


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"schema_version": 2}, "schema version 2"),
        ({"operators": None}, "NoneType"),
        ({"corrections": {}}, "missing"),
        ({"scores": {"forward": [["a"]], "step": []}}, "values to unpack"),
    ],
)
def test_another_document_is_refused(bare: Predictor, change: dict[str, object], reason: str) -> None:
    document = json.loads(bare.to_json()) | change
    with pytest.raises(PredictorForeign, match=reason) as caught:
        Predictor.from_json(json.dumps(document), "some.json")
    assert "some.json" in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"schema_version": 1'])
def test_a_text_that_is_no_document_is_refused(text: str) -> None:
    with pytest.raises(PredictorForeign):
        Predictor.from_json(text, "x")
    with pytest.raises(ProfileForeign):
        Profile.from_json(text, "x")


def test_a_profile_with_a_time_below_zero_is_refused_by_its_place(profile: Profile) -> None:
    document = json.loads(profile.model_dump_json())
    document["uses"][0]["time"]["forward"] = -1.0
    with pytest.raises(ProfileForeign, match=r"uses\.0\.time\.forward"):
        Profile.from_json(json.dumps(document), "x")


def test_a_use_is_a_blueprint_that_stands_alone() -> None:
    use = Use("add", ((2, 3), (3,)), "add(x, y)")
    assert use.lower().inputs[1].type.shape == (3,)
