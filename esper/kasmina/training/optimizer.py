"""The host's optimizer, with the seeds stepping beside it.

`param_groups` and `state` are the wrapped optimizer's own, so schedulers, gradient clipping and
GradScaler go on as with it; each seed has an optimizer of its own behind the same `step`. A fossilized
seed's parameters stand in the group of its slot's module, and follow that group's schedule.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from esper.kasmina.errors import OptimizerDiffers, ParametersMissing
from esper.kasmina.lifecycle import fossils
from esper.kasmina.lifecycle.bank import ATTACHED, MorphogeneticModel
from esper.kasmina.lifecycle.ranks import average_waiting
from esper.kasmina.lifecycle.seed_optimizer import SeedOptimizer, check_elementwise, mean_square
from esper.kasmina.lifecycle.slot import SeedSlot
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
            for slot in bank.values():
                slot.hook.attendance.tick()
            if bank.ground.measures_gradients:
                self._measure(bank)
            active = bank.in_stages(ACTIVE_STAGES)
            average_waiting([slot for slot in active if not is_counterfactual(slot)])
            for slot in active:
                if not is_counterfactual(slot):
                    slot.learn(scale)
                slot.tick()
        return result

    def _measure(self, bank: MorphogeneticModel) -> None:
        """The gradient of a host that is frozen throughout is 0; any other may just lack one at this step."""
        parameters = [p for group in self.param_groups for p in group["params"]]
        gradients = [p.grad for p in parameters if p.grad is not None]
        if gradients:
            square = mean_square(gradients)
            bank.ground.gradient_square = square
            bank.ground.gradient_norm = (square * sum(gradient.numel() for gradient in gradients)).sqrt()
        elif not any(p.requires_grad for p in parameters):
            bank.ground.gradient_square = torch.zeros((), device=bank.ground.device)
            bank.ground.gradient_norm = torch.zeros((), device=bank.ground.device)

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
        """The wrapped optimizer's state; under `kind` its class, under `seeds` the state of each live seed's
        optimizer, and under `parameters` the names of each group's parameters, None for one of no attached
        model."""
        named = {id(parameter): name for name, parameter in self._named_parameters().items()}
        return {
            **self.inner.state_dict(),
            "kind": type(self.inner).__name__,
            "parameters": [[named.get(id(p)) for p in group["params"]] for group in self.param_groups],
            "seeds": {
                name: slot.optimizer.state_dict()
                for name, slot in self._named_slots().items()
                if slot.optimizer is not None
            },
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes what `state_dict` gave, or a state dict of the wrapped optimizer alone.

        Parameters are found by name, so that fossilized seeds come to stand where they stood, whether this
        optimizer was made before they were put back or after. Raises OptimizerDiffers, and changes nothing.
        """
        self.check_state_dict(state_dict)
        state = {
            key: value for key, value in state_dict.items() if key not in ("kind", "seeds", "parameters")
        }
        seeds, names = state_dict.get("seeds"), state_dict.get("parameters")
        own = self._named_slots()
        for name, saved in (seeds or {}).items():
            parameters = own[name].hook.trainable() if name in own else []
            if len(parameters) != len(saved["optimizer"]["param_groups"][0]["params"]):
                raise OptimizerDiffers(difference=f"it has no such seed in the slot `{name}`")
        if names is not None:
            self._arrange(names)
        self.inner.load_state_dict(state)
        if seeds is None:
            return
        for name, slot in own.items():
            slot.optimizer = None
            if name in seeds:
                slot.optimizer = SeedOptimizer(self.inner, seeds[name]["group"], slot.hook.trainable())
                slot.optimizer.load_state_dict(seeds[name])

    def check_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Raises OptimizerDiffers unless `state_dict` gave the state for an optimizer of this kind, with the
        same groups of the host's own parameters. Of seeds, which may be put back later, nothing is asked."""
        own_kind, kind = type(self.inner).__name__, state_dict.get("kind")
        if kind is not None and kind != own_kind:
            raise OptimizerDiffers(difference=f"it is {own_kind}, where the state is of {kind}")
        names = state_dict.get("parameters")
        if names is None:
            return
        known = {id(p): name for name, p in self._named_parameters().items()}
        found = [[known.get(id(p)) for p in group["params"]] for group in self.param_groups]
        wanted = {name for group in names for name in group if name is not None and not _is_fossil(name)}
        held = {name for group in found for name in group if name is not None and not _is_fossil(name)}
        lacking, besides = sorted(wanted - held), sorted(held - wanted)
        if lacking or besides or len(names) != len(found):
            raise OptimizerDiffers(difference=_difference(lacking, besides, len(names), self.param_groups))
        for index, (own, saved) in enumerate(zip(found, names, strict=True)):
            if own.count(None) != list(saved).count(None):
                reason = f"its group {index} has other parameters that belong to no model with slots"
                raise OptimizerDiffers(difference=reason)

    def _arrange(self, names: Sequence[Sequence[str | None]]) -> None:
        """Puts each group's parameters in the order of `names`; fossils join or change their group."""
        known = self._named_parameters()
        held = {id(p) for group in self.param_groups for p in group["params"]}
        named = {id(parameter): name for name, parameter in known.items()}
        own = {name for name, p in known.items() if id(p) in held and not _is_fossil(name)}
        wanted = {name for group in names for name in group if name is not None}
        lacking = sorted(name for name in wanted if not (name in own or (_is_fossil(name) and name in known)))
        besides = sorted({name for name, p in known.items() if id(p) in held} - wanted)
        if lacking or besides or len(names) != len(self.param_groups):
            raise OptimizerDiffers(difference=_difference(lacking, besides, len(names), self.param_groups))
        arranged: list[list[nn.Parameter]] = []
        for group, order in zip(self.param_groups, names, strict=True):
            rest = iter([p for p in group["params"] if id(p) not in named])
            arranged.append([next(rest) if name is None else known[name] for name in order])
        for group, parameters in zip(self.param_groups, arranged, strict=True):
            if "param_names" in group:
                given = dict(zip(map(id, group["params"]), group["param_names"], strict=True))
                group["param_names"] = [given.get(id(p)) or named[id(p)] for p in parameters]
            group["params"] = parameters

    def _numbered_banks(self) -> list[tuple[str, MorphogeneticModel]]:
        """The banks in the order of their first parameter in the groups, each with a prefix for its names,
        which is empty where there is one bank."""
        place = {id(p): index for index, p in enumerate(p for g in self.param_groups for p in g["params"])}
        last = len(place)
        banks = sorted(
            self.banks(),
            key=lambda b: min((place.get(id(p), last) for p in b.model.parameters()), default=last),
        )
        return [("" if len(banks) == 1 else f"{index}:", bank) for index, bank in enumerate(banks)]

    def _named_parameters(self) -> dict[str, nn.Parameter]:
        return {
            f"{prefix}{name}": parameter
            for prefix, bank in self._numbered_banks()
            for name, parameter in bank.model.named_parameters()
        }

    def _named_slots(self) -> dict[str, SeedSlot]:
        return {
            f"{prefix}{name}": slot for prefix, bank in self._numbered_banks() for name, slot in bank.items()
        }

    def __getstate__(self) -> dict[str, Any]:
        return {"inner": self.inner, "scaler": self.scaler, "steps": self.steps}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._strangers = weakref.WeakSet()
        super().__setstate__({})

    def __repr__(self) -> str:
        return f"GrowthOptimizer({self.inner!r})"


def _is_fossil(name: str) -> bool:
    return name.rpartition(":")[2].startswith(f"{fossils.ROOT_NAME}.")


def _difference(
    lacking: Sequence[str], besides: Sequence[str], groups: int, found: Sequence[Mapping[str, Any]]
) -> str:
    if lacking or besides:
        parts = [("lacks", lacking), ("has besides", besides)]
        return "; ".join(
            f"it {verb} {', '.join(f'`{n}`' for n in names[:4])}" for verb, names in parts if names
        )
    return f"it has {len(found)} groups of parameters, where the state has {groups}"


def is_counterfactual(slot: SeedSlot) -> bool:
    """Whether the slot's seed learns from second passes, not from the host's backward pass."""
    return slot.stage is SeedStage.TRAINING and slot.incubation == "counterfactual"
