"""Where a run stands, from its stream alone: each slot's stage and tier, and the last events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from esper.leyline.events import GrowthStepped
from esper.leyline.run_events import EpochFinished
from esper.leyline.stages import SeedStage
from esper.nissa.console import describe
from esper.nissa.history import RunHistory, history_of
from esper.nissa.stream import SCHEMA_VERSION, Recorded
from esper.nissa.tables import MISSING, percent


@dataclass(frozen=True)
class SlotStatus:
    """One slot; what belongs to a seed is None where there is none."""

    slot: str
    stage: str
    alpha: float | None
    seed_id: str | None
    blueprint_id: str | None
    params: int | None
    tier: str | None


@dataclass(frozen=True)
class RunStatus:
    """A run as far as its stream goes. `state` is `running`, `finished` or `stopped`."""

    run_id: str
    state: str
    task: str
    host: str
    policy: str
    epoch: int
    epochs: int
    held_out_accuracy: float | None
    test_accuracy: float | None
    slots: tuple[SlotStatus, ...]
    last_events: tuple[str, ...]
    """Each in a line of words, oldest first."""

    def to_json(self) -> dict[str, Any]:
        return {"schema_version": SCHEMA_VERSION, **asdict(self)}


def run_status(stream: Sequence[Recorded], last: int = 8) -> RunStatus:
    """The status of a stream; of its events, the `last` that are worth a line."""
    events = [recorded.event for recorded in stream]
    history = history_of(events)
    run, final = history.started, history.epochs[-1] if history.epochs else None
    lines = [f"epoch {e.epoch:>3}  {line}" for e in events if (line := describe(e)) is not None]
    state = "finished" if history.finished else "stopped" if history.stopped else "running"
    return RunStatus(
        run_id=stream[-1].run_id if stream else "",
        state=state,
        task=run.task if run else "",
        host=run.host if run else "",
        policy=run.policy if run else "",
        epoch=history.last_epoch,
        epochs=run.epochs if run else 0,
        held_out_accuracy=final.held_out_accuracy if final else None,
        test_accuracy=final.test_accuracy if final else None,
        slots=tuple(_slot(history, name, final) for name in (run.slots if run else ())),
        last_events=tuple(lines[-last:]) if last > 0 else (),
    )


def _slot(history: RunHistory, name: str, final: EpochFinished | None) -> SlotStatus:
    seed = next((seed for seed in reversed(history.seeds) if seed.slot == name), None)
    stage = seed.spans[-1].stage if seed is not None and seed.spans else SeedStage.DORMANT
    is_occupied = seed is not None and seed.culled is None
    return SlotStatus(
        slot=name,
        stage=stage.name,
        alpha=_alpha(history.steps[-1], name) if history.steps else None,
        seed_id=seed.seed_id if seed is not None and is_occupied else None,
        blueprint_id=seed.blueprint_id if seed is not None and is_occupied else None,
        params=seed.params if seed is not None and is_occupied else None,
        tier=final.tiers.get(name) if final is not None and is_occupied else None,
    )


def _alpha(step: GrowthStepped, slot: str) -> float | None:
    return next((entry.get("alpha") for entry in step.slots if entry.get("slot") == slot), None)


def status_text(status: RunStatus) -> str:
    """The status in aligned columns, for a terminal or a file."""
    accuracy = percent(status.test_accuracy)
    head = (
        f"{status.task} on {status.host}, policy {status.policy}: {status.state}, "
        f"epoch {status.epoch} of {status.epochs}, test accuracy {accuracy}"
    )
    rows = [("slot", "stage", "alpha", "blueprint", "parameters", "tier")]
    for slot in status.slots:
        alpha = MISSING if slot.alpha is None else f"{slot.alpha:.2f}"
        params = MISSING if slot.params is None else f"{slot.params:,}"
        rows.append(
            (slot.slot, slot.stage, alpha, slot.blueprint_id or MISSING, params, slot.tier or MISSING)
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    table = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    return "\n".join([head, "", *table, *(("", *status.last_events) if status.last_events else ())])
