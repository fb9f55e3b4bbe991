"""What a run has grown, out of its checkpoint: the network that the run ended with."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

from esper.kasmina.errors import LiveSeeds
from esper.kasmina.exports.export import export
from esper.kasmina.lifecycle.bank import slots
from esper.leyline.stages import SeedStage
from esper.simic.config import load_config
from esper.simic.errors import HostFromFile, NothingToExport
from esper.simic.evaluation import score
from esper.simic.export import export_run, grown_model
from esper.simic.hosts import build_host
from esper.simic.run import FinishedRun, run_training
from esper.simic.tasks import task_named

OPTIONS = {
    "task": "digits",
    "epochs": 17,
    "policy_options": {"warmup_epochs": 1, "wait_epochs": 1, "last_epoch": 1},
}


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    return run_training(load_config(None, OPTIONS), tmp_path_factory.mktemp("runs") / "r")


def test_the_network_scores_what_the_run_reported(grown: FinishedRun) -> None:
    model, _, config = grown_model(grown.directory.path)
    task = task_named(config.task, config.seed)
    with torch.no_grad():
        assert score(model, task, task.test) == grown.result.test
    assert {name: slot.stage for name, slot in slots(model).items()} == grown.result.slots


def test_the_exported_file_makes_it_again_out_of_a_fresh_host(grown: FinishedRun, tmp_path: Path) -> None:
    run = grown.directory.path
    assert SeedStage.FOSSILIZED in grown.result.slots.values()
    written = export_run(run, tmp_path)
    assert written.refusal is None
    spec = importlib.util.spec_from_file_location("grown_run", written.files[0])
    assert spec is not None and spec.loader is not None
    file = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(file)
    model, x, config = grown_model(run)
    again = file.apply(build_host(config.host, task_named(config.task, 5)))
    assert torch.equal(again.eval()(x), export(model).eval()(x))


def test_a_run_with_an_open_fate_is_not_exported(tmp_path: Path) -> None:
    config = load_config(None, {**OPTIONS, "epochs": 7})
    run_training(config, tmp_path / "r")
    with pytest.raises(LiveSeeds):
        export_run(tmp_path / "r", tmp_path / "out")


def test_a_folder_without_a_run_or_a_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NothingToExport, match=r"there is no config\.yaml"):
        export_run(tmp_path, tmp_path / "out")
    (tmp_path / "config.yaml").write_text("epochs: 3\n")
    with pytest.raises(NothingToExport, match="it has no checkpoint"):
        export_run(tmp_path, tmp_path / "out")


def test_an_imported_host_is_never_taken_from_the_folder(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "step-00000001.safetensors").touch()
    (tmp_path / "config.yaml").write_text("host: os:getcwd\n")
    with pytest.raises(HostFromFile):
        export_run(tmp_path, tmp_path / "out")
