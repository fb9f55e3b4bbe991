"""From a blueprint to a seed: the slot's tensor gives the parameters, the compiler makes the module."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from esper import lang
from esper.ir.graph import BlueprintIR
from esper.ir.types import DType
from esper.kasmina.errors import SeedDoesNotFit
from esper.kasmina.probe import Probe
from esper.urza.run.seed import CompiledSeed

DTYPES: Mapping[torch.dtype, DType] = {
    torch.float16: DType.F16,
    torch.bfloat16: DType.BF16,
    torch.float32: DType.F32,
    torch.float64: DType.F64,
}
HALVES = (DType.F16, DType.BF16)


def build_seed(
    blueprint: BlueprintIR | str | Path,
    probe: Probe,
    slot: str,
    generator: torch.Generator,
    params: Mapping[str, Any],
) -> tuple[CompiledSeed, str, dict[str, Any]]:
    """The compiled seed, its blueprint's name, and the parameters it was given.

    `blueprint`: the name of a library blueprint, a path to a `.esp` file, or a graph, which takes no
    `params`. Weights are drawn from `generator` alone.
    """
    if isinstance(blueprint, BlueprintIR):
        ir, bound = blueprint, dict(params)
        if params:
            reason = f"its parameters are bound already, so `{next(iter(params))}` cannot be given"
            raise SeedDoesNotFit(blueprint=ir.name, slot=slot, tensor=probe, reason=reason)
    else:
        dtype = DTYPES[probe.dtype]
        offered, sizes = lang.fit(blueprint, probe.shape, dtype, params=params)
        bound = {**offered, **params}
        ir = lang.lower(blueprint, sizes=sizes, precision=dtype if dtype in HALVES else None, **bound)
    return CompiledSeed(ir, generator=generator), ir.name, bound
