"""What a policy may ask for: wait, germinate, advance a stage, cull, change the blueprint.

An action is a value; Kasmina carries it out, and may refuse it (a gate, an occupied slot).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

BlueprintParameter = int | float | bool | str


@dataclass(frozen=True)
class Wait:
    """Do nothing until the next decision."""

    kind: ClassVar[str] = "WAIT"


@dataclass(frozen=True)
class Germinate:
    """Plant `blueprint` in the dormant slot `slot`; `params` override what the slot's shape offers."""

    blueprint: str
    slot: str
    params: Mapping[str, BlueprintParameter] = field(default_factory=dict)
    kind: ClassVar[str] = "GERMINATE"


@dataclass(frozen=True)
class AdvanceStage:
    """Try the forward transition of `slot`; its gate decides."""

    slot: str
    kind: ClassVar[str] = "ADVANCE_STAGE"


@dataclass(frozen=True)
class Cull:
    """Remove the seed of `slot`; a seed in place takes the host back to before it was blended in."""

    slot: str
    reason: str
    kind: ClassVar[str] = "CULL"


@dataclass(frozen=True)
class ChangeBlueprint:
    """Replace a seed that is not yet in place by a fresh one of `blueprint`."""

    slot: str
    blueprint: str
    params: Mapping[str, BlueprintParameter] = field(default_factory=dict)
    kind: ClassVar[str] = "CHANGE_BLUEPRINT"


Action = Wait | Germinate | AdvanceStage | Cull | ChangeBlueprint

_KINDS: Mapping[str, type[Action]] = {
    action.kind: action for action in (Wait, Germinate, AdvanceStage, Cull, ChangeBlueprint)
}
ACTION_KINDS: tuple[str, ...] = tuple(_KINDS)


def to_record(action: Action) -> dict[str, Any]:
    """The action as JSON types."""
    return {"kind": action.kind, **asdict(action)}


def from_record(record: Mapping[str, Any]) -> Action:
    """The action of which `to_record` gave `record`."""
    return _KINDS[record["kind"]](**{name: value for name, value in record.items() if name != "kind"})
