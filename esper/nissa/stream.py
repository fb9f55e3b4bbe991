"""The event stream: one JSON object a line, appended by one writer, read by everything else.

Each line is a Leyline event's record with `schema_version`, `run_id`, `seq` (from 0, without gaps),
`time` (Unix seconds) and `env_id` in front. Two equal runs differ in `run_id` and `time` alone.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import re
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import esper.leyline.run_events  # noqa: F401  (defines kinds that a stream holds)
from esper.errors import EsperError
from esper.files import write_whole
from esper.leyline.events import Event, event_from_record
from esper.nissa.errors import MalformedStream, MissingStream, StreamTooShort, StreamUnwritable

if sys.platform != "win32":
    import fcntl

SCHEMA_VERSION = 1
FILE_NAME = "events.jsonl"


class EventStream:
    """Writes events to `path`; each line is flushed when it is written.

    The file must not exist unless `seq` is given: then it is the stream that `set_aside` left with so many
    events, and goes on. A stream has one writer, which locks it. Raises `StreamUnwritable`.
    """

    def __init__(
        self,
        path: Path,
        run_id: str,
        env_id: str = "0",
        clock: Callable[[], float] = time.time,
        seq: int = 0,
    ) -> None:
        self.path = path
        self.run_id = run_id
        self.env_id = env_id
        self._clock = clock
        self._seq = seq
        try:
            self._file = path.open("a" if seq else "x", encoding="utf-8")
            _lock(self._file)
        except OSError as error:
            raise StreamUnwritable(path=path, reason=error.strerror) from error

    def emit(self, event: Event) -> None:
        """Appends one line. A number that is not finite is written as null."""
        record = {
            "schema_version": SCHEMA_VERSION,
            "run_id": self.run_id,
            "seq": self._seq,
            "time": round(self._clock(), 6),
            "env_id": self.env_id,
            **event.to_record(),
        }
        try:
            self._file.write(json.dumps(_finite(record), allow_nan=False) + "\n")
            self._file.flush()
        except OSError as error:
            raise StreamUnwritable(path=self.path, reason=error.strerror) from error
        self._seq += 1

    @property
    def is_empty(self) -> bool:
        """Whether nothing has been emitted."""
        return self._seq == 0

    def sync(self) -> None:
        """Has the system write down what was emitted. Raises `StreamUnwritable`."""
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise StreamUnwritable(path=self.path, reason=error.strerror) from error

    def state_dict(self) -> dict[str, Any]:
        """How many events were emitted: the number of the next."""
        return {"seq": self._seq}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Checks that the stream goes on where the state was taken. Raises `StreamTooShort`."""
        if state["seq"] != self._seq:
            raise StreamTooShort(path=self.path, found=self._seq, expected=state["seq"])

    def close(self) -> None:
        """Closes the file; a second call does nothing."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


@dataclass(frozen=True)
class Recorded:
    """An event as it stands in a stream."""

    seq: int
    time: float
    run_id: str
    event: Event


def check_idle(path: Path) -> None:
    """Raises `StreamUnwritable` while another process writes the stream at `path`."""
    try:
        if path.exists():
            with path.open("rb+") as file:
                _lock(file)
    except OSError as error:
        raise StreamUnwritable(path=path, reason=error.strerror) from error


def set_aside(path: Path, events: int) -> Path | None:
    """Cuts the stream at `path` after its first `events` events; the rest goes into a file beside it.

    That file, `events.set-aside-N.jsonl`, is written first: at no moment is an event in neither. Returns its
    path. A stream that is to have no event is removed. Raises `StreamTooShort`, `StreamUnwritable`.
    """
    if not path.exists() and events == 0:
        return None
    aside = None
    try:
        with path.open("rb+") as file:
            _lock(file)
            data = file.read()
            ends = [match.end() for match in re.finditer(b"\n", data)]
            if len(ends) < events:
                raise StreamTooShort(path=path, found=len(ends), expected=events)
            kept = ends[events - 1] if events else 0
            if len(data) > kept:
                aside = _free_name(path)
                write_whole(aside, data[kept:])
            file.truncate(kept)
            os.fsync(file.fileno())
            if events == 0:
                path.unlink()
    except FileNotFoundError as error:
        raise StreamTooShort(path=path, found=0, expected=events) from error
    except OSError as error:
        raise StreamUnwritable(path=path, reason=error.strerror) from error
    return aside


def _lock(file: IO[Any]) -> None:
    """Locks a stream for this process, until the file is closed or the process ends. Raises OSError."""
    if sys.platform == "win32":
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise OSError(error.errno, "another process is writing it") from error


def _free_name(path: Path) -> Path:
    names = (path.with_name(f"{path.stem}.set-aside-{number}{path.suffix}") for number in itertools.count(1))
    return next(name for name in names if not name.exists())


def read_stream(run: Path) -> list[Recorded]:
    """Every whole event of the run directory `run`, in order.

    A last line without its end is a write that was cut short, or one in progress: it is left out.
    Raises `MissingStream`, and `MalformedStream` for a line that is no event, an unknown
    schema version, or a gap in `seq`.
    """
    path = run / FILE_NAME
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise MissingStream(path=run) from error
    whole = text[: text.rfind("\n") + 1]
    return [_parse(line, number, path) for number, line in enumerate(whole.splitlines(), start=1)]


def _parse(line: str, number: int, path: Path) -> Recorded:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise MalformedStream(path=path, line=number, reason=f"not JSON ({error.msg})") from error
    if not isinstance(record, dict):
        raise MalformedStream(path=path, line=number, reason="not a JSON object")
    if record.get("schema_version") != SCHEMA_VERSION:
        found = record.get("schema_version")
        reason = f"schema_version is {found}, expected {SCHEMA_VERSION}"
        raise MalformedStream(path=path, line=number, reason=reason)
    if record.get("seq") != number - 1:
        reason = f"seq is {record.get('seq')}, expected {number - 1}"
        raise MalformedStream(path=path, line=number, reason=reason)
    try:
        return Recorded(
            number - 1,
            float(record["time"]),
            str(record["run_id"]),
            event_from_record(record),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise MalformedStream(path=path, line=number, reason=f"`time` or `run_id`: {error}") from error
    except EsperError as error:
        raise MalformedStream(path=path, line=number, reason=str(error)) from error


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return value
