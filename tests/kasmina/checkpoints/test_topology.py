"""A record of slots and seeds is data, and a model built from it computes what the recorded one did."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import nn

from esper.errors import WrongArgument
from esper.kasmina.attach import attach
from esper.kasmina.checkpoints.topology import describe, load_seed_weights, rebuild, seed_weights
from esper.kasmina.errors import (
    AnotherHost,
    MalformedTopology,
    SeedWithoutGraph,
    SlotTaken,
    UnknownSlot,
    WeightsDiffer,
)
from esper.kasmina.host.hook import Phase
from esper.kasmina.lifecycle.bank import slots
from esper.kasmina.lifecycle.control import Comparison
from esper.kasmina.training.optimizer import GrowthOptimizer
from esper.leyline.stages import SeedStage
from tests.kasmina.networks import batches, conv_host, equal_states, fingerprint, loss_on, residual

EXAMPLE = batches(1)[0][0]
LIVING = [stage for stage in SeedStage if SeedStage.GERMINATED <= stage <= SeedStage.FOSSILIZED]


def grown(stage: SeedStage, alpha: float = 0.25) -> nn.Module:
    """A host whose first slot holds a seed in `stage`, weights moved, and whose second is empty."""
    model = attach(conv_host(), ["norm1", "norm2"], EXAMPLE)
    GrowthOptimizer(torch.optim.SGD(model.parameters(), lr=0.1))
    slot = slots(model)["norm1"]
    seed = slot.germinate("conv_enhance")
    for target in range(SeedStage.TRAINING, stage + 1):
        slot.comparison = Comparison(0.1, 0.01, 1.0, 0.9, 1.0, 100)
        slot._enter(SeedStage(target), "put there by the test", None)
    if stage >= SeedStage.BLENDING:
        slot.hook.set_alpha(1.0 if stage > SeedStage.BLENDING else alpha)
    with torch.no_grad():
        for parameter in seed.parameters():
            parameter.add_(0.1)
    return model


def through_json(record: Any) -> Any:
    return json.loads(json.dumps(record, allow_nan=False))


@pytest.mark.parametrize("stage", LIVING, ids=lambda stage: stage.name)
@pytest.mark.parametrize("attached", [False, True], ids=["bare", "attached"])
def test_a_rebuilt_model_computes_the_same_in_every_stage(stage: SeedStage, attached: bool) -> None:
    model = grown(stage)
    bank = slots(model)
    record, weights = through_json(describe(bank)), seed_weights(bank)
    other = conv_host()
    if attached:
        attach(other, ["norm1", "norm2"], EXAMPLE)
    twin = rebuild(other, record)
    load_seed_weights(twin, weights)
    assert describe(twin) == describe(bank)
    assert equal_states(seed_weights(twin), weights)
    assert torch.equal(other.eval()(EXAMPLE), model.eval()(EXAMPLE))
    if stage is not SeedStage.FOSSILIZED:
        assert list(other.state_dict()) == list(conv_host().state_dict())
        slots(other)["norm1"].cull("by the test")
        assert torch.equal(other(EXAMPLE), conv_host().eval()(EXAMPLE))


def test_a_seed_put_back_into_training_goes_on_learning() -> None:
    model = grown(SeedStage.TRAINING)
    other = conv_host()
    bank = rebuild(other, describe(slots(model)))
    load_seed_weights(bank, seed_weights(slots(model)))
    assert bank["norm1"].hook.phase is Phase.LISTENING
    before = {name: value.clone() for name, value in seed_weights(bank).items()}
    optimizer = GrowthOptimizer(torch.optim.SGD(other.parameters(), lr=0.1))
    for batch in batches(2):
        optimizer.zero_grad()
        torch.autograd.backward(loss_on(other, batch))
        optimizer.step()
    assert bank["norm1"].age_steps == slots(model)["norm1"].age_steps + 2
    assert not equal_states(before, seed_weights(bank))


def test_fossils_join_an_optimizer_that_is_made_afterwards() -> None:
    model = grown(SeedStage.FOSSILIZED)
    other = conv_host()
    bank = rebuild(other, describe(slots(model)))
    seed = bank["norm1"].seed
    assert seed is not None
    held = {id(p) for p in other.parameters()}
    assert all(id(p) in held for p in seed.parameters())


def test_weights_keep_the_dtype_that_they_were_written_in() -> None:
    model = grown(SeedStage.BLENDING).double().eval()
    model(EXAMPLE.double())
    other = conv_host().double().eval()
    bank = rebuild(other, describe(slots(model)))
    load_seed_weights(bank, seed_weights(slots(model)))
    assert torch.equal(other(EXAMPLE.double()), model(EXAMPLE.double()))


def test_another_host_is_refused_with_names_and_shapes() -> None:
    record = describe(slots(grown(SeedStage.TRAINING)))
    other = conv_host()
    other.head = nn.Linear(6, 5)
    other.extra = nn.Linear(1, 1, bias=False)
    with pytest.raises(AnotherHost) as raised:
        rebuild(other, record)
    text = str(raised.value)
    assert "has `head.weight` [5, 6], where it is [4, 6]" in text
    assert "has `extra.weight` [1, 1] besides" in text
    assert not hasattr(other, "_esper_slots")


def test_a_model_without_the_slot_or_with_a_seed_in_it_is_refused() -> None:
    record = describe(slots(grown(SeedStage.TRAINING)))
    with pytest.raises(UnknownSlot, match="`norm1`"):
        rebuild(attach(conv_host(), "norm2", EXAMPLE), record)
    with pytest.raises(SlotTaken, match="`norm1` is TRAINING"):
        rebuild(grown(SeedStage.TRAINING), record)


def test_a_module_of_ones_own_has_no_record() -> None:
    model = attach(conv_host(), "norm1", EXAMPLE)
    slots(model)["norm1"].plant(residual(), blueprint_id="residual")
    with pytest.raises(SeedWithoutGraph, match="`norm1` is a Residual"):
        describe(slots(model))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"schema_version": 2}, "its schema is 2, and this Esper reads 1"),
        ({"random_seed": "7"}, "`random_seed`"),
        ({"slots": [{}]}, "`slots.0.name`"),
        ({"code": "print()"}, "`code`"),
    ],
)
def test_a_record_that_is_not_one_says_where(change: dict[str, Any], reason: str) -> None:
    record = describe(slots(grown(SeedStage.TRAINING))) | change
    with pytest.raises(MalformedTopology, match=reason):
        rebuild(conv_host(), record)


def test_an_unknown_stage_is_refused() -> None:
    record = describe(slots(grown(SeedStage.TRAINING)))
    record["slots"][0]["stage"] = "SLEEPING"
    with pytest.raises(MalformedTopology, match="`norm1` is in the unknown stage `SLEEPING`"):
        rebuild(conv_host(), record)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("blueprint_id", 'x"""\nimport os\nX = r"""'),
        ("blueprint_id", "norm\n"),
        ("blueprint_id", ""),
        ("seed_id", "norm1-1\r# coding: utf-7"),
        ("name", "norm1\x00"),
        ("mode", "mul"),
        ("culled_blueprints", ["a\nb"]),
    ],
)
def test_a_record_holds_names_of_one_line_and_known_modes(key: str, value: Any) -> None:
    record = describe(slots(grown(SeedStage.TRAINING)))
    record["slots"][0][key] = value
    with pytest.raises(MalformedTopology, match=f"slots.0.{key}"):
        rebuild(conv_host(), record)


def test_what_is_planted_and_where_has_a_name_that_a_record_can_hold() -> None:
    model = attach(conv_host(), "norm1", EXAMPLE)
    with pytest.raises(WrongArgument, match="`blueprint_id` is"):
        slots(model)["norm1"].plant(residual(), blueprint_id='a"b')
    host = conv_host()
    host.add_module("line\nbreak", nn.ReLU())
    with pytest.raises(WrongArgument, match="`slots` is 'line"):
        attach(host, "line\nbreak", EXAMPLE)


def test_weights_of_other_names_or_shapes_change_nothing() -> None:
    bank = slots(grown(SeedStage.TRAINING))
    before = fingerprint(bank["norm1"].hook)
    weights = {name: torch.zeros(2) for name in seed_weights(bank)}
    with pytest.raises(WeightsDiffer, match=r"norm1/.* \[2\], where it is"):
        load_seed_weights(bank, weights)
    with pytest.raises(WeightsDiffer, match="lacks"):
        load_seed_weights(bank, {})
    assert equal_states(before, fingerprint(bank["norm1"].hook))
