"""What the systems ask of each other, as structural types: no system imports another's classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from esper.leyline.actions import Action
from esper.leyline.events import Event
from esper.leyline.signals import TrainingSignals


@runtime_checkable
class BlueprintProtocol(Protocol):
    """A blueprint with every parameter bound: what a slot needs to know of it."""

    @property
    def name(self) -> str: ...

    @property
    def hash(self) -> str: ...

    @property
    def parameters(self) -> int: ...


@runtime_checkable
class TamiyoPolicy(Protocol):
    """Decides what to do with the slots. Rule-based and learned policies are interchangeable."""

    def decide(self, signals: TrainingSignals) -> Sequence[Action]:
        """The actions for this moment, carried out in order; an empty sequence waits."""
        ...


@runtime_checkable
class OutputBackend(Protocol):
    """Where telemetry events go."""

    def emit(self, event: Event) -> None:
        """Takes one event; it must not change the run, whatever becomes of the event."""
        ...
