"""Where a seed's kernels come from: its `.seed` file, the cache, or a build; always in the background.

Native code in a file runs only where this machine vouches for it, having built that very code itself, or
where the caller trusts the file. What else the graph, lowered anew, needs is taken from the cache or built.
Seeds of one blueprint share a supply, so that one planted in the place of another builds nothing.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from functools import lru_cache

import torch

from esper.ir.graph import BlueprintIR
from esper.ir.types import DType
from esper.passes import run_passes
from esper.passes.manager import CLEAN
from esper.passes.precision import Precision
from esper.urza.artifact import Artifact
from esper.urza.builder.ahead_of_time import build_kernels
from esper.urza.builder.cache import KernelCache
from esper.urza.builder.toolchain import check_target, templates_digest
from esper.urza.compiler import Programs, make_programs
from esper.urza.run.bound_program import launch
from esper.urza.run.differentiable import Kernels
from esper.urza.run.driver import cuda_driver
from esper.urza.run.graphs import Graphs
from esper.urza.run.launcher import Code, Launcher

log = logging.getLogger("esper")


@dataclass(frozen=True, slots=True)
class Want:
    """What is asked of a seed's kernels.

    wrt: the leaves whose gradients are asked for; None for all that have one. narrow: the dtype that products
    run in, as under autocast; None for the graph's own.
    """

    wrt: frozenset[str] | None = None
    narrow: DType | None = None

    def __str__(self) -> str:
        gradients = "all gradients" if self.wrt is None else f"gradients of {', '.join(sorted(self.wrt))}"
        return gradients if self.narrow is None else f"{gradients}, products in {self.narrow}"


EVERYTHING = Want()


@lru_cache(maxsize=64)
def programs_of(ir: BlueprintIR, want: Want) -> Programs:
    """The programs of `ir` for what is wanted; `programs_of.cache_info().misses` counts plans made."""
    if want.narrow is not None:
        ir = run_passes(ir, ["expand", Precision(want.narrow), CLEAN])
    wrt = None if want.wrt is None else tuple(sorted(want.wrt))
    return make_programs(ir, wrt)


@dataclass(frozen=True)
class Ready:
    """Programs and native code for one target.

    codes: by the digest of the kernel that was planned. stored: how many kernels came from the file.
    invocations: how often Triton was invoked.
    """

    programs: Programs
    codes: Mapping[str, Code]
    stored: int
    invocations: int


class Supply:
    """Gets the kernels of `ir` ready, once for each target and want, in threads of its own.

    artifact: the file that `ir` was read from, if any; its kernels serve every want that they cover.
    trust_kernels: whether its code may run though this machine did not build it.
    cuda_graphs: whether launches that repeat become CUDA graphs.
    """

    def __init__(
        self,
        ir: BlueprintIR,
        artifact: Artifact | None = None,
        *,
        trust_kernels: bool = False,
        cuda_graphs: bool = False,
    ) -> None:
        self.ir = ir
        self._artifact = artifact
        self._trust_kernels = trust_kernels
        self._cuda_graphs = cuda_graphs
        self._wanted: dict[tuple[str, Want], Future[Ready]] = {}
        self._kernels: dict[tuple[torch.device, Want], Kernels] = {}
        self._lock = threading.Lock()

    def kernels(self, device: torch.device, want: Want = EVERYTHING) -> Kernels | None:
        """What serves `want` on `device`; None while it is being built.

        Where kernels for more gradients are ready, they serve until those for just the ones asked for are.
        On AMD GPUs, and in Triton's interpreter with tensors of the CPU, Triton's own JIT builds them at
        their first launch. Raises what `request` says.
        """
        if self._artifact is not None and want.narrow is None:
            want = EVERYTHING
        found = self._bound(device, want)
        if found is None and want.wrt is not None:
            with self._lock:
                found = self._kernels.get((device, Want(None, want.narrow)))
        return found

    def target(self, device: torch.device) -> str | None:
        """The target that native code for `device` is built for; None where Triton's JIT builds it."""
        if device.type != "cuda" or torch.version.hip is not None:
            return None
        major, minor = torch.cuda.get_device_capability(device)
        return check_target(f"sm_{major}{minor}")

    def _bound(self, device: torch.device, want: Want) -> Kernels | None:
        with self._lock:
            known = self._kernels.get((device, want))
        if known is not None:
            return known
        target = self.target(device)
        if target is None:
            kernels = Kernels(programs_of(self.ir, want), launch, device)
        else:
            coming = self.request(target, want)
            if not coming.done():
                return None
            if coming.exception() is not None:
                with self._lock:
                    self._wanted.pop((target, want), None)  # another seed may ask again
            kernels = self.bind(coming.result(), device)
        with self._lock:
            return self._kernels.setdefault((device, want), kernels)

    def bind(self, ready: Ready, device: torch.device) -> Kernels:
        """Native code, loaded on `device`."""
        stream = torch._C._cuda_getCurrentRawStream
        launches = Launcher(cuda_driver(), ready.codes, device.index, stream)
        return Kernels(ready.programs, Graphs(launches) if self._cuda_graphs else launches, device)

    def request(self, target: str, want: Want = EVERYTHING) -> Future[Ready]:
        """What is or will be ready for `target`; the first request starts the work.

        Its exceptions are those of `make_programs` and `build_kernels`.
        """
        key = target, want
        with self._lock:
            if key in self._wanted:
                return self._wanted[key]
            future = self._wanted[key] = Future()
        log.info("%s: kernels are being built for %s (%s)", self.ir.name, target, want)
        name = f"esper-kernels-{self.ir.name}-{target}"
        threading.Thread(target=self._work, args=(*key, future), name=name, daemon=True).start()
        return future

    def _work(self, target: str, want: Want, future: Future[Ready]) -> None:
        start = time.perf_counter()
        try:
            ready = self._prepare(target, want)
        except BaseException as error:  # noqa: BLE001 - whoever asks for the result gets it
            log.warning("%s: no kernels for %s: %s: %s", self.ir.name, target, type(error).__name__, error)
            future.set_exception(error)
            return
        seconds = time.perf_counter() - start
        text = "%s: %d kernels for %s are ready after %.1f s: %d from its file, %d compiled"
        counts = len(ready.codes), target, seconds, ready.stored, ready.invocations
        log.info(text, self.ir.name, *counts)
        future.set_result(ready)

    def _prepare(self, target: str, want: Want) -> Ready:
        programs = programs_of(self.ir, want)
        codes: dict[str, Code] = {}
        if self._artifact is not None and want.narrow is None:
            ledger = None if self._trust_kernels else KernelCache()
            codes.update(stored_codes(self._artifact, programs, target, ledger))
        stored = len(codes)
        missing = [kernel for kernel in programs.sources if kernel.digest not in codes]
        if not missing:
            return Ready(programs, codes, stored, 0)
        build = build_kernels(missing, [target])
        codes.update((k.digest, Code.of(built)) for k, built in zip(missing, build.kernels, strict=True))
        return Ready(programs, codes, stored, build.invocations)


@lru_cache(maxsize=64)
def shared_supply(ir: BlueprintIR) -> Supply:
    """The one supply of all seeds that are made of `ir` and come from no file."""
    return Supply(ir)


def stored_codes(
    artifact: Artifact, programs: Programs, target: str, ledger: KernelCache | None
) -> dict[str, Code]:
    """What of the artifact's code serves the kernels of `programs`, by planned digest.

    ledger: the cache that must vouch for the code; None trusts the file. None of it is used where the file
    was built with other templates than these.
    """
    if artifact.versions.get("templates") != templates_digest():
        return {}
    entries = {entry.digest: entry for entry in artifact.kernels if entry.target == target}
    codes = {}
    for planned in programs.sources:
        for kernel in planned.candidates:
            entry = entries.get(kernel.digest)
            if entry is None:
                continue
            cubin = artifact.cubins[entry.file]
            code = Code(
                kernel,
                entry.symbol,
                cubin,
                entry.num_warps,
                entry.resources.shared_bytes,
                entry.scratch_bytes,
            )
            templates = templates_digest(kernel.source)
            origin = {"digest": entry.digest, "target": target, "templates": templates}
            if ledger is None or ledger.vouches_for(origin | code.launched, cubin):
                codes[planned.digest] = code
                break
    return codes
