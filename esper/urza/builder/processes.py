"""The environment of Esper's worker processes: their parent's packages, none of its Triton settings."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import esper

_KEPT = ("TRITON_PTXAS_PATH", "TRITON_PTXAS_BLACKWELL_PATH")
_DROPPED = ("PTXAS_OPTIONS", "DISABLE_PTXAS_OPT", "USE_IR_LOC", "LLVM_EXTRACT_DI_LOCAL_VARIABLES")


def child_environment(**variables: str) -> dict[str, str]:
    """This process's environment with its import path and `variables`.

    Whatever changes Triton's output is left out, the assembler's place apart: native code must follow from
    what the cache key names. The working folder and that of a script are no places of modules there, so
    that a file that is called like a module of Python's is not run; this package's own folder always is.
    """
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name in _KEPT or not (name.startswith("TRITON_") or name in _DROPPED)
    }
    home = str(Path(esper.__file__).parents[1])
    entries = [entry for entry in sys.path if entry]
    path = os.pathsep.join(entries if home in entries else [*entries, home])
    return {**inherited, "PYTHONPATH": path, "PYTHONSAFEPATH": "1", **variables}
