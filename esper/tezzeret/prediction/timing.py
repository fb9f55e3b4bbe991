"""Time of a module's calls, forward and backward, as training makes them.

On a processor it is processor time of one thread: what else runs there then counts only by what it takes of
caches and memory. Such disturbance only ever adds time, so the least of many rounds is what the code itself
takes (Chen & Revels 2016, "Robust benchmarking in noisy environments", arXiv:1608.04295); the median and its
interval tell what was found on the way.
"""

from __future__ import annotations

import ctypes
import gc
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from esper.ir.graph import BlueprintIR
from esper.ops.reference.evaluate import TORCH_DTYPES
from esper.urza.run.seed import CompiledSeed

ROUND_SECONDS = 0.0005
"""What a round of calls takes, at least: so short that some rounds meet no disturbance on a busy machine."""

WARM_CALLS = 3
LEAST_ROUNDS = 10
LEVEL = 0.95

Tensor = torch.Tensor


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of a call by rounds, forward and backward, round by round."""

    forward: tuple[float, ...]
    backward: tuple[float, ...]

    @property
    def step(self) -> tuple[float, ...]:
        return tuple(map(sum, zip(self.forward, self.backward, strict=True)))

    def __add__(self, other: Timing) -> Timing:
        """The rounds of both."""
        return Timing(self.forward + other.forward, self.backward + other.backward)


def median_range(values: Sequence[float], level: float = LEVEL) -> tuple[float, float]:
    """Between which of `values` the median that they were drawn around lies in `level` of all cases.

    As many lie below that median as a fair coin shows heads. Of five or fewer, all of their range.
    """
    count, cut, left_out = len(values), 0, 0.0
    while True:
        left_out += 2 * math.comb(count, cut) / 2**count
        if left_out > 1 - level:
            break
        cut += 1
    ordered, last = sorted(values), max(cut - 1, 0)
    return ordered[last], ordered[-1 - last]


def random_inputs(ir: BlueprintIR, sizes: dict[str, int], generator: torch.Generator) -> list[Tensor]:
    """Tensors for the inputs of `ir`: normal and asking for gradients where floating, else zeros."""
    found = []
    for node in ir.inputs:
        shape, dtype = node.type.concrete_shape(sizes), TORCH_DTYPES[node.type.dtype]
        if node.type.dtype.is_floating:
            drawn = torch.randn(shape, generator=generator).to(dtype)
            found.append(drawn.requires_grad_())
        else:
            found.append(torch.zeros(shape, dtype=dtype))
    return found


def least_seconds(ir: BlueprintIR, sizes: dict[str, int], seconds: float) -> tuple[float, float]:
    """Of a seed of `ir` on the torch tier, forward and backward, the least of rounds for so many seconds."""
    generator = torch.Generator().manual_seed(0)
    seed = CompiledSeed(ir, generator=generator)
    found = Stopwatch(seed, random_inputs(ir, sizes, generator)).rounds(seconds)
    return min(found.forward), min(found.backward)


_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1
_LARGEST = 32 << 20
"""What glibc lets the first be, at most."""


def keep_freed_memory() -> bool:
    """Lets this process keep what it frees, where the C library is glibc; whether it is.

    Else what a step frees goes back to the system now and then, by what else the process holds, and comes
    again page by page: a step on a few megabytes then takes up to twice as long, and not by its own doing.
    """
    allocator = getattr(ctypes.CDLL(None), "mallopt", None)
    if allocator is None:
        return False
    return bool(allocator(_MMAP_THRESHOLD, _LARGEST) and allocator(_TRIM_THRESHOLD, 2**31 - 1))


class Stopwatch:
    """Times the calls of one module with the same inputs.

    Gradients of all inputs and weights that ask for one are computed; that of each output is one everywhere.
    What has no output with a gradient takes no time backward.
    """

    def __init__(self, module: nn.Module, inputs: Sequence[Tensor]) -> None:
        self._module = module
        self._inputs = tuple(inputs)
        leaves = (*inputs, *module.parameters())
        self._wanted = [leaf for leaf in leaves if leaf.requires_grad]
        self._is_on_gpu = any(leaf.is_cuda for leaf in leaves)
        found = self._outputs()
        self._gradients = [torch.ones_like(output) for output in found]
        self._calls = 1

    def rounds(self, seconds: float) -> Timing:
        """Rounds for so many seconds, and `LEAST_ROUNDS` at least."""
        with _one_thread(), _without_collection():
            for _ in range(WARM_CALLS):
                one = sum(self._timed(1))
            self._calls = max(1, math.ceil(ROUND_SECONDS / max(one, 1e-9)))
            found: list[tuple[float, float]] = []
            spent = 0.0
            while spent < seconds or len(found) < LEAST_ROUNDS:
                found.append(self._timed(self._calls))
                spent += sum(found[-1]) * self._calls
        forward, backward = zip(*found, strict=True)
        return Timing(forward, backward)

    def _timed(self, calls: int) -> tuple[float, float]:
        """Seconds of a call forward, and backward."""
        clock: Callable[[], float] = self._settled if self._is_on_gpu else time.process_time
        forward = backward = 0.0
        for _ in range(calls):
            begun = clock()
            found = self._outputs()
            between = clock()
            forward += between - begun
            if found:
                torch.autograd.grad(found, self._wanted, self._gradients, allow_unused=True)
                backward += clock() - between
        return forward / calls, backward / calls

    def _settled(self) -> float:
        """Wall time once the GPU has done what it was given."""
        torch.cuda.synchronize()
        return time.perf_counter()

    def _outputs(self) -> list[Tensor]:
        """The outputs that have a gradient."""
        found = self._module(*self._inputs)
        outputs = found if isinstance(found, tuple) else (found,)
        return [output for output in outputs if output.requires_grad]


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _without_collection() -> Iterator[None]:
    """Python's collector of cycles does not run meanwhile."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
