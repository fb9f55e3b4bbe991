"""Running a program on torch tensors: buffers are allocated, kernels launched, library operators called.

Native code goes through `esper.urza.launcher`. Without it launches go through Triton's own JIT: on AMD GPUs,
and in Triton's interpreter (`TRITON_INTERPRET=1` set before Triton is imported) with CPU tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import cache
from typing import Any

import torch

from esper.ir.dims import evaluate_size
from esper.ir.operator import OPERATORS
from esper.ops.reference.evaluate import TORCH_DTYPES, bind_sizes, concrete, reference
from esper.ops.rules import attribute_number
from esper.urza.access import Access
from esper.urza.errors import MissingCompiler, TensorTooLarge
from esper.urza.generate import Launch, buffer_name
from esper.urza.program import Call, Program
from esper.urza.source_module import module_from_source

Launching = Callable[[Launch, Mapping[str, torch.Tensor], Mapping[str, int]], None]
"""Launches one kernel on tensors by the names of their buffers, with the values of the size symbols."""

INDEX_LIMIT = 2**31
"""Kernels count elements in 32 bits."""


def run_program(
    program: Program,
    leaves: Mapping[str, torch.Tensor],
    sizes: Mapping[str, int] | None = None,
    launching: Launching | None = None,
) -> dict[str, torch.Tensor]:
    """The outputs and updates, by name.

    leaves: a tensor for each input, param, buffer and seed that the program's graph has, by name, on one
    device. sizes: values of the size symbols, where the shapes of the graph's inputs do not
    tell all. launching: what launches kernels; `launch` if None. Raises `TensorTooLarge` where a buffer has
    2**31 elements or more.
    """
    launching = launch if launching is None else launching
    tensors = {name: _placed(tensor) for name, tensor in leaves.items()}
    device = next(iter(tensors.values())).device
    tensors |= constant_tensors(program, device)
    if sizes is None:
        sizes = input_sizes(program, leaves)
    for name, type in program.buffers.items():
        shape = type.concrete_shape(sizes)
        tensors[name] = torch.empty(shape, dtype=TORCH_DTYPES[type.dtype], device=device)
    for name, partial in program.partials.items():
        tensors[name] = torch.empty((partial.parts, partial.width), dtype=torch.float32, device=device)
    for name, tensor in tensors.items():
        if tensor.numel() >= INDEX_LIMIT:
            raise TensorTooLarge(name=name, elements=tensor.numel())
    # Autograd runs backward passes in threads of its own, and a seed need not lie on the current GPU.
    with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
        for step in program.steps:
            if isinstance(step, Launch):
                launching(step, tensors, sizes)
            else:
                call_library(step, tensors, sizes)
    return {name: read(access, tensors, sizes) for name, access in program.outputs.items()}


def constant_tensors(program: Program, device: torch.device) -> dict[str, torch.Tensor]:
    """The constants of `program.constants`, as scalars by the names of their buffers."""
    return {
        buffer_name(node.result()): torch.full(
            (), attribute_number(node.attrs, "value"), dtype=TORCH_DTYPES[node.type.dtype], device=device
        )
        for node in program.constants
    }


def input_sizes(program: Program, leaves: Mapping[str, torch.Tensor]) -> dict[str, int]:
    """Values of the size symbols in the shapes of a program's inputs."""
    return bind_sizes(program.ir, {node.name: tuple(leaves[node.name].shape) for node in program.ir.inputs})


def read(access: Access, tensors: Mapping[str, torch.Tensor], sizes: Mapping[str, int]) -> torch.Tensor:
    """The view of a buffer that `access` describes."""
    tensor = tensors[buffer_name(access.base)]
    shape = [evaluate_size(size, sizes) for size in access.shape]
    return torch.as_strided(tensor, shape, [evaluate_size(stride, sizes) for stride in access.strides])


def call_library(step: Call, tensors: dict[str, torch.Tensor], sizes: Mapping[str, int]) -> None:
    """Runs one library operator and keeps the results that somebody reads."""
    path = OPERATORS[step.node.op].reference
    assert path is not None
    operands = [None if operand is None else read(operand, tensors, sizes) for operand in step.operands]
    attrs = {name: concrete(value, sizes, None) for name, value in step.node.attrs.items()}
    results = reference(path)(*operands, **attrs)
    for name, result in zip(step.results, results if isinstance(results, tuple) else (results,), strict=True):
        if name is not None:
            tensors[name] = _placed(result)


def _placed(tensor: torch.Tensor) -> torch.Tensor:
    """`tensor`, or a copy of it, where kernels expect one: dense, at an address divisible by 16."""
    tensor = tensor.contiguous()
    return tensor if tensor.data_ptr() % 16 == 0 else tensor.clone()


def launch(step: Launch, tensors: Mapping[str, torch.Tensor], sizes: Mapping[str, int]) -> None:
    """Launches one kernel on the current device's stream by Triton's JIT."""
    kernel = step.kernel
    numbers = {name: evaluate_size(size, sizes) for name, size in step.sizes.items()}
    arguments: list[Any] = [
        tensors[step.buffers[argument.name]] if argument.kind == "pointer" else numbers[argument.name]
        for argument in kernel.arguments
    ]
    _entry(kernel.source, kernel.entry)[kernel.launch_grid(numbers)](
        *arguments, **kernel.constexprs, num_warps=kernel.num_warps, num_stages=kernel.num_stages
    )


@cache
def _entry(source: str, name: str) -> Any:
    try:
        return getattr(module_from_source(source), name)
    except ImportError as error:
        raise MissingCompiler(tool="triton", reason=str(error)) from error
