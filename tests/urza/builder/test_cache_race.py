"""A short form of `benchmarks/cache_race.py`: processes share a cache and are killed at random moments."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from esper.urza.builder.processes import child_environment

RACE = Path(__file__).parents[3] / "benchmarks" / "cache_race.py"


def test_killed_processes_leave_whole_and_right_entries_alone() -> None:
    command = [sys.executable, str(RACE), "--rounds", "5", "--builds", "0", "--kernels", "3"]
    done = subprocess.run(command, env=child_environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    counted = dict(line.strip("| ").split(" | ") for line in done.stdout.splitlines()[2:])
    assert int(counted["killed"]) > 5 and int(counted["whole"]) > 0
    assert int(counted["killed"]) + int(counted["finished"]) == 5 * 8
