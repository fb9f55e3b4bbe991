"""What of a growing run goes into a checkpoint, and how it is put back.

Weights, optimizers, snapshots and controls have forms of their own; of the objects with the counters (slots,
hooks, logs, growth itself) the attributes named here are kept.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from esper.kasmina.checkpoints.module_values import load_module_values, module_values, value_types
from esper.kasmina.checkpoints.topology import (
    NAMES_SHOWN,
    describe,
    host_differences,
    host_shapes,
    load_seed_weights,
    read_topology,
    rebuild,
    seed_weights,
    stands,
)
from esper.kasmina.errors import AnotherHost
from esper.kasmina.host.hook import Phase
from esper.kasmina.host.isolation import RandomStream
from esper.kasmina.lifecycle import fossils
from esper.kasmina.lifecycle.bank import ATTRIBUTE, MorphogeneticModel, slots
from esper.kasmina.lifecycle.control import Control
from esper.kasmina.lifecycle.rollback import Snapshot
from esper.kasmina.lifecycle.slot import SeedSlot
from esper.kasmina.training.growth import Growth

SLOT_VALUES = (
    "culled_blueprints",
    "rollbacks",
    "closed_until",
    "blueprint_id",
    "seed_id",
    "age_steps",
    "stage_steps",
    "refusals",
    "skipped_steps",
    "incubation_passes",
    "comparison",
    "blend",
    "blended_at",
    "loss_before",
    "mark",
    "_stage",
    "_count",
    "_ratios",
)
LOG_VALUES = ("history", "reports")
HOOK_VALUES = (
    "level",
    "mode",
    "phase",
    "is_disabled",
    "draws_from_torch",
    "gradients",
    "gradient_passes",
    "descents",
)
GROUND_VALUES = ("random_seed", "epoch", "step", "val_loss", "gradient_square", "gradient_norm", "in_place")
GROWTH_VALUES = ("host_params", "_losses", "_steps_seen")
"""The attributes that a checkpoint holds; what else these objects have, a run's script makes anew."""


def growth_values(growth: Growth) -> dict[str, Any]:
    """All of a growing run: topology, host, seeds, optimizers, and what growth has counted and measured."""
    bank = growth.slots
    policy = getattr(growth.policy, "state_dict", None)
    return {
        "topology": describe(bank),
        "fossils": _fossils(bank.model),
        "types": fossils.without_fossils(value_types(bank.model)),
        "host": module_values(bank.model),
        "seeds": seed_weights(bank),
        "optimizer": growth.optimizer.state_dict(),
        "steps": growth.optimizer.steps,
        "slots": {name: _slot_values(slot) for name, slot in bank.items()},
        "ground": _attributes(bank.ground, GROUND_VALUES),
        "growth": _attributes(growth, GROWTH_VALUES),
        "governor": growth.governor.state_dict(),
        "tracker": growth.tracker.mark(),
        "policy_kind": type(growth.policy).__name__,
        "policy": None if policy is None else policy(),
    }


def restore_slots(model: nn.Module, values: Mapping[str, Any]) -> None:
    """Puts the seeds of `growth_values` into `model`, its slots too where it has none; the host's weights
    come later.

    Seeds that stand there already stay the same objects; others make room.
    Raises AnotherHost and what `topology.rebuild` raises.
    """
    topology = values["topology"]
    if ATTRIBUTE in model.__dict__ and stands(slots(model), topology):
        load_seed_weights(slots(model), values["seeds"])
        for entry in topology["slots"]:
            hook = slots(model)[entry["name"]].hook
            hook.mode = entry["mode"]
            hook.set_alpha(entry["alpha"])
    else:
        rebuild(model, topology, values["seeds"], replaces=True)
    container = model._modules.get(fossils.ROOT_NAME)
    if container is not None:
        # The order in which they fossilized: gradients are clipped by a sum that runs in it.
        seeds = dict(container._modules)
        container._modules.clear()
        container._modules.update({name: seeds[name] for name in values["fossils"]})


def restore_growth(growth: Growth, values: Mapping[str, Any]) -> None:
    """Gives a run made as the saved one was all that `growth_values` took.

    Raises AnotherHost and OptimizerDiffers, whereupon the run is as it was.
    """
    bank = growth.slots
    check_slots(bank, values)
    check_host(bank.model, values)
    growth.optimizer.check_state_dict(values["optimizer"])
    restore_slots(bank.model, values)
    restore_weights(bank.model, values)
    growth.optimizer.load_state_dict(values["optimizer"])
    growth.optimizer.steps = values["steps"]
    _set_attributes(bank.ground, values["ground"], bank.ground.device)
    for name, slot in bank.items():
        _restore_slot(slot, bank, values["slots"][name])
    _set_attributes(growth, values["growth"], bank.ground.device)
    growth.governor.load_state_dict(values["governor"])
    bank.ground.exploded_steps = growth.governor.watch.exploded
    growth.tracker.rewind(values["tracker"])
    if values["policy"] is not None:
        growth.policy.load_state_dict(values["policy"])  # type: ignore[attr-defined]


def restore_weights(model: nn.Module, values: Mapping[str, Any]) -> None:
    """Gives host and seeds, which `restore_slots` put there, their weights and buffers."""
    load_seed_weights(slots(model), values["seeds"])
    load_module_values(model, values["host"])


def check_slots(bank: MorphogeneticModel, values: Mapping[str, Any]) -> None:
    """Raises AnotherHost unless `bank` has the slots of the saved run, each made as there."""
    saved = {entry.name: entry for entry in read_topology(values["topology"]).slots}
    if set(saved) != set(bank):
        differences = f"has the slots {', '.join(bank)}, where they are {', '.join(saved)}"
        raise AnotherHost(differences=differences)
    for name, slot in bank.items():
        for what, found, wanted in (
            ("incubation", slot.incubation, saved[name].incubation),
            ("output", slot.hook.output, saved[name].output),
        ):
            if found != wanted:
                raise AnotherHost(differences=f"has `{name}` with {what}={found!r}, where it is {wanted!r}")


def check_host(model: nn.Module, values: Mapping[str, Any]) -> None:
    """Raises AnotherHost, which names what differs, unless names, shapes and dtypes are the saved host's."""
    differences = host_differences(values["topology"]["host"], host_shapes(model))
    if not differences:
        found = value_types(model)
        differences = [
            f"has `{name}` in {found.get(name)}, where it is in {kind}"
            for name, kind in values["types"].items()
            if found.get(name) != kind
        ]
    if differences:
        more = len(differences) - NAMES_SHOWN
        shown = "; ".join(differences[:NAMES_SHOWN]) + (f"; and {more} more" if more > 0 else "")
        raise AnotherHost(differences=shown)


def _fossils(model: nn.Module) -> list[str]:
    container = model._modules.get(fossils.ROOT_NAME)
    return [] if container is None else list(container._modules)


# One slot


def _slot_values(slot: SeedSlot) -> dict[str, Any]:
    hook = slot.hook
    seed = None if slot.seed is None else {"gradients": module_values(slot.seed)["gradients"]}
    return {
        "slot": _attributes(slot, SLOT_VALUES),
        "log": _attributes(slot.log, LOG_VALUES),
        "hook": _attributes(hook, HOOK_VALUES),
        "stream": vars(hook.stream),
        "seed": seed,
        "snapshot": None
        if slot.snapshot is None
        else {"optimizers": len(slot.snapshot.optimizers), "values": slot.snapshot.state_dict()},
        "control": None if slot.control is None else _control_values(slot.control),
    }


def _restore_slot(slot: SeedSlot, bank: MorphogeneticModel, values: Mapping[str, Any]) -> None:
    device = slot.probe.device
    _set_attributes(slot, values["slot"], device)
    _set_attributes(slot.log, values["log"], device)
    _set_attributes(slot.hook, values["hook"], device)
    slot.hook.set_alpha(slot.hook.level)
    _restore_stream(slot.hook.stream, values["stream"])
    if slot.seed is not None:
        for name, parameter in slot.seed.named_parameters():
            gradient = values["seed"]["gradients"].get(name)
            parameter.grad = None if gradient is None else gradient.to(parameter.device)
    slot.snapshot = slot.control = None
    ground, saved = bank.ground, values["snapshot"]
    if saved is not None:
        assert slot.seed is not None and ground.optimizer is not None
        own = [slot.optimizer.optimizer] if slot.optimizer is not None else []
        optimizers = [ground.optimizer, *own][: saved["optimizers"]]
        slot.snapshot = Snapshot([ground.model, slot.seed], optimizers)
        slot.snapshot.load_state_dict(saved["values"])
    if values["control"] is not None and ground.trial is not None:
        slot.control = _restored_control(slot, bank, values["control"])


def _control_values(control: Control) -> dict[str, Any]:
    return {
        "model": module_values(control.model),
        "optimizer": control.optimizer.state_dict(),
        "stream": vars(control.stream),
        "start_loss": control.start_loss,
        "accumulated": control.accumulated,
        "passes": control.passes,
        "steps": control.steps,
        "averages": [control.grown_average.values, control.average.values],
    }


def _restored_control(slot: SeedSlot, bank: MorphogeneticModel, values: Mapping[str, Any]) -> Control:
    """The control of the seed in `slot`: a copy of the host without it, given the saved control's values."""
    ground, hook = bank.ground, slot.hook
    assert ground.optimizer is not None and ground.trial is not None
    phase, hook.phase = hook.phase, Phase.IDLE
    try:
        start_loss = values["start_loss"]
        control = Control(ground.model, ground.optimizer, ground.trial, slot.seed, start_loss=start_loss)
    finally:
        hook.phase = phase
    load_module_values(control.model, values["model"])
    control.optimizer.load_state_dict(values["optimizer"])
    _restore_stream(control.stream, values["stream"])
    control.accumulated = values["accumulated"]
    control.passes, control.steps = values["passes"], values["steps"]
    for average, saved in zip((control.grown_average, control.average), values["averages"], strict=True):
        average.values = {name: value.to(slot.probe.device) for name, value in saved.items()}
    return control


# Attributes, streams, generators


def _attributes(part: object, names: Sequence[str]) -> dict[str, Any]:
    return {name: getattr(part, name) for name in names}


def _set_attributes(part: object, values: Mapping[str, Any], device: torch.device) -> None:
    for name, value in values.items():
        setattr(part, name, _moved(value, device))


def _moved(value: Any, device: torch.device) -> Any:
    """`value` with every tensor in it on `device`."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, deque):
        return deque((_moved(entry, device) for entry in value), value.maxlen)
    if type(value) in (list, tuple):
        return type(value)(_moved(entry, device) for entry in value)
    return value


def _restore_stream(stream: RandomStream, values: Mapping[str, Any]) -> None:
    vars(stream).update(values)


def generator_values() -> dict[str, Any]:
    """The states of Python's, NumPy's and torch's global generators, those of all CUDA devices in use too."""
    cuda: Sequence[Tensor] = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else ()
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "torch": torch.get_rng_state(),
        "cuda": list(cuda),
    }


def restore_generators(values: Mapping[str, Any]) -> None:
    """Sets what `generator_values` read; of CUDA devices those that are here."""
    random.setstate(values["python"])
    np.random.set_state(values["numpy"])
    torch.set_rng_state(values["torch"])
    for index, state in enumerate(values["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(state, index)
