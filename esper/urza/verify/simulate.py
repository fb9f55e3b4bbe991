"""A program in Triton's interpreter: kernels on simulated memory, library operators on torch tensors.

Kernels run together, in the process that interprets, up to the next library operator that reads what they
write.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from numpy.typing import NDArray

from esper.ir.dims import evaluate_size
from esper.ops.reference.evaluate import TORCH_DTYPES
from esper.urza.generate.writer import Launch, buffer_name
from esper.urza.program import Call, Program
from esper.urza.run.bound_program import call_library, constant_tensors, read
from esper.urza.verify.interpret import KernelCall, interpret
from esper.urza.verify.recorder import Finding


@dataclass(frozen=True)
class Simulation:
    """What a run left behind.

    tensors: leaves, buffers and partial sums by name. findings: faults in memory accesses, in launch
    order. launches: how many kernels ran. results: the graph's outputs and updates.
    """

    tensors: Mapping[str, torch.Tensor]
    findings: tuple[Finding, ...]
    launches: int
    results: Mapping[str, torch.Tensor]


def simulate(program: Program, leaves: Mapping[str, torch.Tensor], sizes: Mapping[str, int]) -> Simulation:
    """Runs `program` on CPU tensors for its graph's inputs, params, buffers and seed.

    Raises InterpreterFailed for a kernel that cannot run.
    """
    tensors = {name: tensor.contiguous() for name, tensor in leaves.items()}
    tensors |= constant_tensors(program, torch.device("cpu"))
    run = _Run(program, tensors, sizes)
    for step in program.steps:
        if isinstance(step, Launch):
            run.pending.append(step)
        else:
            run.call(step)
    run.flush()
    results = {name: read(access, run.tensors, sizes) for name, access in program.outputs.items()}
    return Simulation(run.tensors, tuple(run.findings), run.launches, results)


@dataclass
class _Run:
    program: Program
    tensors: dict[str, torch.Tensor]
    sizes: Mapping[str, int]
    pending: list[Launch] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    launches: int = 0

    def call(self, step: Call) -> None:
        written = {name for launch in self.pending for name in launch.written}
        if any(read is not None and buffer_name(read.base) in written for read in step.operands):
            self.flush()
        call_library(step, self.tensors, self.sizes)

    def flush(self) -> None:
        """Runs what is pending."""
        if not self.pending:
            return
        outputs = {name: self._declaration(name) for launch in self.pending for name in launch.written}
        used = {name for launch in self.pending for name in launch.buffers.values()}
        inputs = {name: as_array(self.tensors[name]) for name in sorted(used - outputs.keys())}
        found = interpret([self._kernel_call(launch) for launch in self.pending], inputs, outputs)
        self.tensors.update((name, as_tensor(found.buffers[name], outputs[name][0])) for name in outputs)
        self.findings += found.findings
        self.launches += found.launches
        self.pending = []

    def _declaration(self, name: str) -> tuple[str, tuple[int, ...]]:
        """(element type, shape) of a buffer."""
        if name in self.program.partials:
            partial = self.program.partials[name]
            return "f32", (partial.parts, partial.width)
        type = self.program.buffers[name]
        return type.dtype.value, type.concrete_shape(self.sizes)

    def _kernel_call(self, launch: Launch) -> KernelCall:
        numbers = {name: evaluate_size(size, self.sizes) for name, size in launch.sizes.items()}
        kernel = replace(launch.kernel.at(numbers), name=launch.kernel.name)
        return KernelCall(kernel, launch.buffers, numbers)


def as_array(tensor: torch.Tensor) -> NDArray[Any]:
    """The tensor's memory as an array, bf16 as its bits."""
    plain = tensor.view(torch.uint16) if tensor.dtype is torch.bfloat16 else tensor
    array: NDArray[Any] = plain.detach().numpy()
    return array


def as_tensor(array: NDArray[Any], dtype: str) -> torch.Tensor:
    """The inverse of `as_array`."""
    tensor = torch.from_numpy(array)
    return tensor.view(torch.bfloat16) if dtype == "bf16" else tensor.to(_DTYPES[dtype])


_DTYPES = {dtype.value: torch_dtype for dtype, torch_dtype in TORCH_DTYPES.items()}
