"""An exported model computes what the grown one does, and bears no trace of how it grew."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from esper.kasmina.attach import attach
from esper.kasmina.errors import LiveSeeds
from esper.kasmina.exports.export import Grown, export
from esper.kasmina.lifecycle import fossils
from esper.kasmina.lifecycle.bank import slots
from esper.kasmina.lifecycle.control import Comparison
from esper.kasmina.training.optimizer import GrowthOptimizer
from esper.leyline.stages import SeedStage
from tests.kasmina.networks import batches, conv_host, equal_states, fingerprint, residual

EXAMPLE = batches(1)[0][0]


def fossilize(model: nn.Module, name: str, seed: nn.Module) -> None:
    """Takes a seed to FOSSILIZED past the gates, with a comparison that says nothing."""
    optimizer = GrowthOptimizer(torch.optim.SGD(model.parameters(), lr=0.1))
    slot = slots(model)[name]
    slot.plant(seed, blueprint_id="planted")
    for stage in range(SeedStage.TRAINING, SeedStage.FOSSILIZED):
        slot._enter(SeedStage(stage), "put there by the test", None)
    slot.hook.set_alpha(1.0)
    slot.comparison = Comparison(0.1, 0.01, 1.0, 0.9, 1.0, 100)
    slot._enter(SeedStage.FOSSILIZED, "put there by the test", None)
    assert optimizer.steps == 0


def test_the_export_computes_the_same_without_slots_or_hooks() -> None:
    model = attach(conv_host(), ["norm1", "norm2"], EXAMPLE)
    seed = residual()
    with torch.no_grad():
        seed.get_parameter("outer.weight").add_(0.3)
    fossilize(model, "norm1", seed)
    slots(model)["norm2"].plant(residual(), blueprint_id="residual")
    plain = export(model)
    assert torch.equal(plain.eval()(EXAMPLE), model.eval()(EXAMPLE))
    assert all(not module._forward_hooks for module in plain.modules())
    assert not any("esper" in key for key in [*plain.__dict__, *plain._modules, *plain.state_dict()])
    assert isinstance(plain.get_submodule("norm1"), Grown)
    assert type(plain.get_submodule("norm2")) is nn.BatchNorm2d
    count = sum(p.numel() for p in plain.parameters())
    assert count == sum(p.numel() for p in model.parameters())


def test_the_export_is_a_copy() -> None:
    model = attach(conv_host(), "norm1", EXAMPLE)
    fossilize(model, "norm1", residual())
    before = fingerprint(model)
    with torch.no_grad():
        for parameter in export(model).parameters():
            parameter.zero_()
    assert equal_states(before, fingerprint(model))
    assert slots(model)["norm1"].stage is SeedStage.FOSSILIZED


def test_a_compiled_seed_is_exported_too() -> None:
    model = attach(conv_host(), "norm1", EXAMPLE)
    slot = slots(model)["norm1"]
    GrowthOptimizer(torch.optim.SGD(model.parameters(), lr=0.1))
    seed = slot.germinate("conv_enhance")
    for stage in range(SeedStage.TRAINING, SeedStage.FOSSILIZED):
        slot._enter(SeedStage(stage), "put there by the test", None)
    slot.hook.set_alpha(1.0)
    with torch.no_grad():
        for parameter in seed.parameters():
            parameter.add_(0.1)
    slot.comparison = Comparison(0.1, 0.01, 1.0, 0.9, 1.0, 100)
    slot._enter(SeedStage.FOSSILIZED, "put there by the test", None)
    assert torch.equal(export(model).eval()(EXAMPLE), model.eval()(EXAMPLE))


def test_an_undecided_seed_is_not_exported() -> None:
    model = attach(conv_host(), "norm1", EXAMPLE)
    GrowthOptimizer(torch.optim.SGD(model.parameters(), lr=0.1))
    slot = slots(model)["norm1"]
    slot.plant(residual(), blueprint_id="residual")
    slot.advance()
    slot._enter(SeedStage.BLENDING, "put there by the test", None)
    with pytest.raises(LiveSeeds, match="`norm1`"):
        export(model)


def test_a_seed_under_a_sequential_root_runs_at_its_slot_alone() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(inplace=True), nn.Linear(6, 2))
    x = torch.randn(5, 4)
    attach(model, "0", x)
    seed = nn.Sequential(nn.Linear(6, 6), nn.Tanh())
    fossilize(model, "0", seed)

    def expected(x: Tensor) -> Tensor:
        linear, act, head = list(model)[:3]
        hidden = nn.functional.linear(x, linear.get_parameter("weight"), linear.get_parameter("bias"))
        result: Tensor = head(act(seed(hidden)))
        return result

    assert torch.equal(model(x), expected(x))
    assert fossils.ROOT_NAME in model._modules
    assert torch.equal(export(model)(x), expected(x))
