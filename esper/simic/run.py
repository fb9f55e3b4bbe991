"""A whole run: its folder, its stream, the training, the report. What `esper train` does, as a function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from esper.leyline.protocols import OutputBackend
from esper.leyline.run_events import EpochFinished
from esper.nissa.console import Fanout
from esper.nissa.history import RunHistory, history_of
from esper.nissa.report import write_report
from esper.nissa.stream import EventStream, read_stream
from esper.simic.config import TrainConfig
from esper.simic.reporting import run_report
from esper.simic.run_directory import RunDirectory, create_run_directory
from esper.simic.train import TrainResult, train


@dataclass(frozen=True)
class FinishedRun:
    """A run that came to an end, by its last epoch or by a signal."""

    directory: RunDirectory
    result: TrainResult
    history: RunHistory


def run_training(
    config: TrainConfig,
    out: Path | None = None,
    watchers: Sequence[OutputBackend] = (),
    progress: Callable[[EpochFinished], None] = lambda epoch: None,
) -> FinishedRun:
    """Trains into `out`, or into a free folder, and leaves events and report there.

    A run that fails before its first event leaves nothing; one that fails later leaves what it has.
    Raises `EsperError`.
    """
    directory = create_run_directory(config, out)
    stream = EventStream(directory.events, directory.run_id)
    try:
        with stream:
            result = train(config, Fanout([stream, *watchers]), progress)
    finally:
        if stream.is_empty:
            directory.discard()
        else:
            write_report(directory.report, run_report(directory.path))
    history = history_of(recorded.event for recorded in read_stream(directory.path))
    return FinishedRun(directory, result, history)
