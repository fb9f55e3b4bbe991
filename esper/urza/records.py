"""What compilations made, kept by what they were made from: the same once more costs a look-up.

A record is an entry of the kernel cache beside the kernels. Its key holds everything that a report or an
artifact depends on, the compiler's own files among it, so that a changed compiler finds no record of another.
The kernels of a record lie in the same cache: they are used with it, and it is none without them.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from esper.files import stamp
from esper.urza.builder.cache import KernelCache
from esper.urza.builder.toolchain import versions
from esper.urza.errors import CacheUnusable

if TYPE_CHECKING:
    from esper.errors import Span
    from esper.ir.graph import BlueprintIR
    from esper.lang import SizeValue

_FORMAT = 2
"""Part of every key: raised when what is stored changes."""

_ROOMS = ("ir", "lang", "ops", "passes", "urza")
"""What makes a report of a graph."""

_REPORT = "report.json"
_ARTIFACT = "artifact.seed"
_KERNELS = "kernels.json"
"""The keys of the kernels."""


def _compiler() -> str:
    """The stamp of the compiler's files as they lie on the disk."""
    return stamp((Path(__file__).parents[1] / room for room in _ROOMS), (".py", ".json"))


_LOADED = _compiler()
"""The stamp of the compiler that runs: what plans and generates is loaded after it is taken."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """What a compilation made. report: the document of `esperc compile --json`, the artifact's path apart.
    artifact: the bytes of the `.seed` file, if it was asked for. unrecorded: why no record was kept, "" where
    there is one."""

    report: Mapping[str, Any]
    artifact: bytes | None
    unrecorded: str = ""


def compile_once(
    ir: BlueprintIR,
    targets: Sequence[str],
    *,
    sizes: Mapping[str, SizeValue],
    source: str,
    options: Mapping[str, str],
    with_artifact: bool,
    cache: KernelCache | None = None,
) -> Compiled:
    """Compiles `ir` for each of `targets`, unless the cache holds what that would make.

    sizes: values of size symbols for the report. source, options: what an artifact states of its blueprint.
    Raises what `compile_ir` raises.
    """
    start = time.perf_counter()
    cache = KernelCache() if cache is None else cache
    parts = {
        "format": _FORMAT,
        "graph": str(ir),
        "spans": [repr(span) for span in _spans(ir)],
        "targets": list(targets),
        "sizes": dict(sizes),
        "source": source,
        "options": dict(options),
        "tools": versions(targets),
        "compiler": _LOADED,
        "tuning": _tuning(cache),
        "artifact": with_artifact,
    }
    key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    files = _record(cache, key)
    if files is not None:
        report = json.loads(files[_REPORT])
        passing = {
            "cached": True,
            "triton_invocations": 0,
            "compile_ms": round((time.perf_counter() - start) * 1e3, 1),
        }
        return Compiled(report | passing, files.get(_ARTIFACT))

    # What is on record needs neither planning nor generation, and most compiles write no artifact.
    from esper.urza.builder.ahead_of_time import kernel_key
    from esper.urza.compiler import compile_ir

    compiled = compile_ir(ir, targets, sizes=sizes, cache=cache)
    artifact = None
    if with_artifact:
        from esper.urza.artifact import artifact_bytes

        artifact = artifact_bytes(compiled.artifact(source, options))
    report = compiled.report()
    if (_compiler(), _tuning(cache)) != (parts["compiler"], parts["tuning"]):
        return Compiled(report, artifact, "the compiler or its tuning changed meanwhile")
    keys = sorted({kernel_key(one.kernel, one.target) for one in compiled.build.kernels})
    files = {_REPORT: json.dumps(report).encode(), _KERNELS: json.dumps(keys).encode()}
    if artifact is not None:
        files[_ARTIFACT] = artifact
    description = {"kind": "record", "kernel": f"all of {ir.name}", "target": ",".join(targets)}
    try:
        cache.store(key, description, files)
    except CacheUnusable as error:
        return Compiled(report, artifact, str(error))
    cache.prune()
    return Compiled(report, artifact)


def _record(cache: KernelCache, key: str) -> Mapping[str, bytes] | None:
    """The files of a record whose kernels are all there, which counts as a use of them; else None."""
    found = cache.load(key)
    if found is None:
        return None
    touched = [cache.touch(kernel) for kernel in json.loads(found[1][_KERNELS])]
    return found[1] if all(touched) else None


def _tuning(cache: KernelCache) -> str:
    return stamp([cache.folder / "tuning"], (".json",))


def _spans(ir: BlueprintIR) -> Iterator[Span | None]:
    """Where each node stands in its source, which an artifact tells and the graph's text leaves out."""
    for node in ir.nodes:
        yield node.span
        for _, body in node.bodies:
            yield from _spans(body)
