"""What a stream tells, put in order: the run's curves, and the life of each seed.

Everything that Nissa shows is computed from a `RunHistory`, so two views can never disagree.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from esper.leyline.events import (
    Event,
    GateEvaluated,
    GovernorActed,
    GrowthStepped,
    SeedCulled,
    SeedEvent,
    SeedFossilized,
    SeedGerminated,
    StageChanged,
)
from esper.leyline.run_events import EpochFinished, RunFinished, RunStarted, RunStopped
from esper.leyline.stages import ACTIVE_STAGES, SeedStage

E = TypeVar("E", bound=Event)

OF_A_SEED = ACTIVE_STAGES | {SeedStage.FOSSILIZED, SeedStage.CULLED}


@dataclass(frozen=True)
class StageSpan:
    """A stretch of epochs that a slot spent in one stage; `end` is None while it lasts."""

    stage: SeedStage
    start: int
    end: int | None
    reason: str


@dataclass(frozen=True)
class SeedLife:
    """One seed from germination on. After a cull `spans` go on with its slot's cooling down."""

    seed_id: str
    slot: str
    blueprint_id: str
    params: int
    germinated: SeedGerminated
    spans: tuple[StageSpan, ...]
    gates: tuple[GateEvaluated, ...]
    fossilized: SeedFossilized | None
    culled: SeedCulled | None

    @property
    def is_decided(self) -> bool:
        return self.fossilized is not None or self.culled is not None

    @property
    def stages(self) -> tuple[SeedStage, ...]:
        """The stages that the seed itself went through, in order: to CULLED, not its slot's cooling down."""
        return tuple(span.stage for span in self.spans if span.stage in OF_A_SEED)

    def entered(self, stage: SeedStage) -> int | None:
        """The epoch at the end of which the seed first entered `stage`."""
        return next((span.start for span in self.spans if span.stage is stage), None)


@dataclass(frozen=True)
class RunHistory:
    """A run as far as its stream goes."""

    started: RunStarted | None
    epochs: tuple[EpochFinished, ...]
    steps: tuple[GrowthStepped, ...]
    seeds: tuple[SeedLife, ...]
    governor: tuple[GovernorActed, ...]
    finished: RunFinished | None
    stopped: RunStopped | None

    @property
    def last_epoch(self) -> int:
        return max((entry.epoch for entry in (*self.epochs, *self.steps)), default=0)

    def epoch(self, number: int) -> EpochFinished | None:
        """The figures at the end of epoch `number`."""
        return next((entry for entry in self.epochs if entry.epoch == number), None)

    def accuracy_at(self, seed: SeedLife, stage: SeedStage) -> float | None:
        """Held-out accuracy when `seed` entered `stage`, in 0..1. At BLENDING it is the host's alone."""
        entered = seed.entered(stage)
        figures = None if entered is None else self.epoch(entered)
        return None if figures is None else figures.held_out_accuracy

    def accuracy_change(self, seed: SeedLife) -> float | None:
        """Held-out accuracy when the seed was fossilized less that just before it was blended in."""
        before = self.accuracy_at(seed, SeedStage.BLENDING)
        after = self.accuracy_at(seed, SeedStage.FOSSILIZED)
        return None if before is None or after is None else after - before


@dataclass
class _Draft:
    """A seed's life while its events are being read."""

    germinated: SeedGerminated
    changes: list[StageChanged] = field(default_factory=list)
    gates: list[GateEvaluated] = field(default_factory=list)
    fossilized: SeedFossilized | None = None
    culled: SeedCulled | None = None


def history_of(events: Iterable[Event]) -> RunHistory:
    """Puts a run's events in order. What a slot does while it cools down belongs to its last seed."""
    events = tuple(events)
    drafts = {event.seed_id: _Draft(event) for event in events if isinstance(event, SeedGerminated)}
    last_in_slot: dict[str, _Draft] = {}
    for event in events:
        if isinstance(event, SeedEvent):
            draft = drafts.get(event.seed_id) or last_in_slot.get(event.slot)
            if draft is not None:
                last_in_slot[event.slot] = draft
                _note(draft, event)
    return RunHistory(
        started=_last(events, RunStarted),
        epochs=tuple(event for event in events if isinstance(event, EpochFinished)),
        steps=tuple(event for event in events if isinstance(event, GrowthStepped)),
        seeds=tuple(_life(draft) for draft in drafts.values()),
        governor=tuple(event for event in events if isinstance(event, GovernorActed)),
        finished=_last(events, RunFinished),
        stopped=_last(events, RunStopped),
    )


def _note(draft: _Draft, event: SeedEvent) -> None:
    match event:
        case StageChanged():
            draft.changes.append(event)
        case GateEvaluated():
            draft.gates.append(event)
        case SeedFossilized():
            draft.fossilized = event
        case SeedCulled():
            draft.culled = event
        case _:
            pass


def _life(draft: _Draft) -> SeedLife:
    germinated = draft.germinated
    return SeedLife(
        seed_id=germinated.seed_id,
        slot=germinated.slot,
        blueprint_id=germinated.blueprint_id,
        params=germinated.params,
        germinated=germinated,
        spans=_spans(draft.changes),
        gates=tuple(draft.gates),
        fossilized=draft.fossilized,
        culled=draft.culled,
    )


def _spans(changes: Sequence[StageChanged]) -> tuple[StageSpan, ...]:
    ends: list[int | None] = [*(change.epoch for change in changes[1:]), None][: len(changes)]
    return tuple(
        StageSpan(SeedStage[change.target], change.epoch, end, change.reason)
        for change, end in zip(changes, ends, strict=True)
    )


def _last(events: Sequence[Event], kind: type[E]) -> E | None:
    return next((event for event in reversed(events) if isinstance(event, kind)), None)
