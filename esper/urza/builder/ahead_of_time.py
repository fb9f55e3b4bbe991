"""Builds kernels to native code, ahead of time and without a GPU, side by side in worker processes.

A kernel is looked up in the cache first; only what is missing is handed to Triton, and each hand-over is
counted. A kernel that was tuned here is built in the configuration chosen for it; one that spills registers
is tried in its alternative configurations.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial

from esper.urza.builder import amdgcn
from esper.urza.builder.cache import KernelCache
from esper.urza.builder.choices import Choices
from esper.urza.builder.resources import resources
from esper.urza.builder.signature import check_parameters
from esper.urza.builder.toolchain import (
    SHARED_BYTES,
    check_target,
    code_files,
    is_amd,
    templates_digest,
    tool_versions,
)
from esper.urza.builder.workers import MEMORY_BYTES, Workers, side_by_side
from esper.urza.errors import KernelBuildFailed
from esper.urza.kernel import BuiltKernel, KernelSource

_FORMAT = 4
"""Part of every key: raised when what is stored of a kernel, or how it is measured, changes."""


@dataclass(frozen=True, slots=True)
class Build:
    """kernels: one for each kernel and target, in the order of `build_kernels`' arguments, targets outermost.
    invocations: how often Triton was invoked for it; 0 when the cache held everything."""

    kernels: tuple[BuiltKernel, ...]
    invocations: int

    @property
    def cached(self) -> bool:
        """Whether Triton was not needed."""
        return self.invocations == 0


def build_kernels(
    kernels: Sequence[KernelSource],
    targets: Iterable[str],
    *,
    cache: KernelCache | None = None,
    jobs: int | None = None,
    timeout_s: float = 120.0,
    memory_bytes: int = MEMORY_BYTES,
) -> Build:
    """Builds each kernel for each target such as `sm_90` or `gfx942`.

    jobs: worker processes at a time, by default one a processor. timeout_s: for one kernel. memory_bytes:
    address space of one worker and of the assembler that it runs.
    Raises UnknownTarget, MissingCompiler, CacheUnusable, or KernelBuildFailed for the first kernel that does
    not build; the others are built and cached all the same.
    """
    targets = tuple(map(check_target, targets))
    cache = KernelCache() if cache is None else cache
    choices = Choices(cache.folder)
    tasks = [(choices.applied(kernel, target), target) for target in targets for kernel in kernels]
    with Workers(timeout_s, memory_bytes) as workers:
        found = _futures(tasks, cache, workers, jobs)
    built = tuple(one.result() for one in found)
    if workers.invocations:
        cache.prune()
    return Build(built, workers.invocations)


def build_each(
    kernels: Sequence[KernelSource],
    target: str,
    *,
    cache: KernelCache | None = None,
    jobs: int | None = None,
    timeout_s: float = 120.0,
    memory_bytes: int = MEMORY_BYTES,
) -> tuple[BuiltKernel | KernelBuildFailed, ...]:
    """Each kernel by itself, as the model of the GPU would have it: native code, or why there is none."""
    cache = KernelCache() if cache is None else cache
    with Workers(timeout_s, memory_bytes) as workers:
        found = _futures([(kernel, check_target(target)) for kernel in kernels], cache, workers, jobs)
    return tuple(_built_or_failed(one) for one in found)


def _built_or_failed(future: Future[BuiltKernel]) -> BuiltKernel | KernelBuildFailed:
    try:
        return future.result()
    except KernelBuildFailed as error:
        return error


def _futures(
    tasks: Sequence[tuple[KernelSource, str]], cache: KernelCache, workers: Workers, jobs: int | None
) -> list[Future[BuiltKernel]]:
    """What is built of each (kernel, target), in order, once everything is done.

    The dearest are begun first, so that no worker is left alone with one at the end.
    """
    distinct = {_task_key(*task): task for task in tasks}
    by_key = {
        key: partial(_obtain, *task, cache, workers)
        for key, task in sorted(distinct.items(), key=lambda one: dearness(one[1][0]), reverse=True)
    }
    found = dict(zip(by_key, side_by_side(by_key.values(), jobs or os.cpu_count() or 1), strict=True))
    return [_named(found[_task_key(*task)], task[0]) for task in tasks]


def dearness(kernel: KernelSource) -> tuple[int, int]:
    """Sorts kernels by the time that Triton and the assembler take: by the tile of a product, which is
    unrolled, then by the length of the text."""
    tile = (value for name, value in kernel.constexprs.items() if name in ("BLOCK_M", "BLOCK_N"))
    return math.prod(map(int, tile)) if kernel.has_products else 0, len(kernel.source)


def kernel_key(kernel: KernelSource, target: str) -> str:
    """The cache key: everything that the native code depends on."""
    parts = {
        "format": _FORMAT,
        "kernel": kernel.digest,
        "target": target,
        **({"on_amd": kernel.on_amd.digest} if is_amd(target) else {}),
        **tool_versions([target]),
        "templates": templates_digest(kernel.source),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _task_key(kernel: KernelSource, target: str) -> tuple[str | int, ...]:
    return target, kernel.trips, *(candidate.digest for candidate in kernel.candidates)


def _named(future: Future[BuiltKernel], kernel: KernelSource) -> Future[BuiltKernel]:
    """What was built, under the name of `kernel`: kernels that differ in name alone are built once."""
    named: Future[BuiltKernel] = Future()
    error = future.exception()
    if error is not None:
        named.set_exception(error)
    else:
        built = future.result()
        chosen = replace(built.kernel, name=kernel.name, direction=kernel.direction)
        named.set_result(replace(built, kernel=chosen))
    return named


def _obtain(kernel: KernelSource, target: str, cache: KernelCache, workers: Workers) -> BuiltKernel:
    """Of the candidates whose shared memory fits: the first that spills nothing, or else the least.

    A program that asks for more is refused by the driver, but not by the assembler.
    """
    fitting: list[BuiltKernel] = []
    wanted: list[int] = []
    for candidate in kernel.candidates:
        built = _obtain_candidate(candidate, target, cache, workers)
        wanted.append(built.resources.shared_bytes)
        if wanted[-1] > SHARED_BYTES[target]:
            continue
        fitting.append(built)
        if built.resources.spill_bytes == 0:
            break
    if not fitting:
        reason = f"it takes {min(wanted)} bytes of shared memory, {target} has {SHARED_BYTES[target]}"
        raise KernelBuildFailed(kernel=kernel.name, target=target, reason=reason)
    return min(fitting, key=lambda one: one.resources.spill_bytes)


def _obtain_candidate(kernel: KernelSource, target: str, cache: KernelCache, workers: Workers) -> BuiltKernel:
    key = kernel_key(kernel, target)
    entry = cache.load(key)
    if cached := entry is not None:
        description, files = entry
    else:
        description, files = workers.build(kernel, target)
        origin = {
            "kernel": kernel.name,
            "direction": kernel.direction,
            "digest": kernel.digest,
            "target": target,
            "templates": templates_digest(kernel.source),
        }
        cache.store(key, origin | description, files)
    code, assembly = (files[name] for name in code_files(target))
    text, shared_bytes = assembly.decode(), description["shared_bytes"]
    try:
        check_parameters(kernel, text, target)
        if is_amd(target):
            used = amdgcn.resources(text, shared_bytes, kernel.trips)
        else:
            used = resources(description["ptxas_log"], text, shared_bytes, kernel.trips)
    except ValueError as error:
        raise KernelBuildFailed(kernel=kernel.name, target=target, reason=str(error)) from error
    return BuiltKernel(
        kernel=kernel,
        target=target,
        cubin=code,
        symbol=description["symbol"],
        num_warps=description["num_warps"],
        scratch_bytes=description["scratch_bytes"],
        resources=used,
        ttir=files["kernel.ttir"].decode(),
        ptx=text,
        cached=cached,
        llir=files.get("kernel.llir", b"").decode(),
    )
