"""Seeds saved without their host come back into the same host, and into no other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

import esper
from esper.files import FileUnwritable
from esper.kasmina.checkpoints.file import digest_of
from esper.kasmina.checkpoints.seeds_file import load_seeds, save_seeds
from esper.kasmina.checkpoints.topology import describe, seed_weights
from esper.kasmina.errors import (
    AnotherHost,
    MalformedTopology,
    NotAttached,
    SeedsUnreadable,
    SeedWithoutGraph,
    SlotTaken,
)
from esper.kasmina.lifecycle.bank import slots
from esper.leyline.stages import SeedStage
from tests.kasmina.checkpoints.test_topology import EXAMPLE, LIVING, grown
from tests.kasmina.networks import conv_host, equal_states, residual


@pytest.mark.parametrize("stage", LIVING, ids=lambda stage: stage.name)
def test_seeds_come_back_as_they_were(stage: SeedStage, tmp_path: Path) -> None:
    model, path = grown(stage), tmp_path / "grown.safetensors"
    save_seeds(model, path)
    other = conv_host()
    assert load_seeds(other, path) is other
    assert describe(slots(other)) == describe(slots(model))
    assert equal_states(seed_weights(slots(other)), seed_weights(slots(model)))
    assert torch.equal(other.eval()(EXAMPLE), model.eval()(EXAMPLE))
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_the_file_is_plain_safetensors_with_graphs_in_its_metadata(tmp_path: Path) -> None:
    model, path = grown(SeedStage.BLENDING), tmp_path / "grown.safetensors"
    save_seeds(model, path)
    with safe_open(path, framework="pt") as file:
        names, topology = set(file.keys()), json.loads(file.metadata()["topology"])
    assert names == set(seed_weights(slots(model)))
    assert not any(name in names for name in model.state_dict())
    seed = slots(model)["norm1"].seed
    assert seed is not None
    assert esper.BlueprintIR.from_json(json.dumps(topology["slots"][0]["ir"])).hash == seed.ir.hash  # type: ignore[union-attr]


def test_the_hosts_weights_and_the_seeds_together_are_the_grown_model(tmp_path: Path) -> None:
    model, path = grown(SeedStage.FOSSILIZED), tmp_path / "grown.safetensors"
    with torch.no_grad():
        model.get_parameter("head.weight").add_(1.0)
    save_seeds(model, path)
    other = load_seeds(conv_host(), path)
    other.load_state_dict(esper.host_state_dict(model))
    assert torch.equal(other.eval()(EXAMPLE), model.eval()(EXAMPLE))
    assert list(other.state_dict()) == list(model.state_dict())


def test_another_host_is_refused_with_names_and_shapes(tmp_path: Path) -> None:
    path = tmp_path / "grown.safetensors"
    save_seeds(grown(SeedStage.TRAINING), path)
    other = conv_host()
    other.head = nn.Linear(6, 5)
    with pytest.raises(AnotherHost, match=r"has `head.weight` \[5, 6\], where it is \[4, 6\]"):
        load_seeds(other, path)
    with pytest.raises(NotAttached):
        slots(other)


def test_a_slot_that_has_a_seed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "grown.safetensors"
    save_seeds(grown(SeedStage.TRAINING), path)
    model = grown(SeedStage.BLENDING)
    before = describe(slots(model))
    with pytest.raises(SlotTaken, match="`norm1` is BLENDING"):
        load_seeds(model, path)
    assert describe(slots(model)) == before


def test_what_cannot_be_saved_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "grown.safetensors"
    save_seeds(grown(SeedStage.TRAINING), path)
    before = path.read_bytes()
    model = esper.attach(conv_host(), "norm1", EXAMPLE)
    slots(model)["norm1"].plant(residual(), blueprint_id="residual")
    with pytest.raises(SeedWithoutGraph, match="`norm1`"):
        save_seeds(model, path)
    with pytest.raises(NotAttached):
        save_seeds(conv_host(), path)
    assert path.read_bytes() == before
    with pytest.raises(FileUnwritable):
        save_seeds(grown(SeedStage.TRAINING), tmp_path)


def test_a_damaged_file_is_refused_and_the_model_stays_as_it_was(tmp_path: Path) -> None:
    path, torn = tmp_path / "grown.safetensors", tmp_path / "torn.safetensors"
    save_seeds(grown(SeedStage.TRAINING), path)
    whole = path.read_bytes()
    for content, reason in [
        (whole[: len(whole) // 2], "no whole file of seeds"),
        (whole[:-1] + bytes([whole[-1] ^ 1]), "its digest is not that"),
        (b"", "no whole file of seeds"),
    ]:
        torn.write_bytes(content)
        model = conv_host()
        with pytest.raises(SeedsUnreadable, match=reason):
            load_seeds(model, torn)
        with pytest.raises(NotAttached):
            slots(model)
    with pytest.raises(SeedsUnreadable, match="there is no such file"):
        load_seeds(conv_host(), tmp_path / "absent.safetensors")


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({}, "it is another safetensors file"),
        ({"esper_seeds": "2"}, "its schema is 2, and this Esper reads 1"),
    ],
)
def test_another_file_is_refused(metadata: dict[str, str], reason: str, tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"x": torch.zeros(2)}, path, metadata)
    with pytest.raises(SeedsUnreadable, match=reason):
        load_seeds(conv_host(), path)


def test_a_record_that_a_stranger_wrote_is_checked_before_anything_is_built(tmp_path: Path) -> None:
    path, bank = tmp_path / "grown.safetensors", slots(grown(SeedStage.TRAINING))
    record: dict[str, Any] = describe(bank)
    record["slots"][0]["alpha"] = 7.0
    text = json.dumps(record)
    metadata = {"esper_seeds": "1", "topology": text, "digest": digest_of(text, seed_weights(bank))}
    save_file(seed_weights(bank), path, metadata)
    model = conv_host()
    with pytest.raises(MalformedTopology, match=r"`slots.0.alpha`"):
        load_seeds(model, path)
    with pytest.raises(NotAttached):
        slots(model)


def test_saving_and_loading_draw_no_random_number(tmp_path: Path) -> None:
    model, path = grown(SeedStage.BLENDING), tmp_path / "grown.safetensors"
    other = conv_host()
    state = torch.get_rng_state()
    save_seeds(model, path)
    load_seeds(other, path)
    assert torch.equal(state, torch.get_rng_state())
