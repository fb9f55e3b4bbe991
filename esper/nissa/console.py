"""The console: one line for each thing that happens to a seed, as it happens, and backends side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from esper.leyline.events import (
    ActionRefused,
    Event,
    GateEvaluated,
    GovernorActed,
    SeedCulled,
    SeedFossilized,
    SeedGerminated,
    StageChanged,
)
from esper.leyline.protocols import OutputBackend


class ConsoleBackend:
    """Hands `write` a line of plain text for each event worth one; the others pass in silence."""

    def __init__(self, write: Callable[[str], None], verbose: bool = False) -> None:
        self._write = write
        self._verbose = verbose

    def emit(self, event: Event) -> None:
        line = describe(event, self._verbose)
        if line is not None:
            self._write(f"epoch {event.epoch:>3}  {line}")


class Fanout:
    """Hands each event to several backends in order."""

    def __init__(self, backends: Sequence[OutputBackend]) -> None:
        self._backends = tuple(backends)

    def emit(self, event: Event) -> None:
        for backend in self._backends:
            backend.emit(event)


def describe(event: Event, verbose: bool = False) -> str | None:
    """An event in a line of plain words, or None if it is not worth one.

    Refused gates and actions are told only when `verbose`.
    """
    match event:
        case SeedGerminated():
            return f"{event.slot}: {event.blueprint_id} germinated, {event.params:,} parameters"
        case StageChanged():
            return f"{event.slot}: {event.source} to {event.target} ({event.reason})"
        case SeedFossilized():
            gain, error = 100.0 * event.improvement, 100.0 * event.standard_error
            return (
                f"{event.slot}: {event.blueprint_id} fossilized, {gain:.1f} ± {error:.1f} % over its control"
            )
        case SeedCulled():
            undone = ", host rolled back" if event.rolled_back else ""
            return f"{event.slot}: {event.blueprint_id} culled in {event.stage} ({event.reason}){undone}"
        case GovernorActed():
            return f"governor: {event.action.replace('_', ' ')} ({event.reason})"
        case GateEvaluated() if verbose:
            verdict = "passed" if event.passed else f"refused: {'; '.join(event.failures)}"
            return f"{event.slot}: gate {event.level} {verdict}"
        case ActionRefused() if verbose:
            return f"{event.slot or 'run'}: {event.action} refused ({event.reason})"
        case _:
            return None
