"""One file for what was synthesized and measured, shared by processes."""

from __future__ import annotations

import math
import os
import time
from contextlib import suppress
from pathlib import Path

from esper.errors import WrongArgument
from esper.tezzeret.database import Database, Format
from esper.tezzeret.registry import answers, measurements, versions
from esper.tezzeret.registry.clock import Clock
from esper.tezzeret.registry.errors import RegistryForeign, RegistryInUse

FORMAT = Format(
    application=0x45537267,
    version=1,
    tables=versions.TABLES + answers.TABLES + measurements.TABLES,
    foreign=RegistryForeign,
    in_use=RegistryInUse,
)
TTL_SECONDS = 30 * 24 * 3600.0
CAPACITY = 10_000
PATIENCE_SECONDS = 30.0


class Registry:
    """An open registry; a context manager that closes it. Threads may share it, processes open their own."""

    def __init__(self, database: Database, clock: Clock, ttl_seconds: float, capacity: int) -> None:
        """Use `open_registry`."""
        self._database = database
        self.versions = versions.Versions(database, clock)
        self.answers = answers.Answers(database, self.versions, clock, ttl_seconds, capacity)
        self.measurements = measurements.Measurements(database, self.versions, clock)

    def __enter__(self) -> Registry:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._database.close()


def open_registry(
    path: Path,
    *,
    clock: Clock = time.time,
    ttl_seconds: float = TTL_SECONDS,
    capacity: int = CAPACITY,
    patience_seconds: float = PATIENCE_SECONDS,
) -> Registry:
    """The registry at `path`, begun if there is none. On a local disk: SQLite's log needs shared memory.

    clock: seconds since 1970. ttl_seconds: for how long an answer serves; infinite for ever. capacity: how
    many answers are kept. patience_seconds: to wait for other processes that write.
    Raises `RegistryForeign` for a file that is none, is damaged, or is of another version, `RegistryInUse`,
    `FileUnwritable`, and `WrongArgument`.
    """
    if not ttl_seconds > 0 or math.isnan(ttl_seconds):
        raise WrongArgument(argument="ttl_seconds", found=ttl_seconds, expected="more than 0")
    if capacity < 1:
        raise WrongArgument(argument="capacity", found=capacity, expected="at least 1")
    if not os.path.lexists(path):
        with suppress(FileExistsError):  # another process was faster
            FORMAT.begin(path)
    FORMAT.require(path)
    return Registry(Database(path, FORMAT, patience_seconds), clock, ttl_seconds, capacity)
