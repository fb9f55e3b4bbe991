"""SQLite files of our own: begun whole, known by their header, refused where they are anything else.

By the standard library's module, with a write-ahead log: a transaction is in the file as a whole or not at
all, whenever a process dies. A crash of the machine may lose the last transactions, but leaves a sound file.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from esper.errors import EsperError
from esper.files import FileUnwritable

_MAGIC = b"SQLite format 3\0"
_HEADER_BYTES = 100
_USER_VERSION, _APPLICATION = 60, 68
"""Where the header has them, as big-endian 32 bits (https://sqlite.org/fileformat2.html)."""

_UNWRITABLE = {
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
}
_IN_USE = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}


@dataclass(frozen=True, slots=True)
class Format:
    """A kind of file: its numbers in the header, its tables, and what is raised where a file is another.

    foreign: takes `path` and `reason`. in_use: takes `path`.
    """

    application: int
    version: int
    tables: str
    foreign: type[EsperError]
    in_use: type[EsperError]

    def begin(self, path: Path, fill: Callable[[sqlite3.Connection], object] = lambda _: None) -> None:
        """Writes a file beside its place, then links it there: it is never there in part.

        fill: adds its first rows. Raises `FileExistsError` where a file appeared meanwhile, `foreign` where
        the log of one that is gone was left, which SQLite would take for this one's, and `FileUnwritable`.
        """
        if os.path.lexists(f"{path}-wal"):
            if os.path.lexists(path):
                raise FileExistsError(path)
            reason = f"beside it lies `{path.name}-wal`, the log of a file that is gone; delete it, too"
            raise self.foreign(path=path, reason=reason)
        partial = path.with_name(f".esper-{os.getpid()}-{secrets.token_hex(4)}.partial")
        try:
            with closing(sqlite3.connect(partial, isolation_level=None)) as connection:
                connection.executescript(
                    f"PRAGMA journal_mode = WAL; BEGIN; PRAGMA application_id = {self.application};"
                    f"PRAGMA user_version = {self.version}; {self.tables} COMMIT;"
                )
                fill(connection)
            os.link(partial, path)  # unlike a rename, it fails where there is a file
        except FileExistsError:
            raise
        except (OSError, sqlite3.Error) as error:
            raise FileUnwritable(path=path, reason=getattr(error, "strerror", None) or str(error)) from error
        finally:
            for leftover in (partial, Path(f"{partial}-wal"), Path(f"{partial}-shm")):
                with suppress(OSError):  # where nothing can be written, nothing is left over
                    leftover.unlink()

    def require(self, path: Path) -> None:
        """Raises `foreign` unless the header is ours. Another program's database is not even locked."""
        if not path.is_file():
            raise self.foreign(path=path, reason="it is no file")
        try:
            with path.open("rb") as file:
                header = file.read(_HEADER_BYTES)
        except OSError as error:
            raise self.foreign(path=path, reason=error.strerror or str(error)) from error
        if len(header) < _HEADER_BYTES or not header.startswith(_MAGIC):
            raise self.foreign(path=path, reason="it is no database, or it is empty")
        (application,) = struct.unpack_from(">I", header, _APPLICATION)
        (version,) = struct.unpack_from(">I", header, _USER_VERSION)
        if application != self.application:
            raise self.foreign(path=path, reason="its header is another program's")
        if version != self.version:
            raise self.foreign(path=path, reason=f"its version is {version}, expected {self.version}")

    def connect(self, path: Path, timeout: float = 0.0) -> sqlite3.Connection:
        """timeout: seconds that a statement waits for other processes. Nothing is created."""
        return sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=rw",
            uri=True,
            timeout=timeout,
            isolation_level=None,
            check_same_thread=False,
        )

    def error(self, path: Path, error: sqlite3.Error) -> EsperError:
        """What a user is told of an error of SQLite."""
        kind = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF  # without its extension
        if kind in _IN_USE:
            return self.in_use(path=path)
        if kind in _UNWRITABLE:
            return FileUnwritable(path=path, reason=str(error))
        return self.foreign(path=path, reason=str(error))


class Database:
    """An open file that several processes share, each by a connection of its own, and threads of one take in
    turns. A child that was forked must open it anew."""

    def __init__(self, path: Path, format: Format, timeout: float) -> None:
        """timeout: seconds to wait for other processes. Raises `format.foreign` for a damaged file,
        `format.in_use` and `FileUnwritable`."""
        self.path = path
        self.format = format
        self._turn = threading.RLock()
        try:
            self._connection = format.connect(path, timeout)
        except sqlite3.Error as error:
            raise format.error(path, error) from error
        try:
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.execute("PRAGMA foreign_keys = ON")
            if self._connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
                raise format.foreign(path=path, reason="it is damaged")
        except sqlite3.Error as error:
            self._connection.close()
            raise format.error(path, error) from error
        except BaseException:
            self._connection.close()
            raise

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """The rows of one query, all of one moment. Raises as `writing` does."""
        try:
            with self._turn:
                return self._connection.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise self.format.error(self.path, error) from error

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """What is done in here is in the file as a whole on return, and not at all where it raises.

        No other process writes meanwhile. Raises `format.in_use` where it cannot have its turn in time,
        `FileUnwritable`, and `format.foreign` where the file turns out to be damaged.
        """
        with self._turn:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                try:
                    yield self._connection
                    self._connection.execute("COMMIT")
                except BaseException:
                    if self._connection.in_transaction:
                        self._connection.execute("ROLLBACK")
                    raise
            except sqlite3.Error as error:
                raise self.format.error(self.path, error) from error

    def close(self) -> None:
        """The last process to close it folds the log into the file."""
        with self._turn:
            self._connection.close()
