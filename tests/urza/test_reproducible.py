"""Equal inputs give equal artifacts, byte for byte, wherever and on top of whatever they are built."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from esper.urza.artifact import read_artifact
from esper.urza.builder.processes import child_environment

ROOT = Path(__file__).parents[2]
COMPILE = ("compile", "block.esp", "--set", "features=16", "--precision", "bf16", "--target", "sm_90")


def compiled(folder: Path, cache: Path, **variables: str) -> bytes:
    """The artifact of a blueprint in `folder`, made by a process of its own that runs there."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "blueprints" / "norm.esp", folder / "block.esp")
    environment = child_environment(ESPER_CACHE_DIR=str(cache), **variables)
    command = [sys.executable, "-m", "esper.cli.esperc", *COMPILE, "-o", "block.seed"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return (folder / "block.seed").read_bytes()


def test_an_artifact_does_not_depend_on_place_cache_or_hash_seed(tmp_path: Path) -> None:
    first = compiled(tmp_path / "one", tmp_path / "cache", PYTHONHASHSEED="1")
    from_cache = compiled(tmp_path / "one", tmp_path / "cache", PYTHONHASHSEED="2")
    (tmp_path / "temporary").mkdir()
    far = tmp_path / "another" / "place with spaces"
    elsewhere = compiled(far, far / "cache", PYTHONHASHSEED="3", TMPDIR=str(tmp_path / "temporary"))
    assert read_artifact(far / "block.seed").kernels
    assert first == from_cache == elsewhere
