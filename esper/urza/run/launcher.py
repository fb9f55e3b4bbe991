"""The thin launcher: native code through the CUDA driver, with the places of its arguments bound once.

A kernel's parameters are its run-time arguments in the order of its signature, then two pointers that Triton
adds to every kernel, for scratch memory in general and of the profiler; nothing here uses them. A parameter
has eight bytes of one buffer. A launch writes the values into it and calls cuLaunchKernel, which copies them
before it returns. Grids and sizes follow from the run-time sizes alone and are kept for those seen lately.
"""

from __future__ import annotations

import ctypes
import struct
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from esper.ir.dims import evaluate_size, size_symbols
from esper.urza.builder.signature import HIDDEN_PARAMETERS
from esper.urza.errors import CannotLaunch
from esper.urza.generate.writer import Launch
from esper.urza.kernel import Argument, BuiltKernel, KernelSource
from esper.urza.run.bound_program import Buffers
from esper.urza.run.driver import INVALID_CONTEXT, Driver

THREADS_IN_WARP = 32
_PARAMETER_BYTES = 8
_REMEMBERED = 256
"""How many sets of sizes a launch keeps grids for."""
_FORMATS = {"f32": "f4x", "f64": "d", "i32": "i4x", "i64": "q", "bool": "?7x"}
"""How `struct` writes a number of each element type into eight bytes."""


@dataclass(frozen=True, slots=True)
class Code:
    """A kernel as native code that can be launched.

    kernel: what it was built from, whose grid and argument order it follows. num_warps: as built.
    """

    kernel: KernelSource
    symbol: str
    cubin: bytes
    num_warps: int
    shared_bytes: int
    scratch_bytes: int

    @property
    def launched(self) -> dict[str, str | int]:
        """How it is launched, in the words of a cache entry's description."""
        return {
            "symbol": self.symbol,
            "num_warps": self.num_warps,
            "shared_bytes": self.shared_bytes,
            "scratch_bytes": self.scratch_bytes,
        }

    @staticmethod
    def of(built: BuiltKernel) -> Code:
        """What of `built` a launch needs."""
        return Code(
            built.kernel,
            built.symbol,
            built.cubin,
            built.num_warps,
            built.resources.shared_bytes,
            built.scratch_bytes,
        )


class BoundKernel:
    """A loaded function that is called with a grid, a stream and its arguments' values.

    Raises DriverCallFailed where the driver refuses the code, and CannotLaunch where it needs what this
    launcher does not give: scratch memory, or a number of 16 bits by value.
    """

    def __init__(self, driver: Driver, code: Code, device: int) -> None:
        kernel = code.kernel
        if code.scratch_bytes:
            raise CannotLaunch(kernel=kernel.name, reason=f"it needs {code.scratch_bytes} bytes of scratch")
        self._name = kernel.name
        self._device = device
        self._driver = driver
        self._launch = driver.launch
        given = sorted(kernel.arguments, key=lambda argument: argument.kind != "pointer")
        self._pack = struct.Struct("<" + "".join(_format(kernel, argument) for argument in given)).pack_into
        count = len(given) + HIDDEN_PARAMETERS
        self._values = ctypes.create_string_buffer(count * _PARAMETER_BYTES)
        order = [*map(given.index, kernel.arguments), *range(len(given), count)]
        first = ctypes.addressof(self._values)
        self._parameters = (ctypes.c_void_p * count)(*(first + place * _PARAMETER_BYTES for place in order))
        self._threads = code.num_warps * THREADS_IN_WARP
        self._shared_bytes = code.shared_bytes
        self._function = driver.function(code.cubin, code.symbol, code.shared_bytes, device)
        self._lock = threading.Lock()

    def __call__(
        self, grid: tuple[int, int, int], stream: ctypes.c_void_p, values: Sequence[int | float]
    ) -> None:
        """Launches the kernel. values: the addresses of its pointers in order, then its numbers in order.

        Nothing is launched for an empty grid. Raises CannotLaunch for a value that its parameter cannot
        hold, and DriverCallFailed.
        """
        x, y, z = grid
        if not (x and y and z):
            return
        with self._lock:  # the driver may let another thread in, which must not overwrite the values
            try:
                self._pack(self._values, 0, *values)
            except (struct.error, OverflowError) as error:
                raise CannotLaunch(kernel=self._name, reason=str(error)) from error
            result = self._call(x, y, z, stream)
            if result == INVALID_CONTEXT:
                self._driver.enter(self._device)
                result = self._call(x, y, z, stream)
        if result:
            self._driver.check(result, "cuLaunchKernel")

    def _call(self, x: int, y: int, z: int, stream: ctypes.c_void_p) -> int:
        result: int = self._launch(
            self._function, x, y, z, self._threads, 1, 1, self._shared_bytes, stream, self._parameters, None
        )
        return result


def _format(kernel: KernelSource, argument: Argument) -> str:
    if argument.kind == "pointer":
        return "Q"
    if argument.dtype not in _FORMATS:
        raise CannotLaunch(
            kernel=kernel.name, reason=f"`{argument.name}` is a {argument.dtype} passed by value"
        )
    return _FORMATS[argument.dtype]


_Evaluated = tuple[BoundKernel, tuple[int, int, int], tuple[int, ...]]
"""What is launched at given sizes: the kernel, its grid, its numbers."""


class Launcher:
    """Launches the kernels of a seed's programs on one GPU: called as `bound_program.launch` is.

    codes: native code by the digest of the kernel that was planned, of which it may be an alternative; a
    kernel's `aligned` serves at sizes that keep its promise.
    device: the GPU's number; it is current at each call. stream: gives the stream to launch on, for a GPU's
    number. Code is loaded when its kernel is first launched. Raises what `BoundKernel` raises.
    """

    def __init__(
        self, driver: Driver, codes: Mapping[str, Code], device: int, stream: Callable[[int], int]
    ) -> None:
        self.driver = driver
        self._codes = codes
        self.device = device
        self._stream = stream
        self._steps: dict[int, _BoundStep] = {}

    def __call__(self, stretch: Sequence[Launch], buffers: Buffers, sizes: Mapping[str, int]) -> None:
        self.on(self.stream(), stretch, buffers, sizes)

    def stream(self) -> ctypes.c_void_p:
        """The stream to launch on."""
        return ctypes.c_void_p(self._stream(self.device))

    def on(
        self,
        stream: ctypes.c_void_p,
        stretch: Sequence[Launch],
        buffers: Buffers,
        sizes: Mapping[str, int],
    ) -> None:
        """Launches on a stream that the caller chose."""
        for step in stretch:
            bound = self._steps.get(id(step))
            if bound is None:
                bound = self._steps[id(step)] = self._bind(step)
            bound(buffers.addresses, sizes, stream)

    def _bind(self, step: Launch) -> _BoundStep:
        code = self._codes.get(step.kernel.digest)
        if code is None:
            raise CannotLaunch(kernel=step.kernel.name, reason="there is no code of it for this GPU")
        aligned = step.kernel.aligned
        better = None if aligned is None else self._codes.get(aligned.digest)
        return _BoundStep(step, self._bound(code), None if better is None else self._bound(better))

    def _bound(self, code: Code) -> tuple[KernelSource, BoundKernel]:
        return code.kernel, BoundKernel(self.driver, code, self.device)


class _BoundStep:
    """One launch of a program; it holds its `step`, whose identity it is found by.

    aligned: the kernel under promises on its sizes, if there is code of it: launched where they hold.
    """

    def __init__(
        self,
        step: Launch,
        kernel: tuple[KernelSource, BoundKernel],
        aligned: tuple[KernelSource, BoundKernel] | None,
    ) -> None:
        self._step = step
        self._kernel = kernel
        self._aligned = aligned
        arguments = kernel[0].arguments
        self._buffers = tuple(step.buffers[a.name] for a in arguments if a.kind == "pointer")
        self._symbols = tuple(sorted(frozenset().union(*map(size_symbols, step.sizes.values()))))
        self._known: dict[tuple[int, ...], _Evaluated] = {}

    def __call__(
        self, addresses: Mapping[str, int], sizes: Mapping[str, int], stream: ctypes.c_void_p
    ) -> None:
        key = tuple([sizes[name] for name in self._symbols])
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._evaluate(sizes)
            if len(self._known) > _REMEMBERED:
                self._known.pop(next(iter(self._known)), None)
        bound, grid, numbers = known
        bound(grid, stream, (*[addresses[name] for name in self._buffers], *numbers))

    def _evaluate(self, sizes: Mapping[str, int]) -> _Evaluated:
        numbers = {name: evaluate_size(size, sizes) for name, size in self._step.sizes.items()}
        kernel, bound = self._kernel
        if self._aligned is not None and self._aligned[0].holds(numbers):
            kernel, bound = self._aligned
        in_order = (numbers[a.name] for a in kernel.arguments if a.kind != "pointer")
        return bound, kernel.launch_grid(numbers), tuple(in_order)
