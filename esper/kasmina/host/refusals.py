"""Hosts that take no slots: hooks would not run in them, or no gradient would come through."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.nn.parameter import is_lazy

from esper.kasmina.errors import (
    CompiledHost,
    QuantizedHost,
    ScriptedHost,
    ShardedHost,
    UninitializedHost,
    WrappedHost,
)

WRAPPERS = (DataParallel, DistributedDataParallel)
WRAPPERS_BY_NAME = ("FullyShardedDataParallel",)
SHARDED_BY_NAME = ("FSDPModule", "DTensor")
"""Known by name: importing them would load what most runs do not need."""
QUANTIZED = ("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized", "torch.ao.nn.sparse.quantized")
FLOATING = ("FloatFunctional", "FXFloatFunctional")
"""They stand among the quantized modules, in models that wait to be quantized."""


def check_host(model: nn.Module) -> None:
    """Raises ShardedHost, CompiledHost, ScriptedHost, WrappedHost, QuantizedHost or UninitializedHost."""
    check_whole(model)
    for path, module in model.named_modules():
        name, kind = f"`{path}`" if path else "the model", type(module).__name__
        if hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None:
            raise CompiledHost(name=path or kind)
        if isinstance(module, torch.jit.ScriptModule):
            raise ScriptedHost(name=name, kind=kind)
        if isinstance(module, WRAPPERS) or kind in WRAPPERS_BY_NAME:
            inner = ".".join(["model", *path.split("."), "module"] if path else ["model", "module"])
            raise WrappedHost(name=name, kind=kind, inner=inner)
        if type(module).__module__.startswith(QUANTIZED) and kind not in FLOATING:
            raise QuantizedHost(name=name, kind=f"{type(module).__module__}.{kind}")
        if any(is_lazy(value) for value in (*module._parameters.values(), *module._buffers.values())):
            raise UninitializedHost(name=name, kind=kind)


def check_whole(model: nn.Module) -> None:
    """Raises ShardedHost where `fully_shard` or tensor parallelism has split the parameters of `model`."""
    for path, module in model.named_modules():
        for part in (module, *module._parameters.values()):
            if any(base.__name__ in SHARDED_BY_NAME for base in type(part).__mro__):
                name = f"`{path}`" if path else "the model"
                raise ShardedHost(name=name, kind=type(part).__name__)
