"""The stage machine: every pair of stages, and what an invalid transition says."""

import itertools

import pytest

from esper.leyline.errors import InvalidTransition
from esper.leyline.stages import (
    TRANSITIONS,
    SeedStage,
    check_transition,
    is_active_stage,
    is_failure_stage,
    is_in_place_stage,
    is_terminal_stage,
    is_valid_transition,
)

FORWARD = ["DORMANT", "GERMINATED", "TRAINING", "BLENDING", "SHADOWING", "PROBATIONARY", "FOSSILIZED"]
ACTIVE = FORWARD[1:-1]
VALID = {
    *itertools.pairwise(FORWARD),
    *((stage, "CULLED") for stage in ACTIVE),
    *itertools.pairwise(["CULLED", "EMBARGOED", "RESETTING", "DORMANT"]),
    ("UNKNOWN", "DORMANT"),
}


def test_there_are_eleven_stages() -> None:
    assert len(SeedStage) == 11
    assert set(TRANSITIONS) == set(SeedStage)


@pytest.mark.parametrize("source", SeedStage)
@pytest.mark.parametrize("target", SeedStage)
def test_exactly_the_stated_transitions_are_valid(source: SeedStage, target: SeedStage) -> None:
    valid = (source.name, target.name) in VALID
    assert is_valid_transition(source, target) == valid
    if valid:
        check_transition(source, target)
        return
    with pytest.raises(InvalidTransition) as raised:
        check_transition(source, target)
    text = f"{raised.value} {raised.value.help_text}"
    assert source.name in text
    assert target.name in text
    assert all(stage.name in text for stage in TRANSITIONS[source])


def test_only_a_fossilized_seed_is_final() -> None:
    assert [stage for stage in SeedStage if is_terminal_stage(stage)] == [SeedStage.FOSSILIZED]


def test_active_stages_are_those_a_seed_can_be_culled_from() -> None:
    assert [stage.name for stage in SeedStage if is_active_stage(stage)] == ACTIVE
    assert all(is_valid_transition(stage, SeedStage.CULLED) == is_active_stage(stage) for stage in SeedStage)


def test_failure_stages_are_culled_and_embargoed() -> None:
    assert [stage.name for stage in SeedStage if is_failure_stage(stage)] == ["CULLED", "EMBARGOED"]


def test_a_seed_is_in_place_from_blending_on() -> None:
    in_place = [stage.name for stage in SeedStage if is_in_place_stage(stage)]
    assert in_place == ["BLENDING", "SHADOWING", "PROBATIONARY", "FOSSILIZED"]


def test_every_stage_but_unknown_is_reached_from_dormant() -> None:
    reached, frontier = set(), [SeedStage.DORMANT]
    while frontier:
        stage = frontier.pop()
        if stage not in reached:
            reached.add(stage)
            frontier.extend(TRANSITIONS[stage])
    assert reached == set(SeedStage) - {SeedStage.UNKNOWN}
