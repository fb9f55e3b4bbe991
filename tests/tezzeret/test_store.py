"""A search's storage: what was evaluated survives a kill, and nobody else's file is touched."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from esper.files import FileUnwritable
from esper.tezzeret import (
    Candidate,
    Evaluator,
    Plan,
    Point,
    SearchResult,
    Store,
    open_store,
    question,
    run_search,
)
from esper.tezzeret.errors import StorageDiffers, StorageForeign, StorageInUse, StorageTaken
from esper.tezzeret.evaluation import Refusal, from_json, to_json
from esper.tezzeret.search import Progress

BLUEPRINT = """blueprint kept(
    width: int = 8 in {1, 2, 4, 8, 16, 32, 64},
    hidden: int = 8 in {1, 2, 4, 8, 16, 32, 64},
    act: op = relu in {relu, gelu},
) {
    require width != 16: "this test refuses it"
    constraint params >= 100
    input x: f32[N, 8]
    output x |> linear(width) |> act() |> linear(hidden)
}
"""
PLAN = Plan(trials=40, seed=4)


@pytest.fixture
def evaluator(tmp_path: Path) -> Evaluator:
    path = tmp_path / "kept.esp"
    path.write_text(BLUEPRINT)
    return Evaluator(path)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "trials.db"


def opened(file: Path, evaluator: Evaluator, plan: Plan = PLAN, resume: bool = False) -> Store:
    return open_store(file, question(evaluator, plan), evaluator.space, resume=resume)


class Counted:
    """Stands for an evaluator and counts how often it is called."""

    def __init__(self, evaluator: Evaluator) -> None:
        self.evaluator = evaluator
        self.points: list[Point] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.evaluator, name)

    def __call__(self, point: Point) -> Candidate:
        self.points.append(point)
        return self.evaluator(point)


def searched(
    evaluator: Evaluator, store: Store, plan: Plan = PLAN, **options: Any
) -> tuple[SearchResult, int]:
    """A search, and how many points it evaluated."""
    counted: Any = Counted(evaluator)
    return run_search(counted, plan, store=store, **options), len(counted.points)


def test_what_is_written_down_is_read_back(evaluator: Evaluator) -> None:
    for point in evaluator.space.points():
        if point["width"] == 16:
            refusal = Refusal(point, "refused: §")
            assert from_json(point, to_json(refusal)) == refusal
        else:
            assert from_json(point, to_json(evaluator(point))) == evaluator(point)


def test_a_search_with_a_storage_finds_what_one_without_does(evaluator: Evaluator, file: Path) -> None:
    with opened(file, evaluator) as store:
        assert searched(evaluator, store)[0] == run_search(evaluator, PLAN)


@pytest.mark.parametrize("width", [1, 3])
def test_a_resumed_search_evaluates_only_what_is_left_and_ends_like_an_unbroken_one(
    evaluator: Evaluator, file: Path, width: int
) -> None:
    plan = Plan(trials=40, seed=4, width=width)
    seen: list[Progress] = []
    with opened(file, evaluator, plan) as store:
        searched(evaluator, store, plan, watch=seen.append, is_cancelled=lambda: len(seen) >= 15)
    with opened(file, evaluator, plan, resume=True) as store:
        kept = len(store)
        result, evaluated = searched(evaluator, store, plan)
    assert result == run_search(evaluator, plan)
    assert 15 <= kept < 15 + width
    assert kept + evaluated == len(result.trials) + result.invalid + result.duplicates


def test_a_finished_search_can_be_resumed_for_longer(evaluator: Evaluator, file: Path) -> None:
    longer = Plan(trials=60, seed=4, patience=50, seconds=100.0)
    with opened(file, evaluator) as store:
        searched(evaluator, store)
    with opened(file, evaluator, longer, resume=True) as store:
        assert searched(evaluator, store, longer)[0] == run_search(evaluator, longer)
    with opened(file, evaluator, resume=True) as store:
        assert searched(evaluator, store)[1] == 0


CHILD = """
import sys, time
from pathlib import Path
from esper.tezzeret import Evaluator, Plan, open_store, question, run_search

evaluator, plan = Evaluator(Path(sys.argv[1])), Plan(trials=40, seed=4)
with open_store(Path(sys.argv[2]), question(evaluator, plan), evaluator.space, resume=True) as store:
    print("open", flush=True)
    run_search(evaluator, plan, store=store, watch=lambda progress: time.sleep(0.01))
"""


def test_killed_at_random_moments_a_search_loses_nothing_and_ends_like_an_unbroken_one(
    evaluator: Evaluator, file: Path
) -> None:
    moments, kept = random.Random(0), [0]
    for _ in range(4):
        command = [sys.executable, "-c", CHILD, str(evaluator.blueprint), str(file)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            child.stdout.readline()
            time.sleep(0.02 + moments.random() * 0.15)
            child.send_signal(signal.SIGKILL)
        with opened(file, evaluator, resume=True) as store:
            kept.append(len(store))
    assert kept == sorted(kept) and kept[-1] > 0
    with opened(file, evaluator, resume=True) as store:
        assert searched(evaluator, store)[0] == run_search(evaluator, PLAN)


def test_a_storage_is_not_used_again_unless_it_is_resumed(evaluator: Evaluator, file: Path) -> None:
    opened(file, evaluator).close()
    before = file.read_bytes()
    with pytest.raises(StorageTaken, match="holds a search already"):
        opened(file, evaluator)
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 5}, "seed 4, not 5"),
        ({"algorithm": "random"}, 'algorithm "evolutionary", not "random"'),
        ({"objective": "memory"}, "objective"),
        ({"width": 2}, "width"),
    ],
)
def test_a_storage_of_another_question_is_refused_and_the_difference_named(
    evaluator: Evaluator, file: Path, change: dict[str, Any], named: str
) -> None:
    opened(file, evaluator).close()
    with pytest.raises(StorageDiffers, match=named):
        opened(file, evaluator, Plan(**{"trials": 40, "seed": 4, **change}), resume=True)


def test_a_storage_of_a_blueprint_that_was_edited_is_refused(evaluator: Evaluator, file: Path) -> None:
    opened(file, evaluator).close()
    path = Path(evaluator.blueprint)
    path.write_text(BLUEPRINT.replace("act()", "tanh()"))
    with pytest.raises(StorageDiffers, match="source"):
        opened(file, Evaluator(path), resume=True)


def a_database(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE diary (day TEXT)")
    connection.execute("INSERT INTO diary VALUES ('monday')")
    connection.commit()
    connection.close()


FOREIGN: dict[str, Callable[[Path], object]] = {
    "text": lambda path: path.write_text("dear diary\n" * 100),
    "empty": lambda path: path.write_bytes(b""),
    "database": a_database,
    "folder": lambda path: path.mkdir(),
    "header alone": lambda path: path.write_bytes(b"SQLite format 3\0" + bytes(84)),
}


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("resume", [True, False])
def test_a_file_that_is_no_storage_is_refused_and_left_as_it_was(
    evaluator: Evaluator, file: Path, kind: str, resume: bool
) -> None:
    FOREIGN[kind](file)
    before = file.read_bytes() if file.is_file() else None
    with pytest.raises(StorageForeign):
        opened(file, evaluator, resume=resume)
    assert (file.read_bytes() if file.is_file() else None) == before
    assert sorted(path.name for path in file.parent.iterdir()) == ["kept.esp", "trials.db"]


def damages(content: bytes) -> Iterator[bytes]:
    yield content[: len(content) // 2]
    for place in (100, 4096, 8192, 12288):
        yield (
            content[:place]
            + bytes(byte ^ 0x5A for byte in content[place : place + 400])
            + content[place + 400 :]
        )


def test_a_damaged_storage_is_refused_and_left_as_it_was(evaluator: Evaluator, file: Path) -> None:
    with opened(file, evaluator) as store:
        searched(evaluator, store)
    whole = file.read_bytes()
    for damaged in damages(whole):
        file.write_bytes(damaged)
        with pytest.raises(StorageForeign):
            opened(file, evaluator, resume=True)
        assert file.read_bytes() == damaged


def test_a_row_that_says_something_else_than_an_evaluation_is_refused(
    evaluator: Evaluator, file: Path
) -> None:
    with opened(file, evaluator) as store:
        searched(evaluator, store)
    rows = ["point = '{}'", "point = 'x'", "result = '[]'", "result = '{\"ir_hash\": 1}'", "result = ''"]
    whole = file.read_bytes()
    for row in rows:
        file.write_bytes(whole)
        connection = sqlite3.connect(file)
        connection.execute(f"UPDATE evaluations SET {row} WHERE number = 3")
        connection.commit()
        connection.close()
        with pytest.raises(StorageForeign):
            opened(file, evaluator, resume=True)


def test_one_search_at_a_time_has_a_storage(evaluator: Evaluator, file: Path) -> None:
    code = CHILD.replace("run_search(", "time.sleep(60), run_search(")
    command = [sys.executable, "-c", code, str(evaluator.blueprint), str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        with pytest.raises(StorageInUse):
            opened(file, evaluator, resume=True)
        child.kill()
    opened(file, evaluator, resume=True).close()


def test_where_no_file_can_be_written_the_place_is_named(evaluator: Evaluator, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file")
    for folder in ("nowhere", "file"):
        with pytest.raises(FileUnwritable, match=folder):
            opened(tmp_path / folder / "trials.db", evaluator)
    with pytest.raises(FileUnwritable, match="aaa"):
        opened(tmp_path / ("a" * 300), evaluator)


def test_a_link_to_nothing_is_no_storage(evaluator: Evaluator, file: Path) -> None:
    file.symlink_to(file.with_name("gone.db"))
    for resume in (False, True):
        with pytest.raises(StorageForeign, match="it is no file"):
            opened(file, evaluator, resume=resume)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_storage_that_may_not_be_written_is_refused(evaluator: Evaluator, file: Path) -> None:
    opened(file, evaluator).close()
    file.chmod(0o444)
    with pytest.raises(FileUnwritable):
        opened(file, evaluator, resume=True)
