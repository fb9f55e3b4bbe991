"""The kernel cache: built kernels by content, safe among processes that may be killed at any moment.

An entry is a folder named by its key. It is staged under another name and renamed into place whole, so a
reader sees all of it or nothing; digests inside expose whatever was damaged later, and a damaged entry
counts as absent. Keys are digests and nothing inside names a place, so the folder may be moved. The ledger
lists every cubin built here, with its origin and how it is launched: what this machine vouches for.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from esper.folders import user_folder
from esper.urza.errors import CacheUnusable

LIMIT_BYTES = 1024**3
"""What entries take at most after a build, unless the caller says otherwise."""

VOUCHED = (
    "digest",
    "target",
    "templates",
    "symbol",
    "num_warps",
    "shared_bytes",
    "scratch_bytes",
)
"""What of an entry's description the ledger vouches for beside the code: its kernel, and how it is launched.

Right code launched as another kernel, or with other numbers, is as harmful as wrong code.
"""

_ENTRY_FILE = "entry.json"
_STALE_S = 3600.0
"""Age at which something staged belongs to no living writer: staging takes milliseconds."""
_ATTEMPTS = 100
_DAMAGE = (OSError, ValueError, KeyError, TypeError, RecursionError)


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry as it lies on the disk.

    size: of its files, in bytes. used_s: when it was stored or last loaded, in seconds since 1970.
    description: as stored; empty where it cannot be read.
    """

    key: str
    size: int
    used_s: float
    description: Mapping[str, Any]


class KernelCache:
    """Entries of named byte strings and a JSON description, by key (64 hexadecimal digits).

    Raises CacheUnusable where the folder cannot be made, belongs to another user, or others may write to it.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = user_folder("cache") if folder is None else folder
        self._entries = self.folder / "kernels"
        self._staging = self.folder / "staging"
        self._ledger = self.folder / "ledger"
        try:
            for path in (self.folder, self._entries, self._staging, self._ledger):
                path.mkdir(mode=0o700, parents=True, exist_ok=True)
            status = self.folder.stat()
        except OSError as error:
            raise CacheUnusable(folder=self.folder, reason=error.strerror or str(error)) from error
        if hasattr(os, "getuid"):
            if status.st_uid != os.getuid():
                raise CacheUnusable(folder=self.folder, reason="it belongs to another user")
            if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                raise CacheUnusable(folder=self.folder, reason="other users may write to it")

    def load(self, key: str) -> tuple[dict[str, Any], dict[str, bytes]] | None:
        """(description, files) of an entry, digests checked; None when it is absent or damaged."""
        found = self._read(key)
        if found is not None:
            self.touch(key)
        return found

    def touch(self, key: str) -> bool:
        """Counts as a use of an entry, which is not read. Returns whether there is one."""
        try:
            os.utime(self._path(key) / _ENTRY_FILE)
        except FileNotFoundError:
            return False
        except OSError:  # a folder that is read only
            return True
        return True

    def is_whole(self, key: str) -> bool:
        """Whether an entry's digests are those of its files; unlike `load`, this is no use of it."""
        return self._read(key) is not None

    def entries(self) -> Iterator[Entry]:
        """Every entry, in no order; digests are not checked."""
        for path in self._entries.glob("*/*"):
            with contextlib.suppress(OSError):  # pruned or replaced at this moment
                files = {file.name: file.stat() for file in os.scandir(path)}
                used = files.get(_ENTRY_FILE) or path.stat()
                size = sum(status.st_size for status in files.values())
                yield Entry(path.name, size, used.st_mtime, _description(path / _ENTRY_FILE))

    def prune(self, limit_bytes: int = LIMIT_BYTES) -> tuple[Entry, ...]:
        """Removes the least recently used entries until the others take at most `limit_bytes`, and what
        killed writers left behind. Returns what it removed; the ledger keeps vouching for the code.
        """
        for left in self._staging.iterdir():
            with contextlib.suppress(OSError):
                if time.time() - left.stat().st_mtime > _STALE_S:
                    _delete(left)
        removed, kept_bytes = [], 0
        for entry in sorted(self.entries(), key=lambda entry: -entry.used_s):
            kept_bytes += entry.size
            if kept_bytes > limit_bytes:
                self._remove(self._path(entry.key))
                removed.append(entry)
        return tuple(removed)

    def store(self, key: str, description: Mapping[str, Any], contents: Mapping[str, bytes]) -> None:
        """Puts an entry in place, whole or not at all; a damaged one of the same key is replaced."""
        staged = self._staging / f"{key[:16]}-{os.getpid()}-{secrets.token_hex(4)}"
        try:
            staged.mkdir(mode=0o700)
            for name, data in contents.items():
                (staged / name).write_bytes(data)
            document = {"key": key, "description": dict(description), "sha256": _digests(contents)}
            (staged / _ENTRY_FILE).write_text(json.dumps(document, indent=1, sort_keys=True))
            for name, data in contents.items():
                if name.endswith(".cubin"):
                    (self._ledger / _statement(description, data)).touch(mode=0o600)
            self._publish(staged, self._path(key), key)
        except OSError as error:
            raise CacheUnusable(folder=self.folder, reason=error.strerror or str(error)) from error
        finally:
            shutil.rmtree(staged, ignore_errors=True)

    def vouches_for(self, description: Mapping[str, Any], cubin: bytes) -> bool:
        """Whether this machine built this very code from the kernel that `description` tells of (VOUCHED)."""
        return (self._ledger / _statement(description, cubin)).exists()

    def _read(self, key: str) -> tuple[dict[str, Any], dict[str, bytes]] | None:
        entry = self._path(key)
        try:
            document = json.loads((entry / _ENTRY_FILE).read_bytes())
            contents = {name: (entry / name).read_bytes() for name in document["sha256"]}
            intact = document["key"] == key and document["sha256"] == _digests(contents)
            return (document["description"], contents) if intact else None
        except _DAMAGE:
            return None

    def _publish(self, staged: Path, entry: Path, key: str) -> None:
        entry.parent.mkdir(mode=0o700, exist_ok=True)
        for attempt in range(_ATTEMPTS):
            if self._read(key) is not None:
                return
            try:
                staged.rename(entry)
                return
            except OSError:
                # Something stands in the way: another process's entry, which the next turn finds whole, or a
                # damaged one, which is moved aside. A disk that refuses every turn is an error at last.
                if attempt == _ATTEMPTS - 1:
                    raise
            if self._read(key) is None:
                self._remove(entry)

    def _remove(self, entry: Path) -> None:
        """Out of sight in one step, so that nobody reads half of it; then deleted."""
        aside = self._staging / f"{entry.name[:16]}-{os.getpid()}-{secrets.token_hex(4)}-removed"
        with contextlib.suppress(FileNotFoundError):
            entry.rename(aside)
            _delete(aside)

    def _path(self, key: str) -> Path:
        return self._entries / key[:2] / key


def _digests(contents: Mapping[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}


def _statement(description: Mapping[str, Any], cubin: bytes) -> str:
    """What the ledger files a cubin under."""
    parts = {name: description.get(name) for name in VOUCHED}
    text = json.dumps(parts | {"cubin": hashlib.sha256(cubin).hexdigest()}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _description(path: Path) -> Mapping[str, Any]:
    try:
        description = json.loads(path.read_bytes())["description"]
    except _DAMAGE:
        return {}
    return description if isinstance(description, dict) else {}


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
