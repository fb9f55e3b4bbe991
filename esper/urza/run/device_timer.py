"""How long one launch of a kernel takes on the GPU here, for tuning.

Launches follow one another on buffers of normal random numbers, so caches are as warm as they are in a block
whose kernels hand results on. Of several batches between two events the median counts.
"""

from __future__ import annotations

import ctypes
import statistics
from collections.abc import Mapping

import torch

from esper.ir.dims import evaluate_size
from esper.ops.reference.evaluate import TORCH_DTYPES
from esper.urza.builder.toolchain import TARGETS
from esper.urza.builder.tuning import Tier, tune
from esper.urza.compiler import Programs
from esper.urza.errors import DeviceMissing
from esper.urza.generate.writer import Launch
from esper.urza.kernel import BuiltKernel
from esper.urza.program import Program
from esper.urza.run.device import local_target
from esper.urza.run.driver import Driver, cuda_driver
from esper.urza.run.launcher import BoundKernel, Code
from esper.urza.traffic import types_of_buffers

WARM_UP = 3
BATCHES = 7
LAUNCHES_IN_BATCH = 10


class DeviceTimer:
    """Times native code for one launch of a program, with the values of the size symbols `sizes`."""

    def __init__(
        self, program: Program, launch: Launch, sizes: Mapping[str, int], driver: Driver, seed: int
    ) -> None:
        self._driver = driver
        self._device = torch.cuda.current_device()
        self._numbers = {name: evaluate_size(size, sizes) for name, size in launch.sizes.items()}
        generator = torch.Generator("cuda").manual_seed(seed)
        self._tensors: dict[str, torch.Tensor] = {}
        shapes = {
            name: (type.concrete_shape(sizes), TORCH_DTYPES[type.dtype])
            for name, type in types_of_buffers(program).items()
        }
        shapes |= {name: ((p.parts, p.width), torch.float32) for name, p in program.partials.items()}
        for argument, name in launch.buffers.items():
            shape, dtype = shapes[name]
            tensor = torch.zeros(shape, dtype=dtype, device="cuda")
            self._tensors[argument] = (
                tensor.normal_(generator=generator) if dtype.is_floating_point else tensor
            )

    def __call__(self, built: BuiltKernel) -> float:
        """Milliseconds of one launch. Raises what `BoundKernel` raises."""
        kernel = built.kernel
        bound = BoundKernel(self._driver, Code.of(built), self._device)
        stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
        grid = kernel.launch_grid(self._numbers)
        pointers = [self._tensors[a.name].data_ptr() for a in kernel.arguments if a.kind == "pointer"]
        numbers = [self._numbers[a.name] for a in kernel.arguments if a.kind != "pointer"]
        values = (*pointers, *numbers)
        for _ in range(WARM_UP):
            bound(grid, stream, values)
        times: list[float] = []
        for _ in range(BATCHES):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            for _ in range(LAUNCHES_IN_BATCH):
                bound(grid, stream, values)
            end.record()
            end.synchronize()
            times.append(start.elapsed_time(end) / LAUNCHES_IN_BATCH)
        return statistics.median(times)


def tune_programs(programs: Programs, tier: Tier, sizes: Mapping[str, int], seed: int = 0) -> int:
    """Tunes every kernel of both directions for the GPU here; returns how many there are.

    Raises `DeviceMissing`, and what `tune` raises.
    """
    target = require_device()
    driver, tuned = cuda_driver(), set()
    for program, launch, kernel in programs.launches():
        if kernel.digest not in tuned:
            tuned.add(kernel.digest)
            timer = DeviceTimer(program, launch, sizes, driver, seed)
            name = torch.cuda.get_device_name()
            tune(kernel, target, timer, tier=tier, device=name, sizes=sizes, seed=seed)
    return len(tuned)


def require_device() -> str:
    """The target of the GPU here; `DeviceMissing` where kernels cannot be measured."""
    target = local_target()
    if target is None:
        raise DeviceMissing(reason="the NVIDIA driver finds none")
    if target not in TARGETS:
        raise DeviceMissing(reason=f"there is a {target} here, which is none of {', '.join(TARGETS)}")
    if not torch.cuda.is_available():
        raise DeviceMissing(reason=f"torch {torch.__version__} does not use it")
    return target
