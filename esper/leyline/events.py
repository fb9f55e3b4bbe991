"""Telemetry event contracts: one frozen dataclass a kind, with the fields that its readers may rely on.

An event is what happened in the run, without clock times and without the environment's name: the
stream's writer adds schema_version, run_id, seq and time, and Simic adds env_id.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from esper.leyline.errors import MalformedEvent, UnknownEventKind

EVENT_KINDS: dict[str, type[Event]] = {}
"""Every event class by its kind; a class joins when it is defined."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """Where in the run something happened. `epoch` counts growth steps, `step` optimizer steps."""

    kind: ClassVar[str] = ""
    epoch: int
    step: int

    def __init_subclass__(cls) -> None:
        if cls.kind:
            EVENT_KINDS[cls.kind] = cls

    def to_record(self) -> dict[str, Any]:
        """A JSON-ready dict with `kind` first."""
        return {"kind": self.kind, **dataclasses.asdict(self)}


@dataclass(frozen=True, kw_only=True)
class SeedEvent(Event):
    """Something that happened to one seed."""

    slot: str
    seed_id: str
    blueprint_id: str
    params: int


@dataclass(frozen=True, kw_only=True)
class SeedGerminated(SeedEvent):
    """A seed was planted. `blueprint_params` are the arguments that its blueprint was given."""

    kind: ClassVar[str] = "seed_germinated"
    blueprint_params: dict[str, Any] = field(default_factory=dict)
    shape: list[int] = field(default_factory=list)
    """Of the tensor at the slot, the probe's batch included."""


@dataclass(frozen=True, kw_only=True)
class StageChanged(SeedEvent):
    """A slot went from one stage to the next; stages are given by name."""

    kind: ClassVar[str] = "stage_changed"
    source: str
    target: str
    reason: str
    alpha: float


@dataclass(frozen=True, kw_only=True)
class GateEvaluated(SeedEvent):
    """A gate was tried. `figures` holds every figure it asks for, None where not measured.

    `waived` says that it did not pass, and the seed went on because the gates are permissive.
    """

    kind: ClassVar[str] = "gate_evaluated"
    level: str
    passed: bool
    figures: dict[str, float | None]
    failures: list[str]
    waived: bool = False


@dataclass(frozen=True, kw_only=True)
class SeedFossilized(SeedEvent):
    """A seed became part of the host. `improvement`: relative gain in held-out loss over the control.

    Where a permissive gate let an unmeasured seed through, the figures of the comparison are None.
    """

    kind: ClassVar[str] = "seed_fossilized"
    params_added: int
    improvement: float | None
    standard_error: float | None
    """Of the paired difference behind `improvement`, in the same relative unit."""
    grown_loss: float | None
    control_loss: float | None
    control_passes: int
    incubation_passes: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class SeedCulled(SeedEvent):
    """A seed was removed; `rolled_back` says that host and optimizer went back to before its blending.

    `lost_steps` counts the host's optimizer steps that were undone by it.
    """

    kind: ClassVar[str] = "seed_culled"
    stage: str
    reason: str
    rolled_back: bool
    improvement: float | None
    control_passes: int
    incubation_passes: int
    lost_steps: int = 0


@dataclass(frozen=True, kw_only=True)
class GovernorActed(Event):
    """The governor stopped something. `action` is `rolled_back` or `stopped`."""

    kind: ClassVar[str] = "governor_acted"
    action: str
    reason: str
    slot: str | None
    loss: float | None
    """None where the loss was not a number."""


@dataclass(frozen=True, kw_only=True)
class ActionRefused(Event):
    """A policy's action was not carried out; the run went on."""

    kind: ClassVar[str] = "action_refused"
    action: str
    slot: str | None
    code: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class GrowthStepped(Event):
    """One growth step's figures: the curve of the run, and every slot's state in it."""

    kind: ClassVar[str] = "growth_stepped"
    train_loss: float | None
    val_loss: float | None
    val_accuracy: float | None
    gradient_norm: float | None
    slots: list[dict[str, Any]]
    """For each slot: slot, stage, alpha, seed_id, blueprint_id, params, gradient_ratio, descent."""


def event_from_record(record: Mapping[str, Any]) -> Event:
    """The event behind a record of `to_record`, fields of the stream's writer ignored.

    Raises UnknownEventKind, and MalformedEvent for a missing field or one of another type.
    """
    kind = record.get("kind")
    event = EVENT_KINDS.get(kind) if isinstance(kind, str) else None
    if event is None:
        raise UnknownEventKind(kind=kind, known=", ".join(sorted(EVENT_KINDS)))
    hints = typing.get_type_hints(event)
    values: dict[str, Any] = {}
    names = ", ".join(entry.name for entry in dataclasses.fields(event))
    for entry in dataclasses.fields(event):
        if entry.name in record:
            value = record[entry.name]
            if not _has_type(value, hints[entry.name]):
                reason = f"has {value!r} for `{entry.name}`, which is not of its type"
                raise MalformedEvent(kind=kind, reason=reason, fields=names)
            values[entry.name] = value
        elif entry.default is dataclasses.MISSING and entry.default_factory is dataclasses.MISSING:
            raise MalformedEvent(kind=kind, reason=f"lacks `{entry.name}`", fields=names)
    return event(**values)


def _has_type(value: object, hint: Any) -> bool:
    origin = typing.get_origin(hint)
    if origin in (types.UnionType, typing.Union):
        return any(_has_type(value, member) for member in typing.get_args(hint))
    if origin is not None:
        return isinstance(value, origin)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)
