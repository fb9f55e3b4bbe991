"""A run resumed from any checkpoint ends as it would have: the same last checkpoint, the same events."""

from __future__ import annotations

import json
import math
import os
import resource
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from esper.files import FileUnwritable
from esper.kasmina.checkpoints.file import read_checkpoint
from esper.kasmina.checkpoints.values import Encoder
from esper.kasmina.errors import CheckpointUnreadable
from esper.leyline.events import Event
from esper.leyline.run_events import EpochFinished, RunStopped
from esper.nissa.errors import StreamUnwritable
from esper.nissa.stream import EventStream, read_stream
from esper.simic.checkpoints import checkpoint_path, newest_checkpoint
from esper.simic.config import load_config
from esper.simic.errors import HostFromFile, NoRunToResume, RunDiffers
from esper.simic.run import FinishedRun, plan_run, run_planned, run_training
from esper.simic.tasks import Task

GROWN: dict[str, Any] = {
    "task": "digits",
    "host": "mlp",
    "epochs": 4,
    "policy": "schedule",
    "policy_options": {"first_epoch": 1, "every": 2},
    "checkpoint_every": 7,
    "keep_checkpoints": 1000,
}


def resume(out: Path, **options: Any) -> FinishedRun:
    return run_planned(plan_run(None, options, out, "auto"))


def told(run: Path) -> list[Event]:
    return [recorded.event for recorded in read_stream(run)]


def contents(checkpoint: Path | None) -> tuple[str, list[bytes]]:
    """All that a checkpoint holds, bit for bit: weights, optimizers, counters, generators."""
    assert checkpoint is not None
    encoder = Encoder()
    text = json.dumps(encoder.encode(read_checkpoint(checkpoint), "checkpoint"))
    tensors = [tensor.reshape(-1).view(torch.uint8).numpy().tobytes() for tensor in encoder.tensors.values()]
    return text, tensors


def numbered(run: Path) -> list[tuple[int, str]]:
    return [(recorded.seq, recorded.run_id) for recorded in read_stream(run)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "whole"
    run_training(load_config(None, GROWN), path)
    return path


def killed_after(whole: Path, checkpoint: Path | None, to: Path) -> Path:
    """The folder as a kill leaves it: nothing after `checkpoint` but events, the last of them torn."""
    shutil.copytree(whole, to, ignore=shutil.ignore_patterns("report.html", "step-*"))
    if checkpoint is not None:
        for entry in sorted((whole / "checkpoints").iterdir()):
            if entry.name <= checkpoint.name:
                shutil.copy(entry, to / "checkpoints" / entry.name)
    events = to / "events.jsonl"
    events.write_bytes(events.read_bytes()[:-30])
    return to


def test_a_run_resumed_from_each_of_its_checkpoints_ends_as_it_did(whole: Path, tmp_path: Path) -> None:
    checkpoints = sorted((whole / "checkpoints").iterdir())
    last = checkpoints[-1]
    steps_in_an_epoch = int(last.stem.removeprefix("step-")) // GROWN["epochs"]
    inside = [c for c in checkpoints if int(c.stem.removeprefix("step-")) % steps_in_an_epoch]
    for number, checkpoint in enumerate([None, *inside[::8]]):
        run = killed_after(whole, checkpoint, tmp_path / str(number))
        resume(run)
        assert contents(newest_checkpoint(run)) == contents(last)
        assert told(run) == told(whole)
        assert [seq for seq, _ in numbered(run)] == [seq for seq, _ in numbered(whole)]
        assert (run / "report.html").exists()
    assert len(inside) > 5


def test_events_past_the_checkpoint_are_set_aside_and_the_resume_is_noted(
    whole: Path, tmp_path: Path
) -> None:
    checkpoint = checkpoint_path(whole, 21)
    run = killed_after(whole, checkpoint, tmp_path / "r")
    before = (run / "events.jsonl").read_bytes()
    resume(run)
    aside = (run / "events.set-aside-1.jsonl").read_bytes()
    assert before.endswith(aside) and not aside.endswith(b"\n")
    assert {run_id for _, run_id in numbered(run)} == {numbered(whole)[0][1]}
    noted = json.loads((run / "environment.json").read_text())["resumed"]
    assert [(entry["checkpoint"], entry["step"]) for entry in noted] == [(checkpoint.name, 21)]


def test_resuming_from_an_older_checkpoint_sets_the_later_ones_aside(whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "r"
    shutil.copytree(whole, run)
    planned = plan_run(None, {}, None, checkpoint_path(run, 21))
    run_planned(planned)
    assert len(list((run / "checkpoints" / "set-aside").iterdir())) > 10
    assert told(run) == told(whole)


def test_resuming_a_finished_run_changes_nothing_but_the_note_of_it(whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "r"
    shutil.copytree(whole, run)
    events = (run / "events.jsonl").read_bytes()
    result = resume(run).result
    assert result.epochs == GROWN["epochs"]
    assert (run / "events.jsonl").read_bytes() == events
    assert not list(run.glob("*aside*"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_a_signal_stopped_goes_on_where_it_was(
    number: signal.Signals, whole: Path, tmp_path: Path
) -> None:
    def stop(epoch: EpochFinished) -> None:
        if epoch.epoch == 2:
            os.kill(os.getpid(), number)

    run = tmp_path / "r"
    stopped = run_training(load_config(None, {**GROWN, "keep_checkpoints": 1}), run, progress=stop)
    assert stopped.result.interrupted == number
    assert isinstance(told(run)[-1], RunStopped)
    again = resume(run)
    assert again.result.interrupted is None
    assert told(run) == told(whole)
    assert len(list((run / "checkpoints").iterdir())) == 1


def test_a_run_goes_on_only_as_it_was_begun(whole: Path) -> None:
    with pytest.raises(RunDiffers, match="epochs 4, not 6; seed 0, not 3"):
        plan_run(None, {"epochs": 6, "seed": 3}, whole, "auto")
    assert plan_run(None, {"epochs": 4, "checkpoint_every": 3}, whole, "auto").config.checkpoint_every == 3
    assert plan_run(whole / "config.yaml", {}, whole, "auto").start is not None


def test_auto_without_a_run_begins_one(tmp_path: Path) -> None:
    for out in (None, tmp_path / "none"):
        planned = plan_run(None, {"epochs": 3}, out, "auto")
        assert (planned.start, planned.begins_again, planned.config.epochs) == (None, False, 3)


def test_what_cannot_be_resumed_is_refused(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(NoRunToResume, match="two folders up"):
        plan_run(None, {}, None, tmp_path / "step-00000001.safetensors")
    with pytest.raises(NoRunToResume, match="--out is"):
        plan_run(None, {}, tmp_path, checkpoint_path(whole, 7))
    with pytest.raises(CheckpointUnreadable, match="no such file"):
        plan_run(None, {}, None, checkpoint_path(whole, 6))
    run = killed_after(whole, checkpoint_path(whole, 14), tmp_path / "r")
    torn = checkpoint_path(run, 14)
    torn.write_bytes(torn.read_bytes()[:-1])
    with pytest.raises(CheckpointUnreadable):
        plan_run(None, {}, run, "auto")


def test_an_imported_host_is_named_again_and_never_taken_from_the_folder(tmp_path: Path) -> None:
    options = {
        "task": "digits",
        "host": "tests.simic.test_resume:make_host",
        "slots": ["1"],
        "blueprints": ["norm"],
        "policy": "never",
        "epochs": 1,
    }
    run_training(load_config(None, options), tmp_path / "r")
    with pytest.raises(HostFromFile):
        plan_run(None, {}, tmp_path / "r", "auto")
    with pytest.raises(RunDiffers, match="host"):
        plan_run(None, {"host": "tests.simic.test_resume:other_host"}, tmp_path / "r", "auto")
    assert plan_run(None, {"host": options["host"]}, tmp_path / "r", "auto").start is not None


def make_host(task: Task) -> nn.Module:
    features = math.prod(task.example_shape)
    return nn.Sequential(nn.Flatten(), nn.Linear(features, 8), nn.ReLU(), nn.Linear(8, task.classes))


def test_a_full_disk_ends_the_run_and_leaves_what_it_can_go_on_from(whole: Path, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(epoch: EpochFinished) -> None:
        if epoch.epoch == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, hard))

    run = tmp_path / "r"
    try:
        with pytest.raises(FileUnwritable, match="File too large"):
            run_training(load_config(None, GROWN), run, progress=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not [path for path in (run / "checkpoints").iterdir() if path.suffix != ".safetensors"]
    last = told(run)[-1]
    assert isinstance(last, RunStopped)
    assert last.code == FileUnwritable.code
    resume(run)
    assert told(run) == told(whole)
    assert contents(newest_checkpoint(run)) == contents(newest_checkpoint(whole))


def test_a_run_that_is_running_is_not_resumed_beside_itself(whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "r"
    shutil.copytree(whole, run)
    before = sorted(path for path in run.rglob("*"))
    with (
        EventStream(run / "events.jsonl", "r", seq=1),
        pytest.raises(StreamUnwritable, match="another process"),
    ):
        run_planned(plan_run(None, {}, None, checkpoint_path(run, 21)))
    assert sorted(path for path in run.rglob("*")) == before
