"""A few of the kills that benchmarks/kill_resume.py makes by the hundred."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.kill_resume import ended, growing_host, run_in, started, trial, write

OPTIONS = {"task": "digits", "host": "cnn", "epochs": 2, "checkpoint_every": 3, "policy": "schedule"}
OPTIONS |= {"policy_options": {"first_epoch": 1, "every": 1}}

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="processes are forked")


def test_a_run_that_is_killed_and_resumed_ends_as_it_would_have(tmp_path: Path) -> None:
    assert ended(started(lambda: run_in(tmp_path / "whole", OPTIONS))) == 0
    for number, moment in enumerate((0.3, 0.7)):
        found = trial(tmp_path / str(number), tmp_path / "whole", moment, OPTIONS)
        assert (found.ends_equal, found.events_equal) == (True, True)


def test_no_kill_of_a_writer_leaves_an_unreadable_checkpoint(tmp_path: Path) -> None:
    growth = growing_host()
    found = [write(tmp_path, growth, 0.02 * number) for number in range(1, 9)]
    assert sum(kill.unreadable for kill in found) == 0
    assert found[-1].readable > 0
