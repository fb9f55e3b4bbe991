"""The eleven stages of a seed's life, and the transitions between them as a table.

A seed goes forward through the active stages to FOSSILIZED; from any active stage it may be culled,
and its slot then cools down (EMBARGOED), resets and is DORMANT again.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType

from esper.leyline.errors import InvalidTransition


class SeedStage(IntEnum):
    """Where a slot's seed stands. The numbers order the forward path and go into policies' features."""

    UNKNOWN = 0
    DORMANT = 1
    GERMINATED = 2
    TRAINING = 3
    BLENDING = 4
    SHADOWING = 5
    PROBATIONARY = 6
    FOSSILIZED = 7
    CULLED = 8
    EMBARGOED = 9
    RESETTING = 10


_S = SeedStage

TRANSITIONS: Mapping[SeedStage, tuple[SeedStage, ...]] = MappingProxyType(
    {
        _S.UNKNOWN: (_S.DORMANT,),
        _S.DORMANT: (_S.GERMINATED,),
        _S.GERMINATED: (_S.TRAINING, _S.CULLED),
        _S.TRAINING: (_S.BLENDING, _S.CULLED),
        _S.BLENDING: (_S.SHADOWING, _S.CULLED),
        _S.SHADOWING: (_S.PROBATIONARY, _S.CULLED),
        _S.PROBATIONARY: (_S.FOSSILIZED, _S.CULLED),
        _S.FOSSILIZED: (),
        _S.CULLED: (_S.EMBARGOED,),
        _S.EMBARGOED: (_S.RESETTING,),
        _S.RESETTING: (_S.DORMANT,),
    }
)
"""The valid successors of each stage; the first is the one forward."""

ACTIVE_STAGES = frozenset({_S.GERMINATED, _S.TRAINING, _S.BLENDING, _S.SHADOWING, _S.PROBATIONARY})
IN_PLACE_STAGES = frozenset({_S.BLENDING, _S.SHADOWING, _S.PROBATIONARY, _S.FOSSILIZED})
FAILURE_STAGES = frozenset({_S.CULLED, _S.EMBARGOED})


def is_valid_transition(source: SeedStage, target: SeedStage) -> bool:
    """Whether a seed may go from `source` to `target` in one step."""
    return target in TRANSITIONS[source]


def check_transition(source: SeedStage, target: SeedStage) -> None:
    """Raises `InvalidTransition`, naming both stages and the valid ones, unless the step is valid."""
    if not is_valid_transition(source, target):
        valid = ", ".join(stage.name for stage in TRANSITIONS[source])
        raise InvalidTransition(source=source.name, target=target.name, valid=valid or "no other stage")


def is_terminal_stage(stage: SeedStage) -> bool:
    """Whether nothing follows `stage`."""
    return not TRANSITIONS[stage]


def is_active_stage(stage: SeedStage) -> bool:
    """Whether a seed is alive and undecided: GERMINATED to PROBATIONARY."""
    return stage in ACTIVE_STAGES


def is_in_place_stage(stage: SeedStage) -> bool:
    """Whether the host's outputs depend on the seed: BLENDING to FOSSILIZED."""
    return stage in IN_PLACE_STAGES


def is_failure_stage(stage: SeedStage) -> bool:
    """Whether the seed failed: CULLED, or EMBARGOED after it."""
    return stage in FAILURE_STAGES
