"""Where a seed's kernels come from: its `.seed` file, the cache, or a build; always in the background.

Native code in a file runs only where this machine vouches for it, having built that very code itself, or
where the caller trusts the file. What else the graph, lowered anew, needs is taken from the cache or built.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass

from esper.ir.graph import BlueprintIR
from esper.urza.artifact import Artifact
from esper.urza.build import build_kernels
from esper.urza.cache import KernelCache
from esper.urza.compiler import Programs, make_programs
from esper.urza.launcher import Code
from esper.urza.toolchain import templates_digest


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
    """Gets the kernels of `ir` ready, once for each target, in threads of its own.

    artifact: the file that `ir` was read from, if any. trust_kernels: whether its code may run though this
    machine did not build it.
    """

    def __init__(
        self, ir: BlueprintIR, artifact: Artifact | None = None, *, trust_kernels: bool = False
    ) -> None:
        self._ir = ir
        self._artifact = artifact
        self._trust_kernels = trust_kernels
        self._wanted: dict[str, Future[Ready]] = {}
        self._lock = threading.Lock()

    def request(self, target: str) -> Future[Ready]:
        """What is or will be ready for `target`; the first request starts the work.

        Its exceptions are those of `make_programs` and `build_kernels`.
        """
        with self._lock:
            if target not in self._wanted:
                future = self._wanted[target] = Future()
                name = f"esper-kernels-{self._ir.name}-{target}"
                threading.Thread(target=self._work, args=(target, future), name=name, daemon=True).start()
            return self._wanted[target]

    def _work(self, target: str, future: Future[Ready]) -> None:
        try:
            future.set_result(self._prepare(target))
        except BaseException as error:  # noqa: BLE001 - whoever asks for the result gets it
            future.set_exception(error)

    def _prepare(self, target: str) -> Ready:
        programs = make_programs(self._ir)
        codes: dict[str, Code] = {}
        if self._artifact is not None:
            ledger = None if self._trust_kernels else KernelCache()
            codes.update(stored_codes(self._artifact, programs, target, ledger))
        stored = len(codes)
        missing = [kernel for kernel in programs.kernels if kernel.digest not in codes]
        if not missing:
            return Ready(programs, codes, stored, 0)
        build = build_kernels(missing, [target])
        codes.update((k.digest, Code.of(built)) for k, built in zip(missing, build.kernels, strict=True))
        return Ready(programs, codes, stored, build.invocations)


def stored_codes(
    artifact: Artifact, programs: Programs, target: str, ledger: KernelCache | None
) -> dict[str, Code]:
    """What of the artifact's code serves the kernels of `programs`, by planned digest.

    ledger: the cache that must vouch for the code; None trusts the file. None of it is used where the file
    was built with other templates than these.
    """
    templates = templates_digest()
    if artifact.versions.get("templates") != templates:
        return {}
    entries = {entry.digest: entry for entry in artifact.kernels if entry.target == target}
    codes = {}
    for planned in programs.kernels:
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
            origin = {"digest": entry.digest, "target": target, "templates": templates}
            if ledger is None or ledger.vouches_for(origin | code.launched, cubin):
                codes[planned.digest] = code
                break
    return codes
