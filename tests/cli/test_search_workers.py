"""`esperc search --workers`: processes find what one would find, and end with the command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from esper.cli.esperc import main
from esper.cli.search_workers import workers
from esper.lang import lower
from esper.tezzeret import Evaluator, Plan, run_search

WIDE = """blueprint wide(a: int = 1 in 1..200, b: int = 1 in 1..200, act: op = relu in {relu, silu}) {
    input x: f32[N, 8]
    output x |> linear(a) |> act() |> linear(b)
}
"""


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    path = tmp_path / "wide.esp"
    path.write_text(WIDE)
    return path


def test_processes_find_what_one_process_finds_with_as_many_under_way(wide: Path) -> None:
    result = CliRunner().invoke(main, ["search", str(wide), "--workers", "2", "--trials", "20", "--json"])
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    expected = run_search(Evaluator(wide), Plan(trials=20, width=2))
    assert [trial["ir_hash"] for trial in document["top"]] == [trial.ir_hash for trial in expected.top]
    assert document["workers"] == 2 and document["trials"] == len(expected.trials)


def test_an_interrupt_ends_the_workers_and_keeps_the_best(wide: Path, tmp_path: Path) -> None:
    """A terminal sends it to the whole group."""
    file, out = tmp_path / "trials.db", tmp_path / "best.esp"
    command = [sys.executable, "-m", "esper.cli.esperc", "search", str(wide), "--workers", "2"]
    command += ["--trials", "1000000", "--patience", "0", "--storage", str(file), "-o", str(out), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True, text=True) as process:
        while not is_begun(file):
            assert process.poll() is None
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        stdout, _ = process.communicate(timeout=60)
    document = json.loads(stdout)
    assert process.returncode == 130 and document["stopped"] == "cancelled"
    assert lower(out).hash == document["best"]["ir_hash"]
    assert is_gone(process.pid)


def is_gone(group: int) -> bool:
    """Whether a group of processes ends; Python's own tracker of semaphores outlives the command a little."""
    for _ in range(200):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def is_begun(file: Path) -> bool:
    """Whether more evaluations were kept than are under way at a time, so that the best is known.

    Each is a commit, of two pages at least, in the log of the file; the file itself is the search's alone.
    """
    log = Path(f"{file}-wal")
    return log.exists() and log.stat().st_size > 10 * 4096


def test_one_worker_is_this_process() -> None:
    with workers(1) as executor:
        assert executor is None
