"""Which tier runs a seed's training calls: kernels once they are ready and agree with torch, else torch.

Kernels take over between two calls. Their first results and their first gradients are compared with those of
the same two graphs by torch's operators; kernels that fail or disagree are never used by this seed again, and
the call that found out has torch's results. A call whose tensors kernels cannot take runs on torch alone.
Each of these is counted, and told to the logger `esper`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeVar

import torch

from esper.ops.reference.evaluate import TORCH_DTYPES, ShapeGiven
from esper.urza.errors import TensorTooLarge, TensorUnfitForKernels
from esper.urza.run.differentiable import Directions, Kernels, Sizes, TorchDirections, run
from esper.urza.run.supply import Supply, Want

Tier = Literal["torch", "triton"]
Tensor = torch.Tensor
Found = TypeVar("Found")

log = logging.getLogger("esper")

TOLERANCE = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 3e-2}
"""Largest relative difference, in the maximum norm, between kernels and torch, by the widest rounding."""


@dataclass(frozen=True)
class SeedStatus:
    """Which tier runs and why, and how often each has run.

    fallbacks: the calls that were meant for kernels and ran on torch. quarantined: whether kernels failed or
    disagreed, and are not used any more.
    """

    tier: Tier
    reason: str
    calls: Mapping[str, int]
    fallbacks: int = 0
    quarantined: bool = False


class Tiers:
    """The state of one seed. name: of its blueprint. tier: what was asked for.

    handles: what graphs that `torch.compile` made know this seed by, kept alive with it.
    """

    def __init__(self, name: str, tier: Tier, supply: Supply) -> None:
        self.name = name
        self.supply = supply
        self.tier: Tier = tier
        self.reason = "asked for" if tier == "torch" else "kernels have not run yet"
        self.calls = {"torch": 0, "triton": 0}
        self.fallbacks = 0
        self.quarantined = False
        self.handles: dict[int, Any] = {}
        self._watched: dict[Kernels, _Watched] = {}
        self._last: _Watched | None = None

    def copy(self) -> Tiers:
        """The same state, to go on by itself with the same kernels."""
        copy = Tiers(self.name, self.tier, self.supply)
        copy.reason, copy.calls = self.reason, dict(self.calls)
        copy.fallbacks, copy.quarantined = self.fallbacks, self.quarantined
        for kernels, watched in self._watched.items():
            again = copy._watched[kernels] = _Watched(copy, kernels)
            again.agreed, again.agreed_backward = watched.agreed, watched.agreed_backward
            if watched is self._last:
                copy._last = again
        return copy

    @property
    def wants_kernels(self) -> bool:
        """Whether training calls are meant for kernels."""
        return self.tier == "triton" and not self.quarantined

    def status(self) -> SeedStatus:
        """A snapshot."""
        runs = self.wants_kernels and self._last is not None and self._last.agreed
        return SeedStatus(
            "triton" if runs else "torch", self.reason, dict(self.calls), self.fallbacks, self.quarantined
        )

    def run(self, given: Mapping[str, Tensor], want: Want) -> tuple[Tensor, ...] | None:
        """The kernels' outputs and updates, differentiable; None where the torch tier has to run.

        given: a tensor for each leaf of the graph, by name, on one device.
        """
        return self.attempt(given, want, lambda watched: run(watched, given))

    def attempt(
        self, given: Mapping[str, Tensor], want: Want, action: Callable[[Directions], Found]
    ) -> Found | None:
        """What `action` makes of kernels; None, counted and told, where there are none or they failed."""
        if not self.wants_kernels:
            return None
        try:
            watched = self._ready(next(iter(given.values())).device, want)
            if watched is None:
                return None
            found = action(watched)
        except (ShapeGiven, TensorTooLarge, TensorUnfitForKernels) as error:
            self.fall_back(f"kernels cannot take the last call's tensors: {error}")
            return None
        except _Failure as failure:
            self.quarantine(failure)
            return None
        self._last, self.reason = watched, "kernels agree with the torch tier"
        self.calls["triton"] += 1
        return found

    def _ready(self, device: torch.device, want: Want) -> _Watched | None:
        """Kernels for `device` under this seed's eyes; None, and the reason told, while they are built."""
        try:
            kernels = self.supply.kernels(device, want)
        except Exception as error:
            raise _Failure.of(error) from error
        if kernels is None:
            self.fall_back(f"kernels are being built for {self.supply.target(device)}")
            return None
        if kernels not in self._watched:
            self._watched[kernels] = _Watched(self, kernels)
        return self._watched[kernels]

    def directions(self, device: torch.device, want: Want, instead: Directions) -> Directions:
        """Kernels for `device` if they have served before, else `instead`."""
        kernels = self.supply.kernels(device, want) if self.wants_kernels else None
        return instead if kernels is None or kernels not in self._watched else self._watched[kernels]

    def quarantine(self, failure: _Failure) -> None:
        """Gives kernels up for good."""
        self.fallbacks += 1
        self.quarantined = True
        self.reason = f"kernels are in quarantine: {failure}"
        log.warning("%s: %s; the torch tier goes on", self.name, self.reason)

    def fall_back(self, reason: str) -> None:
        """Counts a call that runs on torch; a reason is told once, its repetitions at debug level."""
        self.fallbacks += 1
        log.log(logging.DEBUG if reason == self.reason else logging.INFO, "%s: %s", self.name, reason)
        self.reason = reason


class _Failure(Exception):
    """Why kernels are not to be used: what went wrong in them, or how they differ from torch."""

    @staticmethod
    def of(error: Exception) -> _Failure:
        return _Failure(f"{type(error).__name__}: {error}")


class _Watched(Directions):
    """Kernels whose first results and first gradients are compared with torch's."""

    def __init__(self, tiers: Tiers, kernels: Kernels) -> None:
        super().__init__(kernels.programs, self._forward, self._backward)
        self.sizes = kernels.sizes  # type: ignore[method-assign]
        self.agreed = self.agreed_backward = False
        self._tiers, self._kernels = tiers, kernels
        dtypes = {
            TORCH_DTYPES[type.dtype] for node in kernels.programs.parts.forward.nodes for type in node.types
        }
        self._tolerance = max((TOLERANCE.get(dtype, 0.0) for dtype in dtypes), default=0.0)

    @cached_property
    def torch(self) -> TorchDirections:
        """The same graphs by torch's operators."""
        return TorchDirections(self.programs)

    def _forward(self, given: Mapping[str, Tensor], sizes: Sizes) -> Mapping[str, Tensor]:
        try:
            found = self._kernels.forward(given, sizes)
        except (TensorTooLarge, TensorUnfitForKernels):
            raise
        except Exception as error:
            raise _Failure.of(error) from error
        if not self.agreed:
            self._compare(found, self.torch.forward(given, sizes))
            self.agreed = True
            log.info("%s: kernels agree with torch and take over", self.name)
        return found

    def _backward(self, given: Mapping[str, Tensor], sizes: Sizes) -> Mapping[str, Tensor]:
        """The gradients; torch's if kernels went into quarantine since the forward direction, or do now."""
        if self._tiers.quarantined:
            return self.torch.backward(given, sizes)
        try:
            found = self._kernels.backward(given, sizes)
            if not self.agreed_backward:
                self._compare(found, self.torch.backward(given, sizes))
                self.agreed_backward = True
        except Exception as error:  # noqa: BLE001 - whatever a kernel does, training goes on
            self._tiers.quarantine(error if isinstance(error, _Failure) else _Failure.of(error))
            return self.torch.backward(given, sizes)
        return found

    def _compare(self, found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
        """Raises `_Failure`.

        A difference is relative to the largest element of its tensor, or to a tenth of the largest of all:
        what is small because large terms cancel is no more exact than they are.
        """
        scales = {name: _largest(tensor) for name, tensor in expected.items()}
        floor = 0.1 * max(scales.values(), default=0.0)
        for name, theirs in expected.items():
            if name in self.saved and not theirs.is_floating_point():
                continue  # where rounding tips a comparison, a result shows whether it matters
            distance, scale = _distance(found[name], theirs), max(scales[name], floor)
            if not distance <= self._tolerance * scale:
                raise _Failure(f"`{name}` differs by {distance:.3g} where the largest value is {scale:.3g}")


def _largest(tensor: Tensor) -> float:
    finite = tensor.double().abs().nan_to_num(0.0, 0.0, 0.0)
    return finite.max().item() if tensor.numel() else 0.0


def _distance(mine: Tensor, theirs: Tensor) -> float:
    """The largest difference; the same infinities and NaN in the same places are none."""
    if not theirs.numel():
        return 0.0
    mine, theirs = mine.double(), theirs.double()
    same = (mine == theirs) | (mine.isnan() & theirs.isnan())
    return (mine - theirs).abs().masked_fill(same, 0.0).max().item()
