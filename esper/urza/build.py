"""Builds kernels to native code, ahead of time and without a GPU, side by side in worker processes.

A kernel is looked up in the cache first; only what is missing is handed to Triton, and each hand-over is
counted. A kernel that spills registers is tried in its alternative configurations.
"""

from __future__ import annotations

import hashlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from esper.urza.cache import KernelCache
from esper.urza.errors import KernelBuildFailed
from esper.urza.kernel import BuiltKernel, KernelSource
from esper.urza.processes import child_environment
from esper.urza.resources import resources
from esper.urza.toolchain import check_target, versions

_FORMAT = 2
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
) -> Build:
    """Builds each kernel for each target such as `sm_90`.

    jobs: worker processes at a time, by default one a processor. timeout_s: for one kernel.
    Raises UnknownTarget, MissingCompiler, CacheUnusable, or KernelBuildFailed for the first failure.
    """
    tasks = [(kernel, check_target(target)) for target in targets for kernel in kernels]
    cache = KernelCache() if cache is None else cache
    with _Workers(timeout_s) as workers, ThreadPoolExecutor(jobs or os.cpu_count() or 1) as threads:
        by_key = {
            key: threads.submit(_obtain, *task, cache, workers)
            for key, task in {_task_key(*task): task for task in tasks}.items()
        }
        try:
            built = tuple(_named(by_key[_task_key(*task)].result(), task[0]) for task in tasks)
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            raise
    if workers.invocations:
        cache.prune()
    return Build(built, workers.invocations)


def kernel_key(kernel: KernelSource, target: str) -> str:
    """The cache key: everything that the native code depends on."""
    parts = {
        "format": _FORMAT,
        "kernel": kernel.digest,
        "target": target,
        **versions([target]),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _task_key(kernel: KernelSource, target: str) -> tuple[str | int, ...]:
    return target, kernel.trips, *(candidate.digest for candidate in kernel.candidates)


def _named(built: BuiltKernel, kernel: KernelSource) -> BuiltKernel:
    """`built` under the name of `kernel`: kernels that differ in name alone are built once."""
    chosen = replace(built.kernel, name=kernel.name, direction=kernel.direction)
    return replace(built, kernel=chosen)


def _obtain(kernel: KernelSource, target: str, cache: KernelCache, workers: _Workers) -> BuiltKernel:
    """The first candidate that spills nothing, else the one that spills least."""
    built: list[BuiltKernel] = []
    for candidate in kernel.candidates:
        built.append(_obtain_candidate(candidate, target, cache, workers))
        if built[-1].resources.spill_bytes == 0:
            break
    return min(built, key=lambda one: one.resources.spill_bytes)


def _obtain_candidate(
    kernel: KernelSource, target: str, cache: KernelCache, workers: _Workers
) -> BuiltKernel:
    key = kernel_key(kernel, target)
    entry = cache.load(key)
    if cached := entry is not None:
        description, files = entry
    else:
        description, files = workers.build(kernel, target)
        named = {"kernel": kernel.name, "direction": kernel.direction, "target": target}
        cache.store(key, named | description, files)
    ptx = files["kernel.ptx"].decode()
    try:
        used = resources(description["ptxas_log"], ptx, description["shared_bytes"], kernel.trips)
    except ValueError as error:
        raise KernelBuildFailed(kernel=kernel.name, target=target, reason=str(error)) from error
    return BuiltKernel(
        kernel=kernel,
        target=target,
        cubin=files["kernel.cubin"],
        symbol=description["symbol"],
        num_warps=description["num_warps"],
        scratch_bytes=description["scratch_bytes"],
        resources=used,
        ttir=files["kernel.ttir"].decode(),
        ptx=ptx,
        cached=cached,
    )


class _Workers:
    """Build processes, started when first needed and reused; `invocations` counts kernels given to Triton."""

    def __init__(self, timeout_s: float) -> None:
        self.invocations = 0
        self._timeout_s = timeout_s
        self._idle: queue.LifoQueue[subprocess.Popen[str]] = queue.LifoQueue()
        self._lock = threading.Lock()

    def __enter__(self) -> _Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while not self._idle.empty():
            worker = self._idle.get()
            worker.communicate()

    def build(self, kernel: KernelSource, target: str) -> tuple[dict[str, Any], dict[str, bytes]]:
        """(description, files) as the cache stores them; KernelBuildFailed when the process fails."""
        with self._lock:
            self.invocations += 1
        with tempfile.TemporaryDirectory(prefix="esper-build-") as folder:
            answer = self._ask(
                {"kernel": kernel.to_json(), "target": target, "folder": folder}, kernel, target
            )
            if "error" in answer:
                raise KernelBuildFailed(kernel=kernel.name, target=target, reason=answer["error"])
            names = ("kernel.cubin", "kernel.ptx", "kernel.ttir")
            files = {name: (Path(folder) / name).read_bytes() for name in names}
        files["kernel.py"] = kernel.source.encode()
        return answer, files

    def _ask(self, request: dict[str, Any], kernel: KernelSource, target: str) -> dict[str, Any]:
        try:
            worker = self._idle.get_nowait()
        except queue.Empty:
            worker = self._start()
        assert worker.stdin is not None and worker.stdout is not None
        watchdog = threading.Timer(self._timeout_s, worker.kill)
        watchdog.start()
        try:
            worker.stdin.write(json.dumps(request) + "\n")
            worker.stdin.flush()
            line = worker.stdout.readline()
        except OSError:
            line = ""
        except BaseException:
            worker.kill()
            raise
        finally:
            watchdog.cancel()
        if not line:
            worker.kill()
            worker.communicate()
            reason = f"the build process ended with code {worker.returncode} (limit {self._timeout_s:g} s)"
            raise KernelBuildFailed(kernel=kernel.name, target=target, reason=reason)
        self._idle.put(worker)
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "esper.urza.build_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=child_environment(),
        )
