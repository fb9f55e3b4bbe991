"""Evaluations kept in a file, so that a search goes on where it was killed.

SQLite with a write-ahead log: a row is there as a whole or not at all, whenever the process dies. By the
standard library's own module, since there is one table of one shape, and a search needs no further package
for it. The file says what was asked; a search that asks anything else is refused, as is a file that is none
of ours. Nothing but rows is ever added to a file that was there before.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from esper.files import FileUnwritable
from esper.tezzeret.database import Format
from esper.tezzeret.errors import OutsideSpace, StorageDiffers, StorageForeign, StorageInUse, StorageTaken
from esper.tezzeret.evaluation import Evaluation, from_json, to_json
from esper.tezzeret.space import Point, Space

FORMAT = Format(
    application=0x45537472,
    version=3,
    tables="""
CREATE TABLE question (name TEXT PRIMARY KEY, answer TEXT NOT NULL) STRICT;
CREATE TABLE evaluations (
    number INTEGER PRIMARY KEY, point TEXT NOT NULL, rung INTEGER NOT NULL, result TEXT NOT NULL,
    UNIQUE (point, rung)
) STRICT;
CREATE TABLE starts (point TEXT PRIMARY KEY) STRICT;
""",
    foreign=StorageForeign,
    in_use=StorageInUse,
)

Question = Mapping[str, Any]
"""What a search asks: everything that its evaluations and their order depend on, as JSON can hold it."""


class Store:
    """An open file of evaluations; one search at a time has it."""

    def __init__(self, path: Path, connection: sqlite3.Connection, space: Space) -> None:
        """Use `open_store`. Raises `StorageForeign` for a row that is none."""
        self._path = path
        self._connection = connection
        self._space = space
        self._found: dict[tuple[str, int], Evaluation] = {}
        rows = connection.execute("SELECT point, rung, result FROM evaluations ORDER BY number")
        for point, rung, result in rows:
            try:
                self._found[point, rung] = from_json(space.decode(point), result)
            except (OutsideSpace, ValueError, KeyError, TypeError, AttributeError):
                raise StorageForeign(path=path, reason="an evaluation in it cannot be read") from None
        try:
            texts = [text for (text,) in connection.execute("SELECT point FROM starts ORDER BY rowid")]
            self._starts = [space.decode(text) for text in texts]
        except (OutsideSpace, ValueError):
            raise StorageForeign(path=path, reason="a start in it cannot be read") from None

    def __len__(self) -> int:
        return len(self._found)

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def get(self, point: Mapping[str, Any], rung: int = 0) -> Evaluation | None:
        """The evaluation of `point` at `rung` of a ladder, if there is one; 0 is what is counted."""
        return self._found.get((self._space.encode(point), rung))

    def add(self, evaluation: Evaluation, rung: int = 0) -> None:
        """Keeps an evaluation; on return it survives the death of the process. Raises `FileUnwritable`."""
        key = (self._space.encode(evaluation.values), rung)
        if key in self._found:
            return
        self._insert("evaluations (point, rung, result) VALUES (?, ?, ?)", *key, to_json(evaluation))
        self._found[key] = evaluation

    @property
    def starts(self) -> Sequence[Point]:
        """What the search is to begin with, whenever it goes on."""
        return tuple(self._starts)

    def start_at(self, point: Point) -> None:
        """Keeps `point` as one that the search begins with. Raises `FileUnwritable`."""
        self._insert("starts (point) VALUES (?)", self._space.encode(point))
        self._starts.append(point)

    def _insert(self, into: str, *values: object) -> None:
        try:
            self._connection.execute(f"INSERT INTO {into}", values)
        except sqlite3.Error as error:
            raise FileUnwritable(path=self._path, reason=str(error)) from error

    def close(self) -> None:
        """Folds the log into the file."""
        self._connection.close()


def open_store(path: Path, question: Question, space: Space, *, resume: bool = False) -> Store:
    """The storage at `path`, begun if there is none.

    Raises `StorageTaken` if there is one and `resume` is false, `StorageDiffers` if it is about another
    question, `StorageForeign` for a file that is no storage or is broken, `StorageInUse`, `FileUnwritable`.
    """
    if os.path.lexists(path):
        FORMAT.require(path)
        if not resume:
            raise StorageTaken(path=path)
    else:
        _begin(path, question)
    try:
        connection = FORMAT.connect(path)
    except sqlite3.Error as error:
        raise FORMAT.error(path, error) from error
    try:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")  # held until it is closed, or the process dies
        connection.execute("PRAGMA synchronous = NORMAL")
        if connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
            raise StorageForeign(path=path, reason="it is damaged")
        _require_same(path, connection, question)
        return Store(path, connection, space)
    except sqlite3.Error as error:
        connection.close()
        raise FORMAT.error(path, error) from error
    except BaseException:
        connection.close()
        raise


def _begin(path: Path, question: Question) -> None:
    rows = [(name, json.dumps(answer, sort_keys=True)) for name, answer in question.items()]
    try:
        FORMAT.begin(path, lambda new: new.executemany("INSERT INTO question VALUES (?, ?)", rows))
    except FileExistsError:
        raise StorageTaken(path=path) from None


def _require_same(path: Path, connection: sqlite3.Connection, question: Question) -> None:
    found = dict(connection.execute("SELECT name, answer FROM question"))
    for name, answer in question.items():
        expected = json.dumps(answer, sort_keys=True)
        if found.get(name) != expected:
            raise StorageDiffers(path=path, name=name, found=found.get(name), expected=expected)
