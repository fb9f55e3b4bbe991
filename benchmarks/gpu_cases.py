"""What `gpu.py` measures: library blocks at sizes, as modules of each contender, and how a call is timed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from esper.ir.graph import BlueprintIR
from esper.lang import library, lower, size_values
from esper.ops.reference.evaluate import TORCH_DTYPES
from esper.urza.eager.module_text import class_name, module_text
from esper.urza.run.seed import CompiledSeed

CONTENDERS = ("eager", "compile", "esper")
WIDTHS = ("features", "d_model", "channels")
"""The parameter that is as wide as a block's input, by its names in the library."""
SCALES = {"tiny": (2, 16, 8), "small": (8, 64, 14), "large": (32, 512, 56)}
"""Batch, length, and height and width of maps."""
OTHERS = {"activation": Path(__file__).with_name("activation.esp")}
"""Blocks that are not in the library."""
PATIENCE = 60.0  # seconds to wait for kernels
Tensors = Sequence[torch.Tensor]
Call = Callable[[], object]


class KernelsMissing(Exception):
    """A seed that was to run its kernels ran torch's operators."""


@dataclass(frozen=True)
class Case:
    """A library block at one width, scale and precision."""

    block: str
    width: int
    scale: str
    precision: str = "bf16"

    def __str__(self) -> str:
        return f"{self.block} {self.width} {self.scale} {self.precision}"

    @cached_property
    def ir(self) -> BlueprintIR:
        given: dict[str, Any] = {name: self.width for name in WIDTHS if name in _parameters(self.block)}
        if "dropout" in _parameters(self.block):
            given["dropout"] = 0.0  # the contenders draw from different generators
        if "length" in _parameters(self.block):
            given["length"] = SCALES[self.scale][1]
        source = OTHERS.get(self.block, self.block)
        plain = lower(source, precision=self.precision, **given)
        sizes = {name: value for name, value in self._sizes.items() if name in _stems(plain)}
        return lower(source, sizes=sizes, precision=self.precision, **given)

    @property
    def _sizes(self) -> dict[str, Any]:
        batch, length, side = SCALES[self.scale]
        axes = (side, side) if is_of_maps(self.block) else (length,)
        return {"N": batch, "T": length, "U": length, "S": axes, "R": tuple(axis // 2 for axis in axes)}

    @property
    def sizes(self) -> dict[str, int]:
        """A number for each size symbol of the graph."""
        given = {name: value for name, value in self._sizes.items() if name in _stems(self.ir)}
        return size_values(self.ir, given)

    def inputs(self, device: torch.device) -> list[torch.Tensor]:
        """Random ones, the same for every contender, whose gradients are wanted."""
        generator = torch.Generator(device).manual_seed(0)
        found = []
        for node in self.ir.inputs:
            shape = node.type.concrete_shape(self.sizes)
            value = torch.randn(shape, device=device, generator=generator)
            found.append(value.to(TORCH_DTYPES[node.type.dtype]).requires_grad_())
        return found

    def module(self, contender: str, device: torch.device) -> nn.Module:
        """The block as `contender` runs it, with the same weights for everyone.

        `eager` is the module that `--emit torch` writes; `compile` and `max-autotune` are
        `torch.compile` of it, for these very sizes. Nothing is built before the first call.
        """
        generator = torch.Generator().manual_seed(0)
        seed = CompiledSeed(self.ir, generator=generator, tier="triton" if contender == "esper" else "torch")
        seed.to(device)
        if contender == "esper":
            return seed
        module = plain_module(self.ir).to(device)
        module.load_state_dict(seed.state_dict())
        if contender == "eager":
            return module
        mode = None if contender == "compile" else "max-autotune"
        return torch.compile(module, dynamic=False, mode=mode)  # type: ignore[return-value]


def _stems(ir: BlueprintIR) -> set[str]:
    """The names of size symbols; that of `...S` is `S`."""
    return {symbol.partition(".")[0] for symbol in ir.symbols}


@cache
def _parameters(block: str) -> frozenset[str]:
    if block in OTHERS:
        return frozenset(WIDTHS[:1])
    entry = next(entry for entry in library() if entry.name == block)
    return frozenset(parameter.name for parameter in entry.signature.parameters)


def is_of_maps(block: str) -> bool:
    """Whether the block takes maps, channels first."""
    return "channels" in _parameters(block)


def blocks() -> list[str]:
    return [entry.name for entry in library()]


def plain_module(ir: BlueprintIR) -> nn.Module:
    """The module that `esperc compile --emit torch` writes for `ir`."""
    names: dict[str, Any] = {}
    exec(compile(module_text(ir), f"<{ir.name}>", "exec"), names)  # noqa: S102  (text that this program wrote)
    module: nn.Module = names[class_name(ir)]()
    return module


def call(module: nn.Module, inputs: Tensors) -> tuple[torch.Tensor, ...]:
    """Both directions: outputs, and the gradients that inputs and parameters have, not accumulated.

    The gradients of the outputs are ones.
    """
    found = module(*inputs)
    outputs = found if isinstance(found, tuple) else (found,)
    given = [torch.ones_like(output) for output in outputs]
    gradients: Sequence[torch.Tensor | None] = torch.autograd.grad(
        outputs, [*inputs, *module.parameters()], given, allow_unused=True
    )
    return *outputs, *(gradient for gradient in gradients if gradient is not None)


def warm(module: nn.Module, inputs: Tensors) -> None:
    """Calls until everything is built. Raises `KernelsMissing` where a seed goes without its kernels."""
    call(module, inputs)
    if not isinstance(module, CompiledSeed):
        call(module, inputs)
        return
    limit = time.monotonic() + PATIENCE
    while module.status().tier != "triton" and time.monotonic() < limit and not module.status().quarantined:
        time.sleep(0.02)
        call(module, inputs)
    if module.status().tier != "triton":
        raise KernelsMissing(module.status().reason)


def turns(calls: Mapping[str, Call], rounds: int, once: Callable[[Call], float]) -> dict[str, float]:
    """The median of what `once` measures of each call, the contenders taking turns."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, one in calls.items():
            found[name].append(once(one))
    return {name: statistics.median(values) for name, values in found.items()}
