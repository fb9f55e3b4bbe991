"""Runs kernels in Triton's interpreter, in a process of their own, with every memory access recorded.

`TRITON_INTERPRET=1` must be set before Triton is imported, hence the process. Requests and answers are
JSON and NumPy's own array files in a private folder; nothing is pickled.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
        answer = _run_worker(folder, timeout_s)
        shapes = {name: array.shape for name, array in inputs.items()}
        shapes |= {name: shape for name, (_, shape) in outputs.items()}
        with np.load(folder / "buffers.npz", allow_pickle=False) as arrays:
            buffers = {
                name: arrays[f"arr_{index}"].reshape(shape)
                for index, (name, shape) in enumerate(shapes.items())
            }
        findings = tuple(Finding(**finding) for finding in answer["findings"])
        return Interpretation(buffers, findings, answer["launches"])


def _run_worker(folder: Path, timeout_s: float) -> dict[str, Any]:
    command = [sys.executable, "-m", "esper.urza.verify.interpret_worker", str(folder)]
    environment = child_environment(TRITON_INTERPRET="1")
    try:
        process = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout_s)
    except subprocess.TimeoutExpired as error:
        raise InterpreterFailed(kernel="?", reason=f"no answer after {timeout_s:g} s") from error
    try:
        answer: dict[str, Any] = json.loads((folder / "answer.json").read_text())
    except FileNotFoundError as error:
        reason = process.stderr.strip().splitlines()[-1:] or [f"exit code {process.returncode}"]
        raise InterpreterFailed(kernel="?", reason=reason[0]) from error
    if "error" in answer:
        raise InterpreterFailed(kernel=answer["kernel"], reason=answer["error"])
    return answer
