"""The host's optimizer, with the seeds stepping beside it.

`param_groups` and `state` are the wrapped optimizer's own, so schedulers, gradient clipping and
GradScaler go on as with it; each seed has an optimizer of its own behind the same `step`.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.optim import Optimizer

from esper.kasmina.bank import ATTACHED, MorphogeneticModel
from esper.kasmina.errors import ParametersMissing
from esper.kasmina.seed_optimizer import check_elementwise, mean_square
from esper.kasmina.slot import SeedSlot
from esper.leyline.stages import ACTIVE_STAGES, SeedStage


class GrowthOptimizer(Optimizer):
    """Wraps an elementwise optimizer, or makes one of a class: `GrowthOptimizer(AdamW, parameters, lr=1e-3)`.

    It finds the seeds of every attached model that it holds a parameter of; of several such optimizers the
    last one made trains them, or the one given to `Growth`. With a GradScaler, give it
    here too: the seeds' gradients never pass through the scaler and are unscaled by its factor.
    Raises UnsupportedOptimizer for an optimizer that mixes parameters, ParametersMissing for a class alone.
    """

    def __init__(
        self,
        optimizer: Optimizer | type[Optimizer],
        params: Any = None,
        *,
        scaler: torch.amp.GradScaler | None = None,
        **options: Any,
    ) -> None:
        if isinstance(optimizer, type):
            if params is None:
                raise ParametersMissing(optimizer=optimizer.__name__)
            optimizer = optimizer(params, **options)
        inner = optimizer
        check_elementwise(inner)
        self.inner = inner
        self.scaler = scaler
        self.steps = 0
        self._strangers: weakref.WeakSet[MorphogeneticModel] = weakref.WeakSet()
        super().__setstate__({})
        for bank in list(ATTACHED):
            self.adopt(bank)

    def adopt(self, bank: MorphogeneticModel) -> bool:
        """Trains the seeds of `bank` from here on, in place of any other optimizer; False for a stranger."""
        held = {id(p) for group in self.param_groups for p in group["params"]}
        if not any(id(p) in held for p in bank.model.parameters()):
            self._strangers.add(bank)
            return False
        bank.ground.optimizer = self.inner
        return True

    @property
    def param_groups(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The host's groups, fossilized seeds in them."""
        return self.inner.param_groups

    @property
    def state(self) -> Any:  # type: ignore[override]
        return self.inner.state

    @property
    def defaults(self) -> dict[str, Any]:  # type: ignore[override]
        return self.inner.defaults

    def banks(self) -> Iterator[MorphogeneticModel]:
        """The slots of every attached model that this optimizer trains; they learn of it on the way."""
        for bank in list(ATTACHED):
            if bank.ground.optimizer is None and bank not in self._strangers:
                self.adopt(bank)
            if bank.ground.optimizer is self.inner:
                yield bank

    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """Steps the host, then every live seed along its own gradients."""
        self.steps += 1
        scale = self.scaler.get_scale() if self.scaler is not None and self.scaler.is_enabled() else 1.0
        result = self.inner.step(closure) if closure is not None else self.inner.step()
        for bank in self.banks():
            bank.ground.step += 1
            if bank.ground.measures_gradients:
                self._measure(bank)
            for slot in bank.in_stages(ACTIVE_STAGES):
                if not is_counterfactual(slot):
                    slot.learn(scale)
                slot.tick()
        return result

    def _measure(self, bank: MorphogeneticModel) -> None:
        gradients = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        if gradients:
            square = mean_square(gradients)
            bank.ground.gradient_square = square
            bank.ground.gradient_norm = (square * sum(gradient.numel() for gradient in gradients)).sqrt()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clears the gradients of the host and of every seed that learns from the host's backward pass."""
        self.inner.zero_grad(set_to_none=set_to_none)
        for bank in self.banks():
            for slot in bank.in_stages(ACTIVE_STAGES):
                if not is_counterfactual(slot):
                    slot.hook.clear_gradients()
                for parameter in slot.hook.trainable():
                    parameter.grad = None

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group to the host's."""
        self.inner.add_param_group(param_group)
        self._strangers.clear()

    def state_dict(self) -> dict[str, Any]:
        """The wrapped optimizer's, and under `seeds` that of each live seed's optimizer."""
        seeds = {
            name: slot.optimizer.optimizer.state_dict()
            for bank in self.banks()
            for name, slot in bank.items()
            if slot.optimizer is not None
        }
        return {**self.inner.state_dict(), "seeds": seeds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes what `state_dict` gave, or a state dict of the wrapped optimizer alone."""
        state = dict(state_dict)
        seeds = state.pop("seeds", {})
        self.inner.load_state_dict(state)
        for bank in self.banks():
            for name, slot in bank.items():
                if slot.optimizer is not None and name in seeds:
                    slot.optimizer.optimizer.load_state_dict(seeds[name])

    def __getstate__(self) -> dict[str, Any]:
        return {"inner": self.inner, "scaler": self.scaler, "steps": self.steps}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._strangers = weakref.WeakSet()
        super().__setstate__({})

    def __repr__(self) -> str:
        return f"GrowthOptimizer({self.inner!r})"


def is_counterfactual(slot: SeedSlot) -> bool:
    """Whether the slot's seed learns from second passes, not from the host's backward pass."""
    return slot.stage is SeedStage.TRAINING and slot.incubation == "counterfactual"
