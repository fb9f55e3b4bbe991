"""A checkpoint's file is whole or not there, and says when it is damaged."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from esper.files import FileUnwritable
from esper.kasmina.checkpoints.file import alike, keep_newest, read_checkpoint, write_checkpoint
from esper.kasmina.errors import CheckpointTooNew, CheckpointUnreadable

WEIGHTS = torch.arange(1000.0)
VALUES = {"weights": WEIGHTS, "rate": float("inf"), "counts": {0: (1, 2)}}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    written = tmp_path / "step-00000001.safetensors"
    write_checkpoint(written, VALUES)
    return written


def test_it_is_a_safetensors_file_whose_values_come_back(path: Path) -> None:
    assert [tensor.shape for tensor in load_file(path).values()] == [(1000,)]
    found = read_checkpoint(path)
    assert torch.equal(found.pop("weights"), WEIGHTS)
    assert found == {"rate": float("inf"), "counts": {0: (1, 2)}}


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_truncated_file_is_refused(path: Path, share: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(CheckpointUnreadable):
        read_checkpoint(path)


def test_a_flipped_bit_anywhere_is_found(path: Path) -> None:
    data = path.read_bytes()
    for place in range(0, len(data), 97):
        path.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
        with pytest.raises((CheckpointUnreadable, CheckpointTooNew)):
            read_checkpoint(path)


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointUnreadable, match="there is no such file"):
        read_checkpoint(tmp_path / "none")
    save_file({"a": torch.ones(1)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointUnreadable, match="another safetensors file"):
        read_checkpoint(tmp_path / "other.safetensors")
    with pytest.raises(CheckpointUnreadable):
        read_checkpoint(tmp_path)


def test_a_later_schema_is_refused_with_the_version_that_wrote_it(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.ones(1)}, path, {"esper_checkpoint": "2", "esper": "9.1"})
    with pytest.raises(CheckpointTooNew, match="the schema 2, and this Esper reads 1") as raised:
        read_checkpoint(path)
    assert "9.1" in raised.value.help_text


def test_a_full_disk_leaves_the_checkpoint_that_was_there(path: Path) -> None:
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
        with pytest.raises(FileUnwritable, match="cannot be written: File too large"):
            write_checkpoint(path, VALUES | {"more": torch.ones(5000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_the_newest_files_of_a_name_are_kept_and_what_killed_writers_left_is_not(tmp_path: Path) -> None:
    for step in (8, 9, 10, 11):
        (tmp_path / f"step-{step}.safetensors").touch()
    (tmp_path / "best.safetensors").touch()
    (tmp_path / ".step-12.safetensors.77-0123abcd.partial").touch()
    last = tmp_path / "step-11.safetensors"
    assert [entry.name for entry in alike(last)][-2:] == ["step-10.safetensors", "step-11.safetensors"]
    keep_newest(last, 2)
    left = {entry.name for entry in tmp_path.iterdir()}
    assert left == {"step-10.safetensors", "step-11.safetensors", "best.safetensors"}
    keep_newest(tmp_path / "step-10.safetensors", 1)
    assert "step-10.safetensors" in {entry.name for entry in tmp_path.iterdir()}


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("seed1-lr0.1-step{}.safetensors", "seed0-lr0.1-step{}.safetensors"),
        ("lr0.1-step{}.safetensors", "lr0.01-step{}.safetensors"),
        ("step{}.safetensors", "step{}.h5"),
        ("{}.ckpt7", "{}.ckpt8"),
        ("v2.{}", "v3.{}"),
    ],
)
def test_files_of_another_run_beside_it_are_kept(name: str, other: str, tmp_path: Path) -> None:
    for step in (9, 10, 11):
        (tmp_path / name.format(step)).touch()
        (tmp_path / other.format(step)).touch()
    (tmp_path / f".{other.format(12)}.77-0123abcd.partial").touch()
    before = {entry.name for entry in tmp_path.iterdir()}
    keep_newest(tmp_path / name.format(11), 1)
    assert before - {entry.name for entry in tmp_path.iterdir()} == {name.format(9), name.format(10)}


def test_a_name_without_a_number_has_none_like_it(tmp_path: Path) -> None:
    for name in ("best.safetensors", "best2.safetensors", "rest.safetensors"):
        (tmp_path / name).touch()
    keep_newest(tmp_path / "best.safetensors", 1)
    assert len(list(tmp_path.iterdir())) == 3
    assert alike(tmp_path / "best.safetensors") == [tmp_path / "best.safetensors"]
