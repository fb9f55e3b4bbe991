"""What compilations made, kept by what they were made from: the same once more costs a look-up.

A record is an entry of the kernel cache beside the kernels. Its key holds everything that a report or an
artifact depends on, the compiler's own files among it, so that a changed compiler finds no record of another.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from esper.urza.builder.cache import KernelCache
from esper.urza.builder.toolchain import versions

if TYPE_CHECKING:
    from esper.ir.graph import BlueprintIR
    from esper.lang import SizeValue

_FORMAT = 1
"""Part of every key: raised when what is stored changes."""

_ROOMS = ("ir", "ops", "passes", "urza")
"""What makes a report of a graph."""

_REPORT = "report.json"
_ARTIFACT = "artifact.seed"


@dataclass(frozen=True, slots=True)
class Compiled:
    """What a compilation made. report: the document of `esperc compile --json`, the artifact's path apart.
    artifact: the bytes of the `.seed` file, if it was asked for."""

    report: Mapping[str, Any]
    artifact: bytes | None


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
        "targets": list(targets),
        "sizes": dict(sizes),
        "source": source,
        "options": dict(options),
        "tools": versions(targets),
        "compiler": _stamp(Path(__file__).parents[1] / room for room in _ROOMS),
        "tuning": _stamp([cache.folder / "tuning"]),
        "artifact": with_artifact,
    }
    key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    found = cache.load(key)
    if found is not None:
        report = json.loads(found[1][_REPORT])
        passing = {
            "cached": True,
            "triton_invocations": 0,
            "compile_ms": round((time.perf_counter() - start) * 1e3, 1),
        }
        return Compiled(report | passing, found[1].get(_ARTIFACT))

    # What is on record needs neither planning nor generation, and most compiles write no artifact.
    from esper.urza.compiler import compile_ir

    compiled = compile_ir(ir, targets, sizes=sizes, cache=cache)
    artifact = None
    if with_artifact:
        from esper.urza.artifact import artifact_bytes

        artifact = artifact_bytes(compiled.artifact(source, options))
    made = Compiled(compiled.report(), artifact)
    files = {_REPORT: json.dumps(made.report).encode()}
    if artifact is not None:
        files[_ARTIFACT] = artifact
    cache.store(key, {"kernel": f"all of {ir.name}", "target": " ".join(targets)}, files)
    return made


def _stamp(folders: Iterable[Path]) -> str:
    """Changes with every Python file and every JSON file in `folders`: by name, size and time."""
    found = sorted(one for folder in folders for one in _files(folder))
    return hashlib.sha256(repr(found).encode()).hexdigest()


def _files(folder: Path) -> Iterator[tuple[str, int, int]]:
    for place, _, names in os.walk(folder):
        for name in names:
            if name.endswith((".py", ".json")):
                path = os.path.join(place, name)
                status = os.stat(path)
                yield path, status.st_size, status.st_mtime_ns
