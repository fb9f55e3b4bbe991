"""What a slot is like: shape, dtype and device of the tensor at it, and whether a seed fits there."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from esper.kasmina.errors import SeedDoesNotFit
from esper.kasmina.host.dependence import SecondAxis, breach
from esper.kasmina.host.isolation import undisturbed
from esper.kasmina.host.layout import Layout


@dataclass(frozen=True)
class Probe:
    """The tensor at a slot, as the example batch left it."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device
    calls: int = 1
    """How often the module ran on the example; a seed acts in every call."""
    others: tuple[tuple[int, ...], ...] = ()
    """The other shapes that it returned then."""
    layout: Layout | None = None
    """Which axis holds the features, where the host shows it."""
    second_axis: SecondAxis | None = None
    """What a seed must keep to along axis 1, where the tensor is a sequence and the host shows it."""

    def __str__(self) -> str:
        return f"{str(self.dtype).removeprefix('torch.')} {list(self.shape)}"

    def sample(self, random_seed: int, shape: tuple[int, ...] | None = None) -> Tensor:
        """Standard normal values of this shape, or of `shape`, drawn from a generator of their own."""
        generator = torch.Generator().manual_seed(random_seed)
        return torch.randn(shape or self.shape, generator=generator).to(self.device, self.dtype)


def try_on(seed: nn.Module, probe: Probe, slot: str, blueprint: str) -> dict[str, float | None]:
    """The figures of G0, from one run for each shape in evaluation mode.

    Seed and generators stay as they were.
    Raises `SeedDoesNotFit` where the seed cannot take the slot's tensor, or returns another shape or dtype.
    """
    for shape in (probe.shape, *probe.others):
        reason = _misfit(seed, probe.sample(0, shape))
        if reason is not None:
            tensor = str(probe) if shape == probe.shape else f"{probe}, and in another call {list(shape)}"
            raise SeedDoesNotFit(blueprint=blueprint, slot=slot, tensor=tensor, reason=reason)
    reason = None if probe.second_axis is None else breach(seed, probe.sample(0), probe.second_axis)
    if reason is not None:
        raise SeedDoesNotFit(blueprint=blueprint, slot=slot, tensor=probe, reason=reason)
    return {"keeps_shape": 1.0, "leaves_input_unchanged": 1.0}


def _misfit(seed: nn.Module, x: Tensor) -> str | None:
    """Why the seed cannot stand where `x` passes; None if it can."""
    given = x.clone()
    try:
        with undisturbed(seed), torch.no_grad():
            grown = seed.eval()(given)
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
        return str(error).splitlines()[0] if str(error) else type(error).__name__
    if not isinstance(grown, Tensor):
        return f"it returns {type(grown).__name__}"
    if grown.shape != x.shape or grown.dtype != x.dtype:
        return f"it returns {str(grown.dtype).removeprefix('torch.')} {list(grown.shape)}"
    return None if torch.equal(given, x) else "it writes into its input"


def runs(seed: nn.Module, probe: Probe) -> dict[str, float | None]:
    """The figure of G1: 1 where the seed runs forward and backward in training mode, else 0."""
    x = probe.sample(1).requires_grad_()
    parameters = [p for p in seed.parameters() if p.requires_grad]
    try:
        with undisturbed(seed), torch.enable_grad():
            grown = seed.train()(x)
            if grown.requires_grad:
                torch.autograd.grad(grown.sum(), [x, *parameters], allow_unused=True)
    except RuntimeError:
        return {"runs": 0.0}
    return {"runs": 1.0}
