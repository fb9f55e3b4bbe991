"""A long run that was killed goes on where it was, and only on the same sources."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TESTS = """
import os
import pytest

@pytest.mark.parametrize("number", range(3))
def test_one(number):
    if os.environ.get("KILLED") and number == 1:
        os._exit(9)
    assert number != 2 or os.environ.get("MENDED")
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A tree with one test module, which soaks as this one does."""
    (tmp_path / "tests" / "passes").mkdir(parents=True)
    (tmp_path / "tests" / "soak.py").write_text((ROOT / "tests" / "soak.py").read_text())
    (tmp_path / "tests" / "passes" / "test_laws.py").write_text(TESTS)
    (tmp_path / "tests" / "test_last.py").write_text("def test_last(): pass\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --import-mode=importlib\n")
    return tmp_path


def soak(project: Path, *arguments: str, **environment: str) -> str:
    command = [sys.executable, "-m", "pytest", "-p", "tests.soak", "-p", "no:cacheprovider", *arguments]
    done = subprocess.run(
        command,
        cwd=project,
        env={"PATH": "", "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


def test_what_passed_is_skipped_and_what_failed_runs_again(project: Path) -> None:
    first = soak(project)
    assert "soak: 4 of 4 ran, 1 failed; 0 passed before" in first
    assert "[1/4] passed in 0 s: tests/passes/test_laws.py::test_one[0]" in first
    assert "[4/4] passed in 0 s: tests/test_last.py::test_last" in first
    (kept,) = (project / ".soak" / "failures").iterdir()
    assert (
        "assert (2 != 2" in kept.read_text()
        and f"soak: tests/passes/test_laws.py::test_one[2]: {kept}" in first
    )
    assert "soak: 1 of 1 ran, 1 failed; 3 passed before" in soak(project)
    assert "soak: 1 of 1 ran, 0 failed; 3 passed before" in soak(project, MENDED="1")
    assert "soak: 0 of 0 ran, 0 failed; 4 passed before" in soak(project)


@pytest.mark.parametrize("arguments", [[], ["--numprocesses=1"]], ids=["here", "in a worker"])
def test_a_run_that_was_killed_goes_on(project: Path, arguments: list[str]) -> None:
    killed = soak(project, *arguments, KILLED="1")
    assert "[1/4] passed in 0 s: tests/passes/test_laws.py::test_one[0]" in killed
    with (project / ".soak" / "passed.jsonl").open("a") as file:
        file.write('{"sources": "cut sho')
    again = soak(project, *arguments, MENDED="1")
    assert " 0 failed" in again and "test_one[0]" not in again
    assert "soak: 0 of 0 ran" in soak(project)


def test_other_sources_are_soaked_from_the_beginning(project: Path) -> None:
    soak(project, MENDED="1")
    (project / "esper").mkdir()
    (project / "esper" / "changed.py").write_text("")
    assert "soak: 4 of 4 ran, 0 failed; 0 passed before" in soak(project, MENDED="1")
