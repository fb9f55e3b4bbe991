"""From a blueprint to a seed: the slot's tensor gives the parameters, the compiler makes the module."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from esper import lang
from esper.errors import EsperError
from esper.ir.graph import BlueprintIR
from esper.ir.types import DType
from esper.kasmina.errors import SeedDoesNotFit
from esper.kasmina.host.probe import Probe
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
        offered, sizes = fitted(blueprint, probe, slot, params)
        bound = {**offered, **params}
        ir = lang.lower(blueprint, sizes=sizes, precision=dtype if dtype in HALVES else None, **bound)
    return CompiledSeed(ir, generator=generator), ir.name, bound


def fitted(
    blueprint: str | Path, probe: Probe, slot: str, params: Mapping[str, Any], name: str | None = None
) -> tuple[dict[str, Any], dict[str, lang.SizeValue]]:
    """The parameters beside `params`, and the sizes, with which `blueprint` takes the slot's tensor.

    name: which of the file's several blueprints.
    Raises `DoesNotFit`, `SeedDoesNotFit`, and what `esper.lang.load` raises.
    """
    dtype = DTYPES[probe.dtype]
    is_asked = probe.second_axis == "causal" and "causal" not in params
    has_it = any(p.name == "causal" for p in lang.signature(blueprint, name).parameters)
    own: dict[str, Any] = {"causal": True} if is_asked and has_it else {}
    settled = {**own, **params}
    offered, sizes = lang.fit(blueprint, probe.shape, dtype, name=name, params=settled)
    _check_axes(blueprint, probe, slot, dtype, settled, offered, name)
    return {**own, **offered}, sizes


def _check_axes(
    blueprint: str | Path,
    probe: Probe,
    slot: str,
    dtype: DType,
    params: Mapping[str, Any],
    offered: Mapping[str, Any],
    name: str | None,
) -> None:
    """Raises SeedDoesNotFit where a parameter would be the size of an axis that is not the features'.

    Such a seed fits the example, and no batch of another length.
    """
    if probe.layout is None or not offered:
        return
    features = 1 if probe.layout == "channels" else len(probe.shape) - 1
    for axis in range(1, len(probe.shape)):
        if axis == features:
            continue
        longer = [2 * size if index == axis else size for index, size in enumerate(probe.shape)]
        try:
            others, _ = lang.fit(blueprint, longer, dtype, name=name, params=params)
        except EsperError:
            continue
        moved = [parameter for parameter, value in offered.items() if others.get(parameter) != value]
        if moved:
            reason = (
                f"its `{moved[0]}` would be axis {axis}, whose size may change from batch to batch, and the "
                f"features are on axis {features}"
            )
            raise SeedDoesNotFit(blueprint=blueprint, slot=slot, tensor=probe, reason=reason)
