"""The kernel cache: built kernels by content, safe among processes that may be killed at any moment.

An entry is a folder named by its key. It is staged under another name and renamed into place whole, so a
reader sees all of it or nothing; digests inside expose whatever was damaged later, and a damaged entry
counts as absent. The ledger lists the sha256 of every cubin built here: code that this machine vouches for.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from esper.urza.errors import CacheUnusable

_ENTRY_FILE = "entry.json"


def default_folder() -> Path:
    """$ESPER_CACHE_DIR, else `esper` in the platform's folder for a user's caches."""
    if chosen := os.environ.get("ESPER_CACHE_DIR"):
        return Path(chosen)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "esper"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "esper" / "cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "esper"


class KernelCache:
    """Entries of named byte strings and a JSON description, by key (64 hexadecimal digits).

    Raises CacheUnusable where the folder cannot be made, belongs to another user, or others may write to it.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = default_folder() if folder is None else folder
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
        entry = self._path(key)
        try:
            document = json.loads((entry / _ENTRY_FILE).read_text())
            contents = {name: (entry / name).read_bytes() for name in document["sha256"]}
            intact = document["key"] == key and document["sha256"] == _digests(contents)
            return (document["description"], contents) if intact else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

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
                    (self._ledger / hashlib.sha256(data).hexdigest()).touch(mode=0o600)
            self._publish(staged, self._path(key), key)
        except OSError as error:
            raise CacheUnusable(folder=self.folder, reason=error.strerror or str(error)) from error
        finally:
            shutil.rmtree(staged, ignore_errors=True)

    def vouches_for(self, cubin: bytes) -> bool:
        """Whether this machine built this very code."""
        return (self._ledger / hashlib.sha256(cubin).hexdigest()).exists()

    def _publish(self, staged: Path, entry: Path, key: str) -> None:
        entry.parent.mkdir(mode=0o700, exist_ok=True)
        while self.load(key) is None:
            with contextlib.suppress(OSError):
                staged.rename(entry)
                return
            # Something stands in the way: another process's entry, which ends the loop, or a damaged one.
            if self.load(key) is None:
                with contextlib.suppress(FileNotFoundError):
                    entry.rename(staged.with_name(staged.name + "-damaged"))
                shutil.rmtree(staged.with_name(staged.name + "-damaged"), ignore_errors=True)

    def _path(self, key: str) -> Path:
        return self._entries / key[:2] / key


def _digests(contents: Mapping[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
