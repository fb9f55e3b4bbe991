"""A whole run: its folder, its stream, the training, the report. What `esper train` does, as functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from esper.leyline.protocols import OutputBackend
from esper.leyline.run_events import EpochFinished
from esper.nissa.console import Fanout
from esper.nissa.history import RunHistory, history_of
from esper.nissa.report import write_report
from esper.nissa.stream import FILE_NAME, EventStream, check_idle, read_stream, set_aside
from esper.simic.checkpoints import (
    FOLDER,
    Checkpoints,
    SavedRun,
    newest_checkpoint,
    read_saved_run,
    set_later_aside,
)
from esper.simic.config import TrainConfig, load_config, resumed_config
from esper.simic.errors import NoRunToResume
from esper.simic.reporting import run_report
from esper.simic.run_directory import (
    CONFIG,
    RunDirectory,
    check_own,
    create_run_directory,
    reopened_run_directory,
)
from esper.simic.train import TrainResult, train


@dataclass(frozen=True)
class FinishedRun:
    """A run that came to an end, by its last epoch or by a signal."""

    directory: RunDirectory
    result: TrainResult
    history: RunHistory


@dataclass(frozen=True)
class PlannedRun:
    """What is to be run and where; `start` is the checkpoint it goes on from."""

    config: TrainConfig
    out: Path | None
    start: SavedRun | None = None
    begins_again: bool = False
    """Whether `out` holds a run that stopped before its first checkpoint, whose events are set aside."""


def plan_run(
    config: Path | None, options: Mapping[str, Any], out: Path | None = None, resume: str | Path | None = None
) -> PlannedRun:
    """The run that a configuration file and options ask for.

    resume: None for a run from its beginning; "auto" for the newest checkpoint of the run in `out`, or a run
    from its beginning where there is none; else a checkpoint's path. What the run was begun with need not be
    said again, but for a host that is imported.
    Raises what `load_config` and `resumed_config` raise, NoRunToResume, CheckpointUnreadable and others for a
    checkpoint that cannot be read.
    """
    if resume == "auto":
        path = None if out is None else newest_checkpoint(out)
    elif resume is not None:
        path = Path(resume)
        if path.parent.name != FOLDER or not (path.parent.parent / CONFIG).is_file():
            raise NoRunToResume(path=path, reason=f"there is no {CONFIG} two folders up")
        if out is not None and out.resolve() != path.parent.parent.resolve():
            raise NoRunToResume(path=path, reason=f"--out is {out}")
    else:
        path = None
    if path is not None:
        run = path.parent.parent
        return PlannedRun(resumed_config(run / CONFIG, config, options), run, read_saved_run(path))
    if resume == "auto" and out is not None and (out / CONFIG).is_file():
        return PlannedRun(resumed_config(out / CONFIG, config, options), out, begins_again=True)
    return PlannedRun(load_config(config, options), out)


def run_planned(
    planned: PlannedRun,
    watchers: Sequence[OutputBackend] = (),
    progress: Callable[[EpochFinished], None] = lambda epoch: None,
) -> FinishedRun:
    """Carries out what `plan_run` found. Raises `EsperError`."""
    if planned.begins_again and planned.out is not None:
        check_own(planned.out)
        set_aside(planned.out / FILE_NAME, 0)
    return run_training(planned.config, planned.out, watchers, progress, planned.start)


def run_training(
    config: TrainConfig,
    out: Path | None = None,
    watchers: Sequence[OutputBackend] = (),
    progress: Callable[[EpochFinished], None] = lambda epoch: None,
    start: SavedRun | None = None,
) -> FinishedRun:
    """Trains into `out`, or into a free folder, and leaves events, checkpoints and report there.

    start: the checkpoint in `out` to go on from; events and checkpoints that come after it are set aside, and
    a run that is finished already is left as it is.
    A run that fails before its first event leaves nothing; one that fails later leaves what it has.
    Raises `EsperError`.
    """
    if start is None:
        directory = create_run_directory(config, out)
        stream = EventStream(directory.events, directory.run_id)
    else:
        folder = start.path.parent.parent
        check_idle(folder / FILE_NAME)
        directory = reopened_run_directory(folder, start.path, start.step)
        if start.result is not None:
            return _finished(directory, TrainResult.from_record(start.result))
        set_later_aside(start.path)
        set_aside(directory.events, start.events)
        stream = EventStream(directory.events, directory.run_id, seq=start.events)
    checkpoints = Checkpoints(directory.path, stream, config.checkpoint_every, config.keep_checkpoints, start)
    try:
        with stream:
            result = train(config, Fanout([stream, *watchers]), progress, checkpoints)
    finally:
        if stream.is_empty:
            directory.discard()
        else:
            write_report(directory.report, run_report(directory.path))
    return _finished(directory, result)


def _finished(directory: RunDirectory, result: TrainResult) -> FinishedRun:
    """The run in `directory`, with its report, which a run killed at its very end did not write."""
    if not directory.report.exists():
        write_report(directory.report, run_report(directory.path))
    history = history_of(recorded.event for recorded in read_stream(directory.path))
    return FinishedRun(directory, result, history)
