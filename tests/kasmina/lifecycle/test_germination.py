"""A blueprint germinated in a slot is compiled for the slot's tensor, away from the host's randomness."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import esper.lang
from esper.errors import EsperError
from esper.kasmina.attach import attach
from esper.kasmina.errors import SeedDoesNotFit
from esper.kasmina.lifecycle.bank import slots
from esper.kasmina.training.optimizer import GrowthOptimizer
from esper.leyline.events import SeedGerminated
from esper.leyline.protocols import BlueprintProtocol
from esper.leyline.stages import SeedStage
from esper.urza.run.seed import CompiledSeed
from tests.kasmina.networks import Recorder, batches, conv_host, equal_states, fingerprint, loss_on

EXAMPLE = batches(1)[0][0]

LAYOUTS = {
    "maps": (nn.Conv2d(3, 6, 1), torch.zeros(2, 3, 8, 8), ["conv_enhance", "depthwise"]),
    "signals": (nn.Conv1d(3, 6, 1), torch.zeros(2, 3, 20), ["conv_enhance", "depthwise"]),
    "tokens": (nn.Linear(3, 8), torch.zeros(2, 5, 3), ["mlp_block", "norm", "attention"]),
    "features": (nn.Linear(3, 8), torch.zeros(4, 3), ["mlp_block", "norm"]),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_slots_tensor_gives_the_blueprint_its_size(layout: str) -> None:
    module, example, blueprints = LAYOUTS[layout]
    for blueprint in blueprints:
        model = attach(nn.Sequential(module, nn.Identity()), "0", example)
        slot = slots(model)["0"]
        seed = slot.germinate(blueprint)
        assert slot.stage is SeedStage.GERMINATED
        assert slot.seed is seed
        assert slot.blueprint_id == blueprint
        assert seed(torch.zeros(slot.probe.shape)).shape == slot.probe.shape
        assert slot.params == seed.ir.parameters
        assert isinstance(seed.ir, BlueprintProtocol)
        slot.advance()
        assert slot.stage.name == "TRAINING"
        module._forward_hooks.clear()


def test_given_parameters_come_before_what_the_slot_offers() -> None:
    model = attach(conv_host(), "norm1", EXAMPLE)
    slots(model).ground.output = output = Recorder()
    slot = slots(model)["norm1"]
    wide = slot.germinate("conv_enhance", expand=4)
    narrow = CompiledSeed(esper.lang.lower("conv_enhance", channels=6))
    assert slot.params > 3 * sum(p.numel() for p in narrow.parameters())
    assert wide is slot.seed
    (event,) = [event for event in output.events if isinstance(event, SeedGerminated)]
    assert event.blueprint_params == {"channels": 6, "expand": 4}
    assert event.params == slot.params


def test_a_graph_can_be_germinated_as_it_is() -> None:
    model = attach(conv_host(), "norm1", EXAMPLE)
    ir = esper.lang.lower("depthwise", channels=6)
    assert slots(model)["norm1"].germinate(ir).ir is ir
    slots(model)["norm1"].cull("again")
    other = attach(conv_host(), "norm1", EXAMPLE)
    with pytest.raises(SeedDoesNotFit, match="`channels` cannot be given"):
        slots(other)["norm1"].germinate(ir, channels=6)


@pytest.mark.parametrize(
    ("blueprint", "params"),
    [("attention", {}), ("conv_enhance", {"channels": 7}), ("no_such", {}), ("conv_enhance", {"kernels": 3})],
)
def test_a_blueprint_that_does_not_fit_is_refused_and_leaves_the_slot_dormant(
    blueprint: str, params: dict[str, int]
) -> None:
    model = attach(conv_host(), "norm1", EXAMPLE)
    slot = slots(model)["norm1"]
    with pytest.raises(EsperError):
        slot.germinate(blueprint, **params)
    assert (slot.stage, slot.seed, slot.history) == (SeedStage.DORMANT, None, ())


def test_germination_draws_nothing_from_the_host_and_repeats_itself() -> None:
    seeds = []
    for _ in range(2):
        model = attach(conv_host(), ["norm1", "norm2"], EXAMPLE)
        random = torch.get_rng_state()
        seeds.append([fingerprint(slot.germinate("conv_enhance")) for slot in slots(model).values()])
        assert torch.equal(random, torch.get_rng_state())
        torch.rand(3)
    assert equal_states(seeds[0][0], seeds[1][0])
    assert equal_states(seeds[0][1], seeds[1][1])
    assert not equal_states(seeds[0][0], seeds[0][1])


@pytest.mark.parametrize("incubation", ["straight_through", "none"])
def test_a_compiled_seed_in_training_leaves_the_host_bit_equal(incubation: str) -> None:
    def run(blueprint: str | None) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        model = conv_host()
        if blueprint is not None:
            attach(model, "norm1", EXAMPLE, incubation=incubation)
        optimizer = GrowthOptimizer(torch.optim.AdamW(model.parameters(), lr=0.01))
        if blueprint is not None:
            slot = slots(model)["norm1"]
            slot.germinate(blueprint)
            slot.advance()
        for batch in batches(50):
            optimizer.zero_grad()
            torch.autograd.backward(loss_on(model, batch))
            optimizer.step()
        return fingerprint(model), torch.get_rng_state()

    alone, random = run(None)
    for blueprint in ("conv_enhance", "depthwise"):
        grown, random_then = run(blueprint)
        assert equal_states(alone, grown)
        assert torch.equal(random, random_then)


def test_a_deep_copy_of_the_host_copies_a_compiled_seed() -> None:
    model = attach(conv_host(), "norm1", EXAMPLE)
    slots(model)["norm1"].germinate("conv_enhance")
    own = slots(copy.deepcopy(model))["norm1"].seed
    assert isinstance(own, CompiledSeed)
    assert own is not slots(model)["norm1"].seed
