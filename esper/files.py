"""Writing a file whole or not at all: beside its place, synced, renamed; and what files hold, as a digest."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from esper.errors import EsperError

WRITABLE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH


class FileUnwritable(EsperError):
    """An output that could not be written; nothing half-written is left behind."""

    code = "E0002"
    message = "`{path}` cannot be written: {reason}"
    help = "choose another file, or make this one writable"


def write_whole(path: Path, data: str | bytes) -> None:
    """Writes `path` or leaves what was there, also when interrupted. Raises `FileUnwritable`.

    A link is followed; the file keeps its mode and, where the system allows it, its owner. A file that nobody
    may write is left alone. A device or a pipe is written to.
    """
    if not path.name or path.is_dir():
        raise FileUnwritable(path=path, reason=os.strerror(errno.EISDIR))
    content = data.encode() if isinstance(data, str) else data
    try:
        place = Path(os.path.realpath(path))
        before = place.stat() if place.exists() else None
        if before is not None and not stat.S_ISREG(before.st_mode):
            place.write_bytes(content)
            return
        if before is not None and not before.st_mode & WRITABLE:
            raise PermissionError(errno.EACCES, "it is read-only")
        _replace(place, content, before)
    except OSError as error:
        raise FileUnwritable(path=path, reason=error.strerror or str(error)) from error


def _replace(place: Path, content: bytes, before: os.stat_result | None) -> None:
    partial = place.with_name(f".{place.name}.{os.getpid()}-{secrets.token_hex(4)}.partial")
    try:
        with partial.open("xb") as file:
            if before is not None:
                os.fchmod(file.fileno(), stat.S_IMODE(before.st_mode))
                with suppress(PermissionError):
                    os.fchown(file.fileno(), before.st_uid, before.st_gid)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(place)
    finally:
        partial.unlink(missing_ok=True)


def stamp(folders: Iterable[Path], endings: tuple[str, ...]) -> str:
    """A digest that changes with every file of these endings in `folders`: with its name and its contents."""
    found = [sorted(_digests(folder, endings)) for folder in folders]
    return hashlib.sha256(repr(found).encode()).hexdigest()


def _digests(folder: Path, endings: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for place, _, names in os.walk(folder):
        for name in names:
            if name.endswith(endings):
                path = Path(place, name)
                with suppress(OSError):  # a link to nothing, or removed at this moment
                    yield str(path.relative_to(folder)), hashlib.sha256(path.read_bytes()).hexdigest()
