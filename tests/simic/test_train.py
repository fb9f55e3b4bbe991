"""The loop: equal runs are equal, signals and divergence end a run cleanly, test data decides nothing."""

import json
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from esper.kasmina.attach import INCUBATIONS
from esper.kasmina.errors import LossNotFinite, UnknownSlot
from esper.leyline.events import Event
from esper.leyline.run_events import EpochFinished, RunStopped
from esper.leyline.stages import SeedStage
from esper.nissa.stream import read_stream
from esper.simic import tasks
from esper.simic.config import TrainConfig, load_config
from esper.simic.run import FinishedRun, run_training
from esper.simic.tasks import Split, Task
from esper.tamiyo.errors import InvalidPolicyOption

SHORT: dict[str, Any] = {"epochs": 3, "policy": "never"}


def configured(**options: Any) -> TrainConfig:
    return load_config(None, {**SHORT, **options})


def told(run: FinishedRun) -> list[Event]:
    return [recorded.event for recorded in read_stream(run.directory.path)]


def change_task(monkeypatch: pytest.MonkeyPatch, change: Callable[[Task], Task]) -> None:
    build = tasks.TASKS["mnist1d"]
    monkeypatch.setitem(tasks.TASKS, "mnist1d", lambda seed: change(build(seed)))


def test_equal_runs_have_equal_streams_but_for_time_and_run_id(tmp_path: Path) -> None:
    streams = []
    for name in ("a", "b"):
        run = run_training(configured(), tmp_path / name)
        lines = run.directory.events.read_text().splitlines()
        streams.append(
            [{k: v for k, v in json.loads(x).items() if k not in ("time", "run_id")} for x in lines]
        )
    assert streams[0] == streams[1]


def test_run_leaves_its_files_and_checkpoints(tmp_path: Path) -> None:
    run = run_training(configured(), tmp_path / "r")
    names = {path.name for path in run.directory.path.iterdir()}
    assert names == {"checkpoints", "config.yaml", "environment.json", "events.jsonl", "report.html"}


def test_test_data_decides_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = run_training(configured(policy="heuristic"), tmp_path / "honest")
    change_task(monkeypatch, lambda task: replace(task, test=Split(-task.test.x, task.test.y)))
    other = run_training(configured(policy="heuristic"), tmp_path / "other")
    assert other.result.held_out == honest.result.held_out
    assert other.result.test != honest.result.test


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_the_run_after_its_step(tmp_path: Path, number: signal.Signals) -> None:
    def stop_after_the_first(epoch: EpochFinished) -> None:
        if epoch.epoch == 1:
            os.kill(os.getpid(), number)

    run = run_training(configured(epochs=50), tmp_path / "r", progress=stop_after_the_first)
    last = told(run)[-1]
    assert run.result.interrupted == number
    assert isinstance(last, RunStopped)
    assert (last.code, last.step) == (number.name, 41)
    assert run.directory.report.exists()


def test_loss_that_is_not_a_number_ends_the_stream_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_task(monkeypatch, lambda task: replace(task, train=Split(task.train.x / 0.0, task.train.y)))
    with pytest.raises(LossNotFinite):
        run_training(configured(), tmp_path / "r")
    last = read_stream(tmp_path / "r")[-1].event
    assert isinstance(last, RunStopped)
    assert last.code == LossNotFinite.code
    assert (tmp_path / "r" / "report.html").exists()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"slots": ["blocks.9"]}, UnknownSlot),
        ({"policy": "heuristic", "policy_options": {"haste": 1}}, InvalidPolicyOption),
    ],
)
def test_run_that_cannot_begin_leaves_nothing(
    tmp_path: Path, options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        run_training(configured(**options), tmp_path / "r")
    assert list(tmp_path.iterdir()) == []


def test_every_incubation_is_accepted(tmp_path: Path) -> None:
    for incubation in INCUBATIONS:
        run = run_training(configured(epochs=1, incubation=incubation), tmp_path / incubation)
        assert set(run.result.slots.values()) == {SeedStage.DORMANT}


def test_training_outside_the_main_thread_works(tmp_path: Path) -> None:
    found: list[FinishedRun] = []
    config = configured(epochs=1)
    thread = threading.Thread(target=lambda: found.append(run_training(config, tmp_path / "r")))
    thread.start()
    thread.join()
    assert found[0].result.epochs == 1
