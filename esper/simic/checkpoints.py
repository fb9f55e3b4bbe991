"""A run's checkpoints: `checkpoints/step-NNNNNNNN.safetensors` in its folder, and the one it goes on from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from esper.files import FileUnwritable
from esper.kasmina.checkpoints.checkpoint import restore, save_checkpoint
from esper.kasmina.checkpoints.file import alike, read_checkpoint
from esper.kasmina.training.growth import Growth
from esper.nissa.stream import EventStream
from esper.simic.errors import NoRunCheckpoint

FOLDER = "checkpoints"
SET_ASIDE = "set-aside"


@dataclass(frozen=True)
class SavedRun:
    """A checkpoint that was read."""

    path: Path
    values: Mapping[str, Any]

    @property
    def events(self) -> int:
        """How many events the run had written."""
        return int(self.values["objects"]["events"]["seq"])

    @property
    def step(self) -> int:
        return int(self.values["objects"]["run"]["step"])

    @property
    def result(self) -> dict[str, Any] | None:
        """How the run ended, if it has."""
        found: dict[str, Any] | None = self.values["objects"]["run"]["result"]
        return found


def checkpoint_path(run: Path, step: int) -> Path:
    """Where the checkpoint after `step` optimizer steps lies."""
    return run / FOLDER / f"step-{step:08d}.safetensors"


def newest_checkpoint(run: Path) -> Path | None:
    """The checkpoint of the run in `run` with the most steps, if it has any."""
    found = alike(checkpoint_path(run, 0))
    return found[-1] if found else None


def read_saved_run(path: Path) -> SavedRun:
    """The checkpoint at `path`. Raises CheckpointUnreadable, CheckpointTooNew, NoRunCheckpoint."""
    values = read_checkpoint(path)
    if not {"events", "run"} <= set(values.get("objects", {})):
        raise NoRunCheckpoint(path=path)
    return SavedRun(path, values)


def set_later_aside(path: Path) -> None:
    """Moves the checkpoints that come after the one at `path` into a folder beside: their run is given up.

    Raises FileUnwritable.
    """
    found = alike(path)
    aside = path.parent / SET_ASIDE
    try:
        for entry in found[found.index(path) + 1 :]:
            aside.mkdir(exist_ok=True)
            entry.replace(aside / entry.name)
    except OSError as error:
        raise FileUnwritable(path=aside, reason=error.strerror) from error


@dataclass(frozen=True)
class Checkpoints:
    """Where and when a run saves itself, beside the stream whose events it has to remember."""

    run: Path
    stream: EventStream
    every: int
    """Optimizer steps from one to the next; 0 for one after each epoch."""
    keep: int
    start: SavedRun | None = None
    """What the run goes on from."""

    def is_due(self, step: int) -> bool:
        """Whether one is due within an epoch, after `step` steps."""
        return self.every > 0 and step % self.every == 0

    def save(self, step: int, growth: Growth, **objects: Any) -> None:
        """Saves the run with the number of its events. Raises FileUnwritable, CannotCheckpoint."""
        path = checkpoint_path(self.run, step)
        try:
            path.parent.mkdir(exist_ok=True)
        except OSError as error:
            raise FileUnwritable(path=path, reason=error.strerror) from error
        self.stream.sync()
        save_checkpoint(path, growth=growth, events=self.stream, keep=self.keep, **objects)

    def restore(self, growth: Growth, **objects: Any) -> None:
        """Gives the run what `start` holds. Raises what `load_checkpoint` raises."""
        if self.start is not None:
            restore(self.start.path, self.start.values, growth, {"events": self.stream, **objects})
