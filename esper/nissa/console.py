"""The console: one line for each thing that happens to a seed, as it happens, and backends side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from esper.leyline.events import (
    ActionRefused,
    Event,
    GateEvaluated,
    GovernorActed,
    SeedCulled,
    SeedEvent,
    SeedFossilized,
    SeedGerminated,
    StageChanged,
)
from esper.leyline.protocols import OutputBackend
from esper.leyline.run_events import RunStopped

TOLD_BY_EVENTS_OF_THEIR_OWN = ("GERMINATED", "FOSSILIZED", "CULLED")
COOLING_DOWN = ("EMBARGOED", "RESETTING", "DORMANT")


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

    Gates, refused actions and cooling down are told only when `verbose`.
    """
    match event:
        case SeedGerminated():
            return _line(event, "GERMINATED", f"{event.blueprint_id}, {event.params:,} parameters")
        case StageChanged() if event.target in TOLD_BY_EVENTS_OF_THEIR_OWN:
            return None
        case StageChanged() if verbose or event.target not in COOLING_DOWN:
            return _line(event, event.target, event.reason)
        case SeedFossilized():
            if event.improvement is None or event.standard_error is None:
                return _line(event, "FOSSILIZED", f"{event.blueprint_id}, its gain not measured")
            gain, error = 100.0 * event.improvement, 100.0 * event.standard_error
            said = f"{event.blueprint_id}, {gain:.1f} ± {error:.1f} % less loss than its control"
            return _line(event, "FOSSILIZED", said)
        case SeedCulled():
            undone = "; host rolled back" if event.rolled_back else ""
            return _line(event, "CULLED", f"{event.blueprint_id} {event.reason}{undone}")
        case GateEvaluated() if verbose:
            word = "waived" if event.waived else "refused"
            verdict = "passed" if event.passed else f"{word}: {'; '.join(event.failures)}"
            return _line(event, event.level, verdict)
        case ActionRefused() if verbose:
            return f"{event.slot or 'run'}  {event.action} refused: {event.reason}"
        case GovernorActed():
            return f"governor {event.action.replace('_', ' ')}: {event.reason}"
        case RunStopped():
            return f"stopped: {event.reason}"
        case _:
            return None


def _line(event: SeedEvent, word: str, said: str) -> str:
    return f"{event.slot}  {word:<12}  {said}"
