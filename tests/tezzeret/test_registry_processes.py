"""Several processes at one registry, some of them killed: what was answered for is there, and is whole."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from esper.tezzeret.registry import Blueprint, Provenance, open_registry
from esper.tezzeret.requirements import parse_requirements

PARENT = """
import os, sys
from pathlib import Path
from esper.tezzeret.registry import Blueprint, Provenance, open_registry
from esper.tezzeret.requirements import parse_requirements

asked = parse_requirements({"input_shape": [8], "output_shape": [8]})

def write(path, name, begun, steps):
    log = Path(f"{path}.{name}").open("a", buffering=1)
    with open_registry(Path(path), capacity=4) as registry:
        parent = None
        for step in range(int(begun), int(begun) + int(steps)):
            blueprint = Blueprint(f"{name}{step}".rjust(64, "0"), name, f"# {step}", {"step": step})
            provenance = Provenance(name, "by hand", asked)
            parent = registry.versions.add(blueprint, provenance, parent=parent, edit=str(step)).number
            registry.answers.put(asked, parent)
            registry.measurements.add(blueprint.ir_hash, "params", step, standard_error=0, device=name)
            log.write(f"{step}\\n")
            assert registry.answers.get(asked) is not None

for line in sys.stdin:
    order, *words = line.split()
    if order == "write":
        child = os.fork()
        if child == 0:
            status = 1
            try:
                write(*words)
                status = 0
            finally:
                os._exit(status)
        print(child, flush=True)
    else:
        print(os.waitstatus_to_exitcode(os.waitpid(int(words[0]), 0)[1]), flush=True)
"""
"""Has imported what its children need, since they are many and importing is slow."""


class Parent:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def _ask(self, order: str) -> int:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{order}\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def write(self, path: Path, name: str, begun: int, steps: int) -> int:
        """The process that writes these steps as `name`, and tells in a file beside `path` what is done."""
        return self._ask(f"write {path} {name} {begun} {steps}")

    def wait(self, child: int) -> int:
        """The exit code of a writer, once it has ended."""
        return self._ask(f"wait {child}")


@pytest.fixture(scope="module")
def parent() -> Iterator[Parent]:
    command = [sys.executable, "-c", PARENT]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Parent(process)


def told(path: Path, name: str) -> set[int]:
    """The steps that the writers of this name said to be done."""
    log = Path(f"{path}.{name}")
    return {int(line) for line in log.read_text().split()} if log.exists() else set()


def require_whole(path: Path, done: dict[str, set[int]]) -> None:
    """Every step that was told to be done is there, and nothing in part."""
    with open_registry(path, capacity=4) as registry:
        asked = parse_requirements({"input_shape": [8], "output_shape": [8]})
        versions = [registry.versions[number] for number in range(1, len(registry.versions) + 1)]
        made = {(one.provenance.synthesizer, int(one.edit)) for one in versions}
        assert made >= {(name, step) for name, steps in done.items() for step in steps}
        assert max(Counter((one.provenance.synthesizer, one.edit) for one in versions).values()) == 1
        for version in versions:
            name, step = version.provenance.synthesizer, int(version.edit)
            assert version.blueprint.source == f"# {step}" and version.blueprint.values == {"step": step}
            line = registry.versions.lineage(version.number)
            assert {one.provenance.synthesizer for one in line} == {name}
            assert [int(one.edit) for one in line] == list(range(int(line[0].edit), step + 1))
            measured = [one.value for one in registry.measurements.of(version.blueprint.ir_hash)]
            assert measured == [step] or (measured == [] and step not in done[name])
        answer = registry.answers.get(asked)
        assert answer is not None and answer in versions


def test_processes_that_begin_a_registry_at_once_share_it(parent: Parent, tmp_path: Path) -> None:
    path = tmp_path / "registry.db"
    children = [parent.write(path, name, 0, 20) for name in "abc"]
    assert [parent.wait(child) for child in children] == [0, 0, 0]
    done = {name: told(path, name) for name in "abc"}
    assert all(steps == set(range(20)) for steps in done.values())
    require_whole(path, done)
    names = {file.name for file in tmp_path.iterdir()}
    assert names == {"registry.db", *(f"registry.db.{name}" for name in "abc")}


def test_processes_killed_at_random_moments_leave_a_whole_registry_and_stop_nobody(
    parent: Parent, tmp_path: Path
) -> None:
    path = tmp_path / "registry.db"
    open_registry(path).close()
    moments = random.Random(0)
    for attempt in range(4):
        before = {name: told(path, name) for name in "abc"}
        children = {name: parent.write(path, name, attempt * 10**6, 10**6) for name in "abc"}
        for name, child in children.items():
            until = time.monotonic() + 60
            while told(path, name) == before[name] and time.monotonic() < until:
                time.sleep(0.005)  # so that it is killed at work
            time.sleep(moments.random() * 0.05)
            os.kill(child, signal.SIGKILL)
            assert parent.wait(child) == -signal.SIGKILL
            assert told(path, name) > before[name]
        require_whole(path, {name: told(path, name) for name in "abc"})


def test_threads_take_turns_at_one_open_registry(tmp_path: Path) -> None:
    with open_registry(tmp_path / "registry.db") as registry, ThreadPoolExecutor(4) as pool:
        blueprints = [Blueprint(f"{n:064x}", "layer", f"# {n}") for n in range(40)]
        made = list(pool.map(lambda one: registry.versions.add(one, Provenance("a", "b")), blueprints))
        assert sorted(one.number for one in made) == list(range(1, 41))
        assert [one.blueprint for one in made] == blueprints
