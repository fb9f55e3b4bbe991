"""Turns generated source into a module that Triton can inspect, without reading it from a file.

Triton asks `inspect` for a function's text. `linecache` serves that text from memory under a name made of
its digest, so nothing on disk can be swapped between writing and importing.
"""

from __future__ import annotations

import hashlib
import linecache
from types import ModuleType


def module_from_source(source: str) -> ModuleType:
    """A module that ran `source`: text that this very process or its parent generated, never a file's."""
    name = "esper_kernels_" + hashlib.sha256(source.encode()).hexdigest()[:16]
    path = f"<{name}>"
    linecache.cache[path] = (len(source), None, source.splitlines(keepends=True), path)
    module = ModuleType(name)
    module.__file__ = path
    exec(compile(source, path, "exec"), module.__dict__)  # noqa: S102 - generated here, read from no file
    return module
