"""The pool of build processes: started when first needed, reused, and limited in time and memory.

A kernel that crashes its process or outlasts its time costs that process and nothing else: the failure is a
`KernelBuildFailed` that names the kernel, and the next kernel gets another process.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, wait
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from esper.urza.builder.processes import child_environment
from esper.urza.builder.toolchain import kept_files
from esper.urza.errors import KernelBuildFailed
from esper.urza.kernel import KernelSource

MEMORY_BYTES = 8 * 1024**3
"""A worker's address space; Triton and ptxas take about 0.3 GB for a kernel of the library."""

Done = TypeVar("Done")

_GRACE_S = 5.0
"""How much later than its parent would a worker ends itself."""


class Workers:
    """Build processes. `invocations` counts the kernels given to Triton.

    timeout_s: for one kernel. memory_bytes: of address space, for a worker and for each process it starts.
    """

    def __init__(self, timeout_s: float, memory_bytes: int = MEMORY_BYTES) -> None:
        self.invocations = 0
        self._timeout_s = timeout_s
        self._memory_bytes = memory_bytes
        self._idle: queue.LifoQueue[subprocess.Popen[str]] = queue.LifoQueue()
        self._busy: set[subprocess.Popen[str]] = set()
        self._lock = threading.Lock()

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            busy = tuple(self._busy)
        for worker in busy:
            _kill(worker)
        while not self._idle.empty():
            self._idle.get().communicate()

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
            files = {name: (Path(folder) / name).read_bytes() for name in kept_files(target)}
        files["kernel.py"] = kernel.source.encode()
        return answer, files

    def _ask(self, request: dict[str, Any], kernel: KernelSource, target: str) -> dict[str, Any]:
        worker = self._take()
        overdue = threading.Event()

        def end() -> None:
            overdue.set()
            _kill(worker)

        assert worker.stdin is not None and worker.stdout is not None
        watchdog = threading.Timer(self._timeout_s, end)
        watchdog.start()
        line = ""
        try:
            worker.stdin.write(json.dumps(request) + "\n")
            worker.stdin.flush()
            line = worker.stdout.readline()
        except OSError:
            pass  # the process is gone: the line stays empty, which tells it
        finally:
            watchdog.cancel()
            self._give_back(worker, alive=line.endswith("\n") and not overdue.is_set())
        if line.endswith("\n"):
            answer: dict[str, Any] = json.loads(line)
            return answer
        reason = (
            f"it took longer than {self._timeout_s:g} s"
            if overdue.is_set()
            else f"its process ended with code {worker.returncode}"
        )
        raise KernelBuildFailed(kernel=kernel.name, target=target, reason=reason)

    def _take(self) -> subprocess.Popen[str]:
        try:
            worker = self._idle.get_nowait()
        except queue.Empty:
            limits = self._memory_bytes, self._timeout_s + _GRACE_S
            worker = subprocess.Popen(
                [sys.executable, "-m", "esper.urza.builder.build_worker", *map(str, limits)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env=child_environment(),
                start_new_session=True,  # so that its assembler can be ended with it
            )
        with self._lock:
            self._busy.add(worker)
        return worker

    def _give_back(self, worker: subprocess.Popen[str], alive: bool) -> None:
        with self._lock:
            self._busy.discard(worker)
        if alive:
            self._idle.put(worker)
        else:
            _kill(worker)
            worker.communicate()


def side_by_side(tasks: Iterable[Callable[[], Done]], jobs: int) -> list[Future[Done]]:
    """Runs `tasks`, `jobs` at a time, until all are done; each future has a result or an exception.

    The threads are daemons, unlike an executor's, so a program that ends does not wait for its builds.
    """
    futures: list[Future[Done]] = []
    waiting: queue.SimpleQueue[tuple[Callable[[], Done], Future[Done]]] = queue.SimpleQueue()
    for task in tasks:
        futures.append(Future())
        waiting.put((task, futures[-1]))
    for _ in range(min(jobs, len(futures))):
        threading.Thread(target=_work, args=(waiting,), name="esper-build", daemon=True).start()
    try:
        wait(futures)
    except BaseException:
        for future in futures:
            future.cancel()
        raise
    return futures


def _work(waiting: queue.SimpleQueue[tuple[Callable[[], Done], Future[Done]]]) -> None:
    while True:
        try:
            task, future = waiting.get_nowait()
        except queue.Empty:
            return
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(task())
            except BaseException as error:  # noqa: BLE001 - whoever asks for the result gets it
                future.set_exception(error)


def _kill(worker: subprocess.Popen[str]) -> None:
    """Ends a worker and the assembler that it may be waiting for."""
    if worker.poll() is None:
        try:
            os.killpg(worker.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
