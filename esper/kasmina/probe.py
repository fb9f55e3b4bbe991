"""What a slot is like: shape, dtype and device of the tensor at it, and whether a seed fits there."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from esper.kasmina.errors import SeedDoesNotFit
from esper.kasmina.isolation import undisturbed


@dataclass(frozen=True)
class Probe:
    """The tensor at a slot, as the example batch left it."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device

    def __str__(self) -> str:
        return f"{str(self.dtype).removeprefix('torch.')} {list(self.shape)}"

    def sample(self, random_seed: int) -> Tensor:
        """Standard normal values of this shape, drawn from a generator of their own."""
        generator = torch.Generator().manual_seed(random_seed)
        return torch.randn(self.shape, generator=generator).to(self.device, self.dtype)


def try_on(seed: nn.Module, probe: Probe, slot: str, blueprint: str) -> dict[str, float | None]:
    """The figures of G0, from one run in evaluation mode that leaves seed and generators as they were.

    Raises `SeedDoesNotFit` where the seed cannot take the slot's tensor, or returns another shape or dtype.
    """
    x = probe.sample(0)
    given = x.clone()
    try:
        with undisturbed(seed), torch.no_grad():
            grown = seed.eval()(given)
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SeedDoesNotFit(blueprint=blueprint, slot=slot, tensor=probe, reason=reason) from error
    if not isinstance(grown, Tensor) or grown.shape != x.shape or grown.dtype != x.dtype:
        found = (
            f"{str(grown.dtype).removeprefix('torch.')} {list(grown.shape)}"
            if isinstance(grown, Tensor)
            else type(grown).__name__
        )
        raise SeedDoesNotFit(blueprint=blueprint, slot=slot, tensor=probe, reason=f"it returns {found}")
    unchanged = torch.equal(given, x)
    if not unchanged:
        raise SeedDoesNotFit(blueprint=blueprint, slot=slot, tensor=probe, reason="it writes into its input")
    return {"keeps_shape": 1.0, "leaves_input_unchanged": float(unchanged)}


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
