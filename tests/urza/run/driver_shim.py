"""A stand-in for the CUDA driver, compiled by the test that needs it, which records every launch."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from esper.urza.run.driver import Driver

SOURCE = Path(__file__).with_suffix(".c")
_PARAMETERS, _RECORDS = 64, 4096


class _Record(ctypes.Structure):
    _fields_ = (
        ("function", ctypes.c_uint64),
        ("stream", ctypes.c_uint64),
        ("context", ctypes.c_uint64),
        ("grid", ctypes.c_uint32 * 3),
        ("block", ctypes.c_uint32 * 3),
        ("shared", ctypes.c_uint32),
        ("count", ctypes.c_uint32),
        ("values", ctypes.c_uint64 * _PARAMETERS),
    )


@dataclass(frozen=True)
class Seen:
    """What cuLaunchKernel got. context: 0xC0 plus the device's number. values: 8 bytes a parameter."""

    function: int
    stream: int
    context: int
    grid: tuple[int, ...]
    block: tuple[int, ...]
    shared: int
    values: tuple[bytes, ...]


def compiler() -> str | None:
    """The C compiler here, if there is one."""
    return shutil.which("cc")


class Shim:
    """The library, its settings and its records. folder: where it is compiled."""

    def __init__(self, folder: Path) -> None:
        path = folder / "libshim.so"
        command = [
            compiler() or "cc",
            "-shared",
            "-fPIC",
            "-O2",
            "-Wall",
            "-Werror",
            "-o",
            str(path),
            str(SOURCE),
        ]
        subprocess.run(command, check=True)
        self._library = ctypes.CDLL(str(path))
        self.set(shared_limit=227 * 1024)
        self.driver = Driver(self._library)

    def set(self, **settings: int) -> None:
        """Sets the shim's variables, such as how many `parameters` it reads of each launch."""
        for name, value in settings.items():
            ctypes.c_int32.in_dll(self._library, name).value = value

    def get(self, name: str) -> int:
        return ctypes.c_int32.in_dll(self._library, name).value

    @property
    def symbol(self) -> str:
        """The function that was looked up last."""
        return (ctypes.c_char * 256).in_dll(self._library, "symbol").value.decode()

    def launched(self) -> list[Seen]:
        """Every launch since the library was loaded, in order."""
        records = (_Record * _RECORDS).in_dll(self._library, "records")
        return [_seen(record) for record in records[: self.get("launches")]]


def _seen(record: _Record) -> Seen:
    return Seen(
        record.function,
        record.stream,
        record.context,
        tuple(record.grid),
        tuple(record.block),
        record.shared,
        tuple(value.to_bytes(8, "little") for value in record.values[: record.count]),
    )
