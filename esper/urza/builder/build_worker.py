"""A process that builds one kernel after another: JSON lines in, JSON lines and files out.

Triton is imported here and nowhere else in a compile, so the parent stays small, a crash of the compiler
costs one kernel, and kernels build side by side. Run as `python -m esper.urza.builder.build_worker
BYTES SECONDS`:
BYTES limits the address space of this process and of the assembler, SECONDS the time for one kernel.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

from esper.urza.builder.source_module import module_from_source
from esper.urza.builder.toolchain import is_amd, kept_files, triton_version
from esper.urza.kernel import KernelSource

THREADS_IN_WARP, THREADS_IN_WAVE = 32, 64
"""Of NVIDIA's GPUs and of AMD's CDNA."""


def main() -> None:
    """Answers requests until stdin closes; whatever else prints to stdout goes to stderr."""
    limit_bytes, limit_s = int(sys.argv[1]), float(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, limit_bytes))
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    with tempfile.TemporaryDirectory(prefix="esper-triton-") as triton_cache:
        os.environ["TRITON_CACHE_DIR"] = triton_cache
        os.environ["TRITON_DISABLE_LINE_INFO"] = "1"
        for line in sys.stdin:
            # The parent ends a worker that is overdue. The alarm, which nothing here handles, ends one whose
            # parent is gone.
            signal.setitimer(signal.ITIMER_REAL, limit_s)
            try:
                answer = _build(json.loads(line))
            except Exception as error:  # noqa: BLE001 - every failure is an answer: the parent names the kernel
                answer = {"error": f"{type(error).__name__}: {_root_message(error)}"}
            signal.setitimer(signal.ITIMER_REAL, 0)
            answers.write(json.dumps(answer) + "\n")
            answers.flush()
            shutil.rmtree(triton_cache, ignore_errors=True)


def _build(request: dict[str, Any]) -> dict[str, Any]:
    """Builds `kernel` for `target` into `folder`: its `kept_files`."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    _name_cache_by_version()
    kernel, name = KernelSource.from_json(request["kernel"]), request["target"]
    if is_amd(name):
        kernel = kernel.on_amd
    entry = getattr(_module(kernel.source), kernel.entry)
    source = ASTSource(entry, *_signature(kernel))
    target = (
        GPUTarget("hip", name, THREADS_IN_WAVE)
        if is_amd(name)
        else GPUTarget("cuda", int(name.removeprefix("sm_")), THREADS_IN_WARP)
    )
    options = {"num_warps": kernel.num_warps, "num_stages": kernel.num_stages, "sanitize_overflow": False}
    log = io.StringIO()
    with contextlib.redirect_stdout(log):
        triton.knobs.nvidia.dump_ptxas_log = True
        compiled = triton.compile(source, target=target, options=options)
    folder = Path(request["folder"])
    for file in kept_files(name):
        content = compiled.asm[file.removeprefix("kernel.")]
        (folder / file).write_bytes(content if isinstance(content, bytes) else str(content).encode())
    metadata = compiled.metadata
    return {
        "symbol": metadata.name,
        "num_warps": metadata.num_warps,
        "shared_bytes": metadata.shared,
        "scratch_bytes": getattr(metadata, "global_scratch_size", 0),  # AMD's has none
        "ptxas_log": log.getvalue(),
    }


def _name_cache_by_version() -> None:
    """Triton names the folders of its cache by a digest of itself, for which it reads half a gigabyte. Its
    cache does not outlast a kernel here, so its version tells as much."""
    from triton.runtime import cache

    cache.triton_key = triton_version


def _signature(kernel: KernelSource) -> tuple[dict[str, str], dict[str, Any], dict[Any, Any]]:
    """Triton's description of the arguments: types, constants, and what they are divisible by."""
    signature = {argument.name: argument.triton_type for argument in kernel.arguments}
    signature |= dict.fromkeys(kernel.constexprs, "constexpr")
    attributes = {
        (index,): [["tt.divisibility", argument.divisible_by]]
        for index, argument in enumerate(kernel.arguments)
        if argument.divisible_by > 1
    }
    return signature, dict(kernel.constexprs), attributes


_modules: dict[str, ModuleType] = {}


def _module(source: str) -> ModuleType:
    digest = hashlib.sha256(source.encode()).hexdigest()
    if digest not in _modules:
        _modules[digest] = module_from_source(source)
    return _modules[digest]


def _root_message(error: BaseException) -> str:
    """Triton wraps an error once for each call; the innermost one says what is wrong."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error)


if __name__ == "__main__":
    main()
