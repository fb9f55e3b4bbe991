"""What the compiler makes of the blueprints that a run kept: tables for its report.

Each is compiled ahead of time for the GPU here, or for a recent one where there is none; the kernel cache
makes a second report cheap. A blueprint that cannot be compiled here has its reason told instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from esper import lang
from esper.errors import EsperError
from esper.nissa.history import RunHistory
from esper.nissa.report import KernelTable
from esper.urza.compiler import compile_ir
from esper.urza.run.device import default_targets


def kernel_tables(history: RunHistory) -> list[KernelTable]:
    """One table for each blueprint and parameters among the fossilized seeds, in the order of germination."""
    tables: dict[str, KernelTable] = {}
    for seed in history.seeds:
        if seed.fossilized is None:
            continue
        params = seed.germinated.blueprint_params
        title = f"{seed.blueprint_id}({', '.join(f'{name}={value}' for name, value in params.items())})"
        if title not in tables:
            tables[title] = _table(title, seed.blueprint_id, params, seed.germinated.shape)
    return list(tables.values())


def _table(title: str, blueprint: str, params: Mapping[str, Any], shape: list[int]) -> KernelTable:
    try:
        _, sizes = lang.fit(blueprint, shape, params=params)
        compiled = compile_ir(
            lang.lower(blueprint, sizes=sizes, **params), default_targets()[-1:], sizes=sizes
        )
    except EsperError as error:
        return KernelTable(title, (), f"not compiled here: {error}")
    calls = ", ".join(compiled.outside_calls)
    shown = " × ".join(map(str, shape))
    remark = f"For a tensor of {shown}. " + (f"Library calls: {calls}." if calls else "No library calls.")
    return KernelTable(title, compiled.report()["kernels"], remark)
