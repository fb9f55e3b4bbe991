"""A run's folder: free names, refusals, what is written, what is taken back."""

import json
from pathlib import Path

import pytest
import yaml

from esper.simic.checkpoints import checkpoint_path
from esper.simic.config import load_config
from esper.simic.errors import RunDirectoryForeign, RunDirectoryTaken, RunDirectoryUnwritable
from esper.simic.run_directory import create_run_directory, environment_of

CONFIG = load_config(None, {"seed": 3})


def test_free_folder_is_numbered_after_task_and_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = [create_run_directory(CONFIG, None).path.name for _ in range(2)]
    assert made == ["mnist1d-3-1", "mnist1d-3-2"]


def test_folder_holds_the_resolved_configuration_and_the_environment(tmp_path: Path) -> None:
    run = create_run_directory(CONFIG, tmp_path / "r")
    assert yaml.safe_load((run.path / "config.yaml").read_text())["slots"]
    environment = json.loads((run.path / "environment.json").read_text())
    assert environment["run_id"] == run.run_id
    assert "torch" in environment_of(run.path)


def test_folder_with_a_run_in_it_is_taken(tmp_path: Path) -> None:
    run = create_run_directory(CONFIG, tmp_path / "r")
    run.events.touch()
    with pytest.raises(RunDirectoryTaken):
        create_run_directory(CONFIG, tmp_path / "r")


def test_unwritable_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunDirectoryUnwritable):
        create_run_directory(CONFIG, tmp_path / "file" / "r")


def test_discarded_run_leaves_nothing_that_it_made(tmp_path: Path) -> None:
    create_run_directory(CONFIG, tmp_path / "made").discard()
    assert not (tmp_path / "made").exists()
    (tmp_path / "there").mkdir()
    create_run_directory(CONFIG, tmp_path / "there").discard()
    assert list((tmp_path / "there").iterdir()) == []


@pytest.mark.parametrize("name", ["config.yaml", "environment.json", "report.html"])
def test_files_that_no_run_wrote_are_left_alone(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text('{"mine": 1}')
    with pytest.raises(RunDirectoryForeign, match=f"holds a {name} that no run wrote"):
        create_run_directory(CONFIG, tmp_path)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, '{"mine": 1}')]


def test_a_folder_with_checkpoints_is_taken(tmp_path: Path) -> None:
    path = checkpoint_path(tmp_path, 7)
    path.parent.mkdir()
    path.touch()
    with pytest.raises(RunDirectoryTaken):
        create_run_directory(CONFIG, tmp_path)


def test_a_discarded_run_gives_back_what_an_earlier_run_had_written(tmp_path: Path) -> None:
    first = create_run_directory(CONFIG, tmp_path / "r")
    before = {path.name: path.read_bytes() for path in first.path.iterdir()}
    second = create_run_directory(load_config(None, {"seed": 4}), first.path)
    assert second.run_id != first.run_id
    second.discard()
    assert {path.name: path.read_bytes() for path in first.path.iterdir()} == before
