"""Runs kernels in Triton's interpreter, in another process, with every memory access recorded.

`TRITON_INTERPRET=1` must be set before Triton is imported, hence the process. Requests and answers are
JSON and NumPy's own array files in a private folder; nothing is pickled.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from esper.urza.builder.processes import child_environment
from esper.urza.errors import InterpreterFailed
from esper.urza.kernel import KernelSource
from esper.urza.verify.recorder import Finding

NUMPY_TYPES: dict[str, np.dtype[Any]] = {
    "f16": np.dtype(np.float16),
    "bf16": np.dtype(np.uint16),
    "f32": np.dtype(np.float32),
    "f64": np.dtype(np.float64),
    "i32": np.dtype(np.int32),
    "i64": np.dtype(np.int64),
    "bool": np.dtype(np.bool_),
}
"""How each element type is held in an array: bf16 as its bits, since NumPy lacks it."""


DONE = b"done\n"
"""What the process answers once a request is done."""


@dataclass(frozen=True, slots=True)
class KernelCall:
    """One launch: which buffer each pointer argument means, and the other arguments' values."""

    kernel: KernelSource
    buffers: Mapping[str, str]
    sizes: Mapping[str, int] = field(default_factory=dict)
    scalars: Mapping[str, int | float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Interpretation:
    """What the launches left behind.

    buffers: every buffer, in the shape it was given in. findings: faults in how memory was accessed, in
    launch order. launches: how many kernels ran.
    """

    buffers: Mapping[str, NDArray[Any]]
    findings: tuple[Finding, ...]
    launches: int


def interpret(
    calls: Sequence[KernelCall],
    inputs: Mapping[str, NDArray[Any]],
    outputs: Mapping[str, tuple[str, tuple[int, ...]]],
    timeout_s: float = 600.0,
) -> Interpretation:
    """Runs `calls` one after another over shared buffers.

    inputs: buffers that hold values, with NUMPY_TYPES' types. outputs: (element type, shape) of buffers
    that start unwritten; reading an element before it is written is a finding.
    Raises InterpreterFailed with the kernel's name when one cannot run.
    """
    with tempfile.TemporaryDirectory(prefix="esper-interpret-") as name:
        folder = Path(name)
        np.savez(folder / "inputs.npz", *inputs.values())
        request = {
            "inputs": list(inputs),
            "outputs": {name: [dtype, list(shape)] for name, (dtype, shape) in outputs.items()},
            "calls": [
                {
                    "kernel": call.kernel.to_json(),
                    "buffers": dict(call.buffers),
                    "sizes": dict(call.sizes),
                    "scalars": dict(call.scalars),
                }
                for call in calls
            ],
        }
        (folder / "request.json").write_text(json.dumps(request))
        answer = _answer(folder, timeout_s)
        shapes = {name: array.shape for name, array in inputs.items()}
        shapes |= {name: shape for name, (_, shape) in outputs.items()}
        with np.load(folder / "buffers.npz", allow_pickle=False) as arrays:
            buffers = {
                name: arrays[f"arr_{index}"].reshape(shape)
                for index, (name, shape) in enumerate(shapes.items())
            }
        findings = tuple(Finding(**finding) for finding in answer["findings"])
        return Interpretation(buffers, findings, answer["launches"])


def _answer(folder: Path, timeout_s: float) -> dict[str, Any]:
    """What became of the request in `folder`."""
    reason = _PROCESS.ask(folder, timeout_s)
    if reason is not None:
        raise InterpreterFailed(kernel="?", reason=reason)
    answer: dict[str, Any] = json.loads((folder / "answer.json").read_text())
    if "error" in answer:
        raise InterpreterFailed(kernel=answer["kernel"], reason=answer["error"])
    return answer


class _Process:
    """The process that interprets: begun when first needed, reused, and ended with this one.

    It has a session of its own, so an interrupt that a terminal sends to everything here is not its affair.
    """

    def __init__(self) -> None:
        self.forget()
        os.register_at_fork(after_in_child=self.forget)

    def forget(self) -> None:
        """Begins anew: a fork does not share its parent's, which a lock may be held for."""
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._told: IO[bytes] | None = None
        """Where it writes what goes wrong."""

    def ask(self, folder: Path, timeout_s: float) -> str | None:
        """Waits for the answer in `folder`; why there is none, else None."""
        with self._lock:
            process = self._running()
            line, is_over = b"", False
            try:
                line, is_over = self._asked(process, f"{folder}\n".encode(), timeout_s)
            finally:
                reason = None if line == DONE else self._end()
        return f"no answer after {timeout_s:g} s" if is_over else reason

    def _asked(
        self, process: subprocess.Popen[bytes], request: bytes, timeout_s: float
    ) -> tuple[bytes, bool]:
        """The line that it answers, and whether there was none in time."""
        assert process.stdin is not None and process.stdout is not None and self._told is not None
        self._told.seek(0)
        self._told.truncate()
        with suppress(BrokenPipeError):  # a process that is gone answers nothing
            process.stdin.write(request)
        if not select.select([process.stdout], [], [], timeout_s)[0]:
            return b"", True
        return process.stdout.readline(), False

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is not None:
            self._end()
        if self._process is None:
            self._told = tempfile.TemporaryFile()  # noqa: SIM115 - closed where the process ends
            self._process = subprocess.Popen(
                [sys.executable, "-m", "esper.urza.verify.interpret_worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._told,
                bufsize=0,
                env=child_environment(TRITON_INTERPRET="1"),
                start_new_session=True,
            )
        return self._process

    def _end(self) -> str:
        """Ends the process; why."""
        assert self._process is not None and self._told is not None
        self._process.kill()
        self._process.communicate()
        self._told.seek(0)
        lines = self._told.read().decode(errors="replace").strip().splitlines()
        self._told.close()
        code, self._process = self._process.returncode, None
        return lines[-1] if lines else f"exit code {code}"

    def close(self) -> None:
        """Ends the process, if there is one."""
        if self._process is not None:
            self._end()


_PROCESS = _Process()
atexit.register(_PROCESS.close)
