"""Puts slots into an unmodified host, and takes them out again.

Attaching changes nothing that the host computes: it installs one forward hook a slot, after one probe
whose traces in buffers, training flags and random generators are undone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any, TypeVar

import torch
from torch import nn

from esper.errors import require_kind
from esper.kasmina.errors import (
    AlreadyAttached,
    BadPattern,
    LiveSeeds,
    NoSlotNamed,
    UnknownChoice,
    UnknownSlot,
)
from esper.kasmina.host.hook import SlotHook
from esper.kasmina.host.names import SLOT_NAME, check_name
from esper.kasmina.host.probe import Probe
from esper.kasmina.host.refusals import check_host
from esper.kasmina.host.survey import survey
from esper.kasmina.lifecycle import fossils
from esper.kasmina.lifecycle.bank import ATTRIBUTE, MorphogeneticModel, slots
from esper.kasmina.lifecycle.ground import Ground
from esper.kasmina.lifecycle.slot import SeedSlot
from esper.leyline.stages import IN_PLACE_STAGES

INCUBATIONS = ("straight_through", "counterfactual", "none")

Host = TypeVar("Host", bound=nn.Module)


def attach(
    model: Host,
    slots: str | Sequence[str],
    example: Any,
    *,
    output: int | str | None = None,
    incubation: str = "straight_through",
) -> Host:
    """Gives `model` a slot at each module that `slots` names, and returns it.

    slots: a module's name, a regular expression that matches whole names, or a list of either.
    example: one batch: a tensor, a tuple of arguments, or a mapping of keyword arguments.
    output: which part of a module's output the slot acts on, where that is a tuple or a mapping.
    incubation: how a seed trains before it is in place: on the host's own gradient (`straight_through`,
    about 1.1 times a plain step), on a second pass with the seed in place (`counterfactual`, about 1.8
    times), or not at all (`none`). In a frozen host choose `counterfactual`: the host's own gradient says in
    which direction to go and never how far, since nothing there moves to answer the seed.

    A module that runs several times in a pass, or has several names, gets one slot: its seed acts in every
    call, as a part of the module would, and has to fit each.

    Raises NoSlotNamed, UnknownSlot, ExampleFails, SlotNeverRuns, UnsuitableOutput, SlotsShareTensor,
    AlreadyAttached, CompiledHost, ScriptedHost, WrappedHost, ShardedHost, QuantizedHost, UninitializedHost,
    UnknownChoice, BadPattern, WrongArgument.
    """
    require_kind("model", model, nn.Module, "a torch.nn.Module")
    if ATTRIBUTE in model.__dict__:
        raise AlreadyAttached(slots=", ".join(model.__dict__[ATTRIBUTE]))
    if incubation not in INCUBATIONS:
        raise UnknownChoice(what="incubation", name=incubation, known=", ".join(INCUBATIONS))
    check_host(model)
    if not slots:
        raise NoSlotNamed()
    require_kind("slots", slots, Sequence, "a module's name, a regular expression, or a list of either")
    chosen = _matching(model, [slots] if isinstance(slots, str) else list(slots))
    probes = survey(model, chosen, example, output)
    install(
        model,
        probes,
        outputs=dict.fromkeys(probes, output),
        incubations=dict.fromkeys(probes, incubation),
        random_seed=torch.initial_seed(),
    )
    return model


def install(
    model: nn.Module,
    probes: Mapping[str, Probe],
    *,
    outputs: Mapping[str, int | str | None],
    incubations: Mapping[str, str],
    random_seed: int,
) -> MorphogeneticModel:
    """Puts a hook and an empty slot at each module that `probes` names, whatever ran there before."""
    modules = dict(model.named_modules(remove_duplicate=False))
    ground = Ground(model, random_seed=random_seed)
    made, handles = {}, {}
    for index, (name, probe) in enumerate(probes.items()):
        hook = SlotHook(outputs[name], random_seed + index)
        hook.alpha = hook.alpha.to(probe.device)
        made[name] = SeedSlot(name, modules[name], hook, probe, ground, incubations[name])
        handles[name] = modules[name].register_forward_hook(hook)
    for slot in made.values():
        slot.open()
    bank = MorphogeneticModel(ground, made, handles)
    model.__dict__[ATTRIBUTE] = bank
    return bank


def detach(model: Host, *, force: bool = False) -> Host:
    """Takes the slots out and returns `model` as before `attach`, with the weights it has since learned.

    Raises LiveSeeds while a seed is in place or fossilized, unless `force`, which drops such seeds.
    """
    bank = slots(model)
    live = bank.in_stages(IN_PLACE_STAGES)
    if live and not force:
        way_out = "export the model to keep them, or detach(model, force=True) to drop them"
        raise LiveSeeds(slots=", ".join(f"`{slot.name}`" for slot in live), way_out=way_out)
    bank.remove_hooks()
    del model.__dict__[ATTRIBUTE]
    fossils.remove(model)
    return model


@contextmanager
def disabled(model: nn.Module, name: str) -> Iterator[None]:
    """Inside, `model` computes what it would without the seed of slot `name`."""
    hook = slots(model)[name].hook
    before, hook.is_disabled = hook.is_disabled, True
    try:
        yield
    finally:
        hook.is_disabled = before


def host_state_dict(model: nn.Module) -> dict[str, Any]:
    """The host's own part of `model.state_dict()`, without fossilized seeds."""
    return fossils.without_fossils(model.state_dict())


def _matching(model: nn.Module, patterns: Sequence[str]) -> dict[str, nn.Module]:
    """The modules that the patterns name, in the model's order, each once: by the first name that matches."""
    modules = {name: module for name, module in model.named_modules(remove_duplicate=False) if name}
    wanted: set[str] = set()
    listed = ", ".join(list(modules)[:12]) + (", ..." if len(modules) > 12 else "")
    for pattern in patterns:
        require_kind("slots", pattern, str, "a list of names and regular expressions")
        found = {pattern} if pattern in modules else _full_matches(pattern, modules, listed)
        if not found:
            close = get_close_matches(pattern, modules, n=1)
            suggestion = f"did you mean `{close[0]}`?" if close else f"its modules are {listed}"
            raise UnknownSlot(kind="module", name=pattern, suggestion=suggestion)
        wanted |= found
    chosen: dict[int, str] = {}
    for name, module in modules.items():
        if name in wanted:
            check_name("slots", name, SLOT_NAME)
            chosen.setdefault(id(module), name)
    return {name: modules[name] for name in chosen.values()}


def _full_matches(pattern: str, names: Mapping[str, nn.Module], listed: str) -> set[str]:
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise BadPattern(pattern=pattern, reason=error, modules=listed) from None
    return {name for name in names if expression.fullmatch(name)}
