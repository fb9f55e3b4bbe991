"""Writing a file whole or not at all: beside its place, synced, renamed."""

from __future__ import annotations

import errno
import os
import secrets
from pathlib import Path

from esper.errors import EsperError


class FileUnwritable(EsperError):
    """An output that could not be written; nothing half-written is left behind."""

    code = "E0002"
    message = "`{path}` cannot be written: {reason}"
    help = "choose another file with -o"


def write_whole(path: Path, data: str | bytes) -> None:
    """Writes `path` or leaves what was there, also when interrupted. Raises `FileUnwritable`."""
    if not path.name or path.is_dir():
        raise FileUnwritable(path=path, reason=os.strerror(errno.EISDIR))
    partial = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.partial")
    try:
        with partial.open("xb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise FileUnwritable(path=path, reason=error.strerror or str(error)) from error
    finally:
        partial.unlink(missing_ok=True)
