"""Running a program on torch tensors: buffers are allocated, kernels launched, library operators called.

What kernels write and nobody reads after the call lies in one allocation, as `esper.urza.arena` places it.
What library operators return is let go after the last step that reads it. Native code goes through
`esper.urza.run.launcher`. Without it launches go through Triton's own JIT: on AMD GPUs, and in Triton's
interpreter (`TRITON_INTERPRET=1` set before Triton is imported) with CPU tensors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import torch

from esper.ir.dims import evaluate_size
from esper.ir.operator import OPERATORS
from esper.ops.reference.evaluate import TORCH_DTYPES, bind_sizes, concrete, reference
from esper.ops.rules import attribute_number
from esper.urza.arena import arena, spans
from esper.urza.builder.source_module import module_from_source
from esper.urza.eager.torch_tier import leaves
from esper.urza.errors import MissingCompiler, TensorTooLarge, TensorUnfitForKernels
from esper.urza.generate.writer import Launch, buffer_name
from esper.urza.plan.access import Access
from esper.urza.program import Call, Program

INDEX_LIMIT = 2**31
"""Kernels count elements in 32 bits."""

REMEMBERED = 256
"""How many sets of sizes a program keeps shapes for."""

Key = TypeVar("Key")
Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Slice:
    """Where a buffer lies in the arena, and how it is read: `offset` in bytes, the others in elements."""

    offset: int
    dtype: torch.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def of(self, arena: torch.Tensor) -> torch.Tensor:
        """The view; arena: a uint8 tensor."""
        elements = self.offset // self.dtype.itemsize
        return arena.view(self.dtype).as_strided(self.shape, self.strides, elements)


class Buffers(MutableMapping[str, torch.Tensor]):
    """The buffers of one call, by name.

    addresses: where each lies. A buffer in the arena becomes a tensor when somebody asks for it: to a kernel
    its address is enough.
    """

    __slots__ = ("_arena", "_slices", "_tensors", "addresses")

    def __init__(
        self, tensors: dict[str, torch.Tensor], arena: torch.Tensor, slices: Mapping[str, Slice]
    ) -> None:
        self._tensors = tensors
        self._arena = arena
        self._slices = slices
        start = arena.data_ptr()
        self.addresses = {name: tensor.data_ptr() for name, tensor in tensors.items()}
        for name, slice in slices.items():
            self.addresses[name] = start + slice.offset

    def __getitem__(self, name: str) -> torch.Tensor:
        found = self._tensors.get(name)
        if found is None:
            found = self._tensors[name] = self._slices[name].of(self._arena)
        return found

    def __setitem__(self, name: str, tensor: torch.Tensor) -> None:
        self._tensors[name] = tensor
        self.addresses[name] = tensor.data_ptr()

    def __delitem__(self, name: str) -> None:
        del self._tensors[name], self.addresses[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.addresses)

    def __len__(self) -> int:
        return len(self.addresses)


Launching = Callable[[Sequence[Launch], Buffers, Mapping[str, int]], None]
"""Launches kernels one after another, on the buffers of a call, with the values of the size symbols."""


class BoundProgram:
    """A program and what launches its kernels, to be called again and again.

    What follows from sizes alone (shapes, strides, the arena) is worked out once and kept for those seen
    lately. launching: what launches kernels; `launch` if None.
    """

    def __init__(self, program: Program, launching: Launching | None = None) -> None:
        self.program = program
        self._dtypes = {leaf.name: TORCH_DTYPES[leaf.type.dtype] for leaf in leaves(program.ir)}
        self._launching = launch if launching is None else launching
        self._inputs = tuple(node.name for node in program.ir.inputs)
        self._parts = _parts(program)
        self._sizes: dict[tuple[torch.Size, ...], Mapping[str, int]] = {}
        self._frames: dict[tuple[tuple[str, int], ...], _Frame] = {}

    @property
    def leaf_names(self) -> tuple[str, ...]:
        """What `given` holds at a call."""
        return tuple(self._dtypes)

    def sizes(self, given: Mapping[str, torch.Tensor]) -> Mapping[str, int]:
        """Values of the size symbols in the shapes of the program's inputs. Raises `ShapeGiven`."""
        key = tuple([given[name].shape for name in self._inputs])
        if key not in self._sizes:
            shapes = dict(zip(self._inputs, map(tuple, key), strict=True))
            _remember(self._sizes, key, bind_sizes(self.program.ir, shapes))
        return self._sizes[key]

    def __call__(
        self, given: Mapping[str, torch.Tensor], sizes: Mapping[str, int] | None = None
    ) -> dict[str, torch.Tensor]:
        """The outputs and updates, by name.

        given: a tensor for each leaf of the program's graph, by name, on one device. sizes: values of the
        size symbols, where the shapes of the graph's inputs do not tell all. Raises `TensorTooLarge` where a
        buffer has 2**31 elements or more, and `TensorUnfitForKernels`: native code does not look at types.
        """
        sizes = self.sizes(given) if sizes is None else sizes
        device = given[next(iter(self._dtypes))].device
        for name, dtype in self._dtypes.items():
            tensor = given[name]
            if tensor.dtype != dtype or tensor.device != device:
                found = f"{tensor.dtype} on {tensor.device}"
                raise TensorUnfitForKernels(name=name, found=found, expected=f"{dtype} on {device}")
            _check_elements(name, tensor.numel())
        tensors = {name: _placed(given[name]) for name in self._dtypes}
        tensors |= constant_tensors(self.program, device)
        frame = self._frame(sizes)
        # Autograd runs backward passes in threads of its own, and a seed need not lie on the current GPU.
        with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
            for name, shape, dtype in frame.apart:
                tensors[name] = torch.empty(shape, dtype=dtype, device=device)
            arena = torch.empty((frame.arena_size,), dtype=torch.uint8, device=device)
            buffers = Buffers(tensors, arena, frame.slices)
            for part in self._parts:
                if part.call is None:
                    self._launching(part.stretch, buffers, sizes)
                else:
                    call_library(part.call, buffers, sizes)
                for name in part.let_go:
                    del buffers[name]
        return {name: view.of(buffers) for name, view in frame.outputs.items()}

    def _frame(self, sizes: Mapping[str, int]) -> _Frame:
        key = tuple(sizes.items())
        if key not in self._frames:
            _remember(self._frames, key, _frame(self.program, sizes))
        return self._frames[key]


def run_program(
    program: Program,
    given: Mapping[str, torch.Tensor],
    sizes: Mapping[str, int] | None = None,
    launching: Launching | None = None,
) -> dict[str, torch.Tensor]:
    """The outputs and updates of one call, by name; see `BoundProgram`."""
    return BoundProgram(program, launching)(given, sizes)


@dataclass(frozen=True, slots=True)
class _Part:
    """Kernels launched one after another, or one library call; and whose results nobody reads later."""

    stretch: tuple[Launch, ...]
    call: Call | None
    let_go: tuple[str, ...]


def _parts(program: Program) -> tuple[_Part, ...]:
    calls = [step for step in program.steps if isinstance(step, Call)]
    outliving = {buffer_name(read.base) for read in program.outputs.values()}
    returned = {name for step in calls for name in step.results if name is not None} - outliving
    last = {name: span.last for name, span in spans(program).items() if name in returned}
    parts: list[_Part] = []
    stretch: list[Launch] = []
    dead: list[str] = []

    def end_stretch() -> None:
        if stretch:
            parts.append(_Part(tuple(stretch), None, tuple(dead)))
            stretch.clear()
            dead.clear()

    for number, step in enumerate(program.steps):
        dying = [name for name, end in last.items() if end == number]
        if isinstance(step, Call):
            end_stretch()
            parts.append(_Part((), step, tuple(dying)))
        else:
            stretch.append(step)
            dead += dying
    end_stretch()
    return tuple(parts)


@dataclass(frozen=True, slots=True)
class _View:
    """How an output is read from its buffer; without strides it is the buffer."""

    buffer: str
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None

    def of(self, buffers: Mapping[str, torch.Tensor]) -> torch.Tensor:
        tensor = buffers[self.buffer]
        return tensor if self.strides is None else torch.as_strided(tensor, self.shape, self.strides)


@dataclass(frozen=True, slots=True)
class _Frame:
    """What a program needs at given sizes.

    apart: buffers with an allocation of their own. slices: those in the arena, of `arena_size` bytes.
    """

    apart: tuple[tuple[str, tuple[int, ...], torch.dtype], ...]
    slices: Mapping[str, Slice]
    arena_size: int
    outputs: Mapping[str, _View]


def _frame(program: Program, sizes: Mapping[str, int]) -> _Frame:
    made_by_calls = {name for step in program.steps if isinstance(step, Call) for name in step.results}
    types = {
        name: (type.concrete_shape(sizes), TORCH_DTYPES[type.dtype]) for name, type in program.buffers.items()
    }
    types |= {
        name: ((partial.parts, partial.width), torch.float32) for name, partial in program.partials.items()
    }
    for name, (shape, _) in types.items():
        _check_elements(name, math.prod(shape))
    placed = arena(program, sizes)
    slices = {}
    for name, offset in placed.offsets.items():
        shape, dtype = types[name]
        strides = tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
        slices[name] = Slice(offset, dtype, shape, strides)
    apart = {name: type for name, type in types.items() if name not in made_by_calls and name not in slices}
    outputs, whole = {}, set()
    for name, read_as in program.outputs.items():
        buffer = buffer_name(read_as.base)
        shape = tuple(evaluate_size(size, sizes) for size in read_as.shape)
        strides = tuple(evaluate_size(stride, sizes) for stride in read_as.strides)
        # Autograd wants each result to be a tensor of its own, and none of them to be an input.
        if read_as.is_contiguous and buffer in apart and apart[buffer][0] == shape and buffer not in whole:
            whole.add(buffer)
            outputs[name] = _View(buffer, shape, None)
        else:
            outputs[name] = _View(buffer, shape, strides)
    listed = tuple((name, shape, dtype) for name, (shape, dtype) in apart.items())
    return _Frame(listed, slices, placed.size, outputs)


def _check_elements(name: str, elements: int) -> None:
    if elements >= INDEX_LIMIT:
        raise TensorTooLarge(name=name, elements=elements)


def _remember(known: dict[Key, Found], key: Key, found: Found) -> None:
    """Keeps `found`, and of everything only what came last."""
    known[key] = found
    if len(known) > REMEMBERED:
        known.pop(next(iter(known)), None)


def constant_tensors(program: Program, device: torch.device) -> dict[str, torch.Tensor]:
    """The constants of `program.constants`, as scalars by the names of their buffers."""
    return {
        buffer_name(node.result()): torch.full(
            (), attribute_number(node.attrs, "value"), dtype=TORCH_DTYPES[node.type.dtype], device=device
        )
        for node in program.constants
    }


def read(access: Access, tensors: Mapping[str, torch.Tensor], sizes: Mapping[str, int]) -> torch.Tensor:
    """The view of a buffer that `access` describes."""
    tensor = tensors[buffer_name(access.base)]
    shape = [evaluate_size(size, sizes) for size in access.shape]
    return torch.as_strided(tensor, shape, [evaluate_size(stride, sizes) for stride in access.strides])


def call_library(step: Call, tensors: MutableMapping[str, torch.Tensor], sizes: Mapping[str, int]) -> None:
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


def launch(stretch: Sequence[Launch], buffers: Buffers, sizes: Mapping[str, int]) -> None:
    """Launches kernels on the current device's stream by Triton's JIT."""
    for step in stretch:
        kernel = step.kernel
        numbers = {name: evaluate_size(size, sizes) for name, size in step.sizes.items()}
        arguments: list[Any] = [
            buffers[step.buffers[argument.name]] if argument.kind == "pointer" else numbers[argument.name]
            for argument in kernel.arguments
        ]
        kernel = kernel if torch.version.hip is None else kernel.on_amd
        _entry(kernel.source, kernel.entry)[kernel.launch_grid(numbers)](
            *arguments, **kernel.constexprs, num_warps=kernel.num_warps, num_stages=kernel.num_stages
        )


@cache
def _entry(source: str, name: str) -> Any:
    try:
        return getattr(module_from_source(source), name)
    except ImportError as error:
        raise MissingCompiler(tool="triton", reason=str(error)) from error
