"""What is written down about one slot: its history, a report on each decided seed, and the run's events."""

from __future__ import annotations

from typing import Any, NamedTuple

from esper.kasmina.lifecycle.ground import Ground
from esper.leyline.events import SeedEvent
from esper.leyline.gates import GateResult
from esper.leyline.reports import FieldReport, SeedMetrics, StageRecord
from esper.leyline.stages import SeedStage


class SeedLabel(NamedTuple):
    """How events name a seed."""

    seed_id: str
    blueprint_id: str
    params: int


class Logbook:
    """One slot's. A deep copy of the host copies it, and goes on writing for itself."""

    def __init__(self, slot: str, ground: Ground) -> None:
        self.slot = slot
        self.history: list[StageRecord] = []
        self.reports: tuple[FieldReport, ...] = ()
        self._ground = ground

    def event(self, kind: type[SeedEvent], seed: SeedLabel, **figures: Any) -> SeedEvent:
        """An event about `seed`, at the run's present moment."""
        ground = self._ground
        return kind(epoch=ground.epoch, step=ground.step, slot=self.slot, **seed._asdict(), **figures)

    def emit(self, kind: type[SeedEvent], seed: SeedLabel, **figures: Any) -> None:
        """Hands an event about `seed` to the run's output."""
        self._ground.emit(self.event(kind, seed, **figures))

    def record(
        self, seed: SeedLabel, source: SeedStage, target: SeedStage, reason: str, gate: GateResult | None
    ) -> None:
        """Writes one line of history; `target` is `source` where a gate refused."""
        ground = self._ground
        self.history.append(
            StageRecord(seed.seed_id, ground.epoch, ground.step, source, target, reason, gate)
        )

    def report(
        self, seed: SeedLabel, metrics: SeedMetrics, control_passes: int, incubation_passes: int
    ) -> None:
        """Reports a seed whose fate the last line of history tells; `metrics` as they were before it."""
        decision = self.history[-1]
        gates = tuple(r.gate for r in self.history if r.seed_id == seed.seed_id and r.gate is not None)
        report = FieldReport(
            slot=self.slot,
            seed_id=seed.seed_id,
            blueprint_id=seed.blueprint_id,
            outcome=decision.target,
            reason=decision.reason,
            metrics=metrics,
            gates=gates,
            control_passes=control_passes,
            incubation_passes=incubation_passes,
        )
        self.reports = (*self.reports, report)
