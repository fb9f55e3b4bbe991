"""What grew where: a record of a host's slots that files can carry, and how to put the seeds back from it.

The record is data alone: each seed is its graph, never code. Weights stand beside it as named tensors. A host
is known by the names and shapes of its own parameters and buffers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor, nn

from esper.errors import require_kind
from esper.ir.graph import BlueprintIR
from esper.kasmina.attach import install
from esper.kasmina.errors import AnotherHost, MalformedTopology, SeedWithoutGraph, SlotTaken, WeightsDiffer
from esper.kasmina.host.dependence import SecondAxis
from esper.kasmina.host.layout import Layout
from esper.kasmina.host.names import BLUEPRINT_NAME, SLOT_NAME
from esper.kasmina.host.probe import Probe
from esper.kasmina.lifecycle import fossils
from esper.kasmina.lifecycle.bank import ATTRIBUTE, MorphogeneticModel, slots
from esper.kasmina.lifecycle.germination import DTYPES
from esper.kasmina.lifecycle.slot import SeedSlot
from esper.leyline.stages import SeedStage
from esper.urza.run.seed import CompiledSeed

SCHEMA = 1
NAMES_SHOWN = 4

SlotName = Annotated[str, Field(pattern=f"^{SLOT_NAME}$")]
BlueprintName = Annotated[str, Field(pattern=f"^{BLUEPRINT_NAME}$")]
Incubation = Literal["none", "straight_through", "counterfactual"]
_DTYPE_NAMES = {str(dtype).removeprefix("torch."): dtype for dtype in DTYPES}


class SlotRecord(BaseModel):
    """One slot. `shape` to `second_axis` are what `Probe` knows of its tensor."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: SlotName
    output: int | str | None
    incubation: Incubation
    shape: list[int]
    dtype: Literal["float16", "bfloat16", "float32", "float64"]
    calls: int = Field(ge=1)
    others: list[list[int]]
    layout: Layout | None
    second_axis: SecondAxis | None
    stage: str
    alpha: float = Field(ge=0.0, le=1.0)
    mode: Literal["lerp", "add"]
    blueprint_id: BlueprintName | None
    seed_id: SlotName | None
    params: int = Field(ge=0)
    ir: dict[str, Any] | None
    """The seed's graph in its JSON form."""
    counters: dict[str, int]
    """`planted`: seeds that this slot has had; the others are the present seed's."""
    loss_before: float | None
    culled_blueprints: list[BlueprintName]


class Topology(BaseModel):
    """The slots of one host. `host` maps its own parameters and buffers to their shapes."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    schema_version: int = SCHEMA
    random_seed: int
    host: dict[str, list[int]]
    slots: list[SlotRecord]


def describe(bank: MorphogeneticModel) -> dict[str, Any]:
    """The record of `bank`, of JSON types alone; what `rebuild` takes.

    Raises SeedWithoutGraph for a seed that was planted as a module of the caller's own.
    """
    records = [_describe_slot(slot) for slot in bank.values()]
    topology = Topology(random_seed=bank.ground.random_seed, host=host_shapes(bank.model), slots=records)
    return topology.model_dump(mode="json")


def _describe_slot(slot: SeedSlot) -> SlotRecord:
    seed = slot.seed
    if seed is not None and not isinstance(seed, CompiledSeed):
        raise SeedWithoutGraph(slot=slot.name, kind=type(seed).__name__)
    return SlotRecord(
        name=slot.name,
        output=slot.hook.output,
        incubation=slot.incubation,  # type: ignore[arg-type]
        shape=list(slot.probe.shape),
        dtype=str(slot.probe.dtype).removeprefix("torch."),  # type: ignore[arg-type]
        calls=slot.probe.calls,
        others=[list(shape) for shape in slot.probe.others],
        layout=slot.probe.layout,
        second_axis=slot.probe.second_axis,
        stage=slot.stage.name,
        alpha=slot.alpha,
        mode=slot.hook.mode,  # type: ignore[arg-type]
        blueprint_id=slot.blueprint_id,
        seed_id=slot.seed_id,
        params=slot.params,
        ir=_graph(seed),
        counters=slot.counters,
        loss_before=slot.loss_before,
        culled_blueprints=list(slot.culled_blueprints),
    )


def rebuild(
    model: nn.Module,
    record: Mapping[str, Any],
    weights: Mapping[str, Tensor] | None = None,
    *,
    replaces: bool = False,
) -> MorphogeneticModel:
    """Puts the slots and seeds of a record of `describe` into `model`.

    weights: those of `seed_weights`; without them, they are yet to be loaded.

    A model without slots gets those of the record; one that has slots must have them all, each DORMANT,
    unless the record `replaces` the seeds in them, whatever their stage, without taking the host back. A
    seed stands in its stage with its alpha, but a snapshot and a control belong to the run it came from:
    until they are given back, culling a seed in place does not take the host back, and the last gate
    refuses it.
    Raises MalformedTopology, AnotherHost, UnknownSlot, SlotTaken, WeightsDiffer, and what reading a graph
    raises; `model` is then as it was.
    """
    topology = read_topology(record)
    _check_host(model, topology)
    seeds: dict[str, nn.Module] = {
        entry.name: _seed_of(entry) for entry in topology.slots if entry.ir is not None
    }
    if weights is not None:
        _fill(seeds, weights)
    if ATTRIBUTE in model.__dict__:
        bank = slots(model)
        for slot in [bank[entry.name] for entry in topology.slots]:
            if slot.stage is not SeedStage.DORMANT and not replaces:
                raise SlotTaken(slot=slot.name, stage=slot.stage.name)
        for entry in topology.slots:
            bank[entry.name].vacate()
    else:
        bank = _attached(model, topology)
    bank.ground.random_seed = topology.random_seed
    for entry in topology.slots:
        slot = bank[entry.name]
        slot.hook.mode = entry.mode
        slot.culled_blueprints = tuple(entry.culled_blueprints)
        slot.resume(
            seeds.get(entry.name),
            SeedStage[entry.stage],
            entry.alpha,
            entry.counters,
            blueprint_id=entry.blueprint_id,
            seed_id=entry.seed_id,
            loss_before=entry.loss_before,
        )
    return bank


def stands(bank: MorphogeneticModel, record: Mapping[str, Any]) -> bool:
    """Whether every slot of the record is there, in its stage and with its seed."""
    return all(
        entry.name in bank
        and (bank[entry.name].stage.name, bank[entry.name].seed_id) == (entry.stage, entry.seed_id)
        and _graph(bank[entry.name].seed) == entry.ir
        for entry in read_topology(record).slots
    )


def _graph(seed: nn.Module | None) -> dict[str, Any] | None:
    found: dict[str, Any] | None = json.loads(seed.ir.to_json()) if isinstance(seed, CompiledSeed) else None
    return found


def read_topology(record: Mapping[str, Any]) -> Topology:
    """The checked form of a record. Raises MalformedTopology, which says where the record is wrong."""
    require_kind("record", record, Mapping, "what describe returns")
    found = record.get("schema_version")
    if found != SCHEMA:
        raise MalformedTopology(reason=f"its schema is {found!r}, and this Esper reads {SCHEMA}")
    try:
        topology = Topology.model_validate(dict(record))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise MalformedTopology(reason=f"`{place}`: {first['msg']}") from None
    for entry in topology.slots:
        if entry.stage not in SeedStage.__members__:
            raise MalformedTopology(reason=f"`{entry.name}` is in the unknown stage `{entry.stage}`")
    return topology


def host_shapes(model: nn.Module) -> dict[str, list[int]]:
    """The names and shapes of the host's own parameters and buffers, by which a file knows its host."""
    return {
        name: list(value.shape)
        for name, value in fossils.without_fossils(model.state_dict()).items()
        if isinstance(value, Tensor)
    }


def host_differences(expected: Mapping[str, list[int]], found: Mapping[str, list[int]]) -> list[str]:
    """What sets two hosts apart, a phrase for each parameter or buffer that differs."""
    phrases = []
    for name in sorted(expected.keys() | found.keys()):
        here, there = found.get(name), expected.get(name)
        if here is None:
            phrases.append(f"lacks `{name}` {there}")
        elif there is None:
            phrases.append(f"has `{name}` {here} besides")
        elif here != there:
            phrases.append(f"has `{name}` {here}, where it is {there}")
    return phrases


def _check_host(model: nn.Module, topology: Topology) -> None:
    differences = host_differences(topology.host, host_shapes(model))
    if differences:
        more = len(differences) - NAMES_SHOWN
        shown = "; ".join(differences[:NAMES_SHOWN]) + (f"; and {more} more" if more > 0 else "")
        raise AnotherHost(differences=shown)


def _seed_of(entry: SlotRecord) -> CompiledSeed:
    return CompiledSeed(BlueprintIR.from_json(json.dumps(entry.ir)), generator=torch.Generator())


def _attached(model: nn.Module, topology: Topology) -> MorphogeneticModel:
    modules = dict(model.named_modules(remove_duplicate=False))
    missing = [entry.name for entry in topology.slots if entry.name not in modules]
    if missing:
        raise AnotherHost(differences="; ".join(f"lacks the module `{name}`" for name in missing))
    made = {}
    for entry in topology.slots:
        module = modules[entry.name]
        device = next((p.device for p in (*module.parameters(), *model.parameters())), torch.device("cpu"))
        made[entry.name] = Probe(
            tuple(entry.shape),
            _DTYPE_NAMES[entry.dtype],
            device,
            calls=entry.calls,
            others=tuple(tuple(shape) for shape in entry.others),
            layout=entry.layout,
            second_axis=entry.second_axis,
        )
    return install(
        model,
        made,
        outputs={entry.name: entry.output for entry in topology.slots},
        incubations={entry.name: entry.incubation for entry in topology.slots},
        random_seed=topology.random_seed,
    )


def seed_weights(bank: MorphogeneticModel) -> dict[str, Tensor]:
    """Every seed's parameters and buffers, fossils included, as `slot/name`: detached, not copied."""
    return {name: value.detach() for name, value in _tensors(_seeds(bank)).items()}


def load_seed_weights(bank: MorphogeneticModel, weights: Mapping[str, Tensor]) -> None:
    """Gives the seeds of `bank` the values of `seed_weights`, in the dtypes these have.

    The seeds' tensors stay the same objects. Raises WeightsDiffer, and changes nothing, unless names and
    shapes are exactly the seeds'.
    """
    _fill(_seeds(bank), weights)


def _seeds(bank: MorphogeneticModel) -> dict[str, nn.Module]:
    return {slot.name: slot.seed for slot in bank.values() if slot.seed is not None}


def _tensors(seeds: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    return {
        f"{slot}/{name}": value
        for slot, seed in seeds.items()
        for name, value in seed.state_dict(keep_vars=True).items()
    }


@torch.no_grad()
def _fill(seeds: Mapping[str, nn.Module], weights: Mapping[str, Tensor]) -> None:
    own = _tensors(seeds)
    differences = host_differences(
        {name: list(value.shape) for name, value in own.items()},
        {name: list(value.shape) for name, value in weights.items()},
    )
    if differences:
        raise WeightsDiffer(differences="; ".join(differences[:NAMES_SHOWN]))
    for name, tensor in own.items():
        tensor.data = weights[name].to(tensor.device, copy=True)
