"""Esper grows neural networks while they train: blueprints, their compiler, and the runtime of slots.

This is the public Python face. Every name is looked up in `FACE` when it is first used, so that
`import esper` costs nothing and loads neither torch nor triton.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

__version__ = "0.1.0"

FACE: dict[str, str] = {
    "AlphaSchedule": "esper.kasmina.host.blending",
    "attach": "esper.kasmina.attach",
    "BlueprintIR": "esper.passes",  # which fills the operator table, without which no graph can be read
    "compile": "esper.urza.run.seeds",
    "detach": "esper.kasmina.attach",
    "disabled": "esper.kasmina.attach",
    "EsperError": "esper.errors",
    "evaluate": "esper.ops.reference.evaluate",
    "export": "esper.kasmina.exports.export",
    "GateParameters": "esper.kasmina.lifecycle.gates",
    "GovernorParameters": "esper.kasmina.training.governor",
    "Growth": "esper.kasmina.training.growth",
    "GrowthCallback": "esper.kasmina.lightning",
    "GrowthOptimizer": "esper.kasmina.training.optimizer",
    "host_state_dict": "esper.kasmina.attach",
    "load": "esper.urza.run.seeds",
    "load_checkpoint": "esper.kasmina.checkpoints.checkpoint",
    "load_seeds": "esper.kasmina.checkpoints.seeds_file",
    "lower": "esper.lang",
    "print_slots": "esper.kasmina.listing",
    "restore_topology": "esper.kasmina.checkpoints.checkpoint",
    "run_passes": "esper.passes.manager",
    "save_checkpoint": "esper.kasmina.checkpoints.checkpoint",
    "save_seeds": "esper.kasmina.checkpoints.seeds_file",
    "slots": "esper.kasmina.lifecycle.bank",
}
"""Public name -> the module that has it."""

SUBPACKAGES = frozenset({"testing"})
"""What is imported when it is first named."""

_beside = Path(__file__).resolve().parent
if not (_beside / "grammar").is_dir():
    # A checkout: grammar/, kernels/ and blueprints/ stand beside this package, not inside it.
    __path__.append(str(_beside.parent))


def __getattr__(name: str) -> Any:
    if name in SUBPACKAGES:
        return import_module(f"esper.{name}")
    module = FACE.get(name)
    if module is None:
        raise AttributeError(f"module `esper` has no attribute `{name}`")
    value = getattr(import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *FACE, *SUBPACKAGES})
