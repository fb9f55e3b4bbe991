"""Worker processes run this package's modules and Python's, whatever the working folder holds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from esper.urza.builder.ahead_of_time import build_kernels
from esper.urza.builder.cache import KernelCache
from tests.urza.builder.test_ahead_of_time import SCALE
from tests.urza.verify.test_interpret import RIGHT, run

ROOT = Path(__file__).parents[3]
POISON = "from pathlib import Path\nPath(__file__).with_suffix('.ran').touch()\nraise ImportError\n"


@pytest.fixture
def poisoned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, whose modules are called like Python's."""
    for name in ("inspect", "json", "triton"):
        (tmp_path / f"{name}.py").write_text(POISON)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_build_runs_nothing_of_the_working_folder(
    poisoned: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    cache = KernelCache(tmp_path_factory.mktemp("cache"))
    assert build_kernels([SCALE], ["sm_90"], cache=cache).invocations == 1
    assert not list(poisoned.glob("*.ran"))


def test_an_interpretation_runs_nothing_of_the_working_folder(poisoned: Path) -> None:
    assert run(RIGHT).findings == ()
    assert not list(poisoned.glob("*.ran"))


CHILD = """
import subprocess, sys
from esper.urza.builder.processes import child_environment
command = [sys.executable, "-S", "-c", "import esper; print(esper.__file__)"]
subprocess.run(command, env=child_environment(), cwd=sys.argv[1], check=True)
"""


@pytest.mark.parametrize("path", ["", str(ROOT)], ids=["its working folder", "PYTHONPATH"])
def test_a_checkout_that_is_not_installed_is_found(path: str, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": path}
    environment.pop("PYTHONSAFEPATH", None)
    command = [sys.executable, "-S", "-c", CHILD, str(tmp_path)]  # -S: without installed packages
    folder = tmp_path if path else ROOT
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == str(ROOT / "esper" / "__init__.py"), done.stderr
