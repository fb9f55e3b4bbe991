"""Attaching changes nothing a host computes or stores; detaching gives it back; bad names get a way out."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from esper.errors import WrongArgument
from esper.kasmina.attach import attach, detach, disabled, host_state_dict
from esper.kasmina.errors import (
    AlreadyAttached,
    BadPattern,
    CompiledHost,
    ExampleFails,
    LiveSeeds,
    NoSlotNamed,
    NotAttached,
    SeedDoesNotFit,
    SlotNeverRuns,
    UnknownChoice,
    UnknownSlot,
    UnsuitableOutput,
)
from esper.kasmina.lifecycle import fossils
from esper.kasmina.lifecycle.bank import slots
from esper.kasmina.training.optimizer import GrowthOptimizer
from esper.leyline.errors import InvalidTransition
from esper.leyline.stages import SeedStage
from tests.kasmina.networks import NoisyNaN, batches, conv_host, equal_states, fingerprint, loss_on, residual

EXAMPLE = batches(1)[0][0]


def in_place(model: nn.Module, name: str, alpha: float = 1.0) -> None:
    """Takes a residual seed into BLENDING, past the gate that asks for age."""
    GrowthOptimizer(torch.optim.SGD(model.parameters(), lr=0.1))
    slot = slots(model)[name]
    slot.plant(residual(), blueprint_id="residual")
    slot.advance()
    slot._enter(SeedStage.BLENDING, "put there by the test", None)
    slot.hook.set_alpha(alpha)


def test_attach_returns_the_same_object_with_a_slot_per_module() -> None:
    model = conv_host()
    assert attach(model, r"norm\d", EXAMPLE) is model
    assert list(slots(model)) == ["norm1", "norm2"]
    slot = slots(model)["norm1"]
    assert slot.stage is SeedStage.DORMANT
    assert slot.probe.shape == (8, 6, 8, 8)
    assert slot.probe.dtype is torch.float32


def test_probing_leaves_buffers_modes_and_random_numbers_alone() -> None:
    model = conv_host()
    model.norm2.eval()
    before, random = fingerprint(model), torch.get_rng_state()
    attach(model, "norm1", EXAMPLE)
    assert equal_states(before, fingerprint(model))
    assert torch.equal(random, torch.get_rng_state())
    assert (model.training, model.norm1.training, model.norm2.training) == (True, True, False)


def test_a_name_is_taken_before_a_pattern_and_patterns_match_whole_names() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4), nn.ReLU()))
    attach(model, "1.0", torch.zeros(2, 4))
    assert list(slots(model)) == ["1.0"]
    other = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4), nn.ReLU()))
    attach(other, ["0", r"1\..*"], torch.zeros(2, 4))
    assert list(slots(other)) == ["0", "1.0", "1.1"]


def test_an_unknown_slot_says_what_was_probably_meant() -> None:
    model = conv_host()
    with pytest.raises(UnknownSlot, match="`nrom1`") as raised:
        attach(model, "nrom1", EXAMPLE)
    assert "did you mean `norm1`" in raised.value.help_text
    assert not model._forward_hooks
    attach(model, "norm1", EXAMPLE)
    with pytest.raises(UnknownSlot) as raised:
        slots(model)["norm2"]
    assert "did you mean `norm1`" in raised.value.help_text


def test_a_pattern_that_is_no_regular_expression_says_why() -> None:
    with pytest.raises(BadPattern, match=r"`norm\[` is neither .* unterminated character set"):
        attach(conv_host(), "norm[", EXAMPLE)


@pytest.mark.parametrize("given", [3, [1]])
def test_slots_of_another_kind_are_refused(given: Any) -> None:
    with pytest.raises(WrongArgument, match="`slots` is of type int"):
        attach(conv_host(), given, EXAMPLE)


def test_a_model_that_is_no_module_is_refused() -> None:
    model: Any = "resnet"
    with pytest.raises(WrongArgument, match=r"`model` is of type str, expected a torch.nn.Module"):
        attach(model, "norm1", EXAMPLE)


@pytest.mark.parametrize("blueprint", [4, None])
def test_a_blueprint_of_another_kind_is_refused(blueprint: Any) -> None:
    model = attach(conv_host(), "norm1", EXAMPLE)
    with pytest.raises(WrongArgument, match="expected a path, or the name of a library blueprint"):
        slots(model)["norm1"].germinate(blueprint)


def test_a_module_that_never_runs_is_refused() -> None:
    model = conv_host()
    model.unused = nn.Linear(2, 2)
    with pytest.raises(SlotNeverRuns, match="`unused`"):
        attach(model, ["norm1", "unused"], EXAMPLE)
    with pytest.raises(NotAttached):
        slots(model)
    assert all(not module._forward_hooks for module in model.modules())


def test_an_unknown_incubation_and_a_second_attachment_are_refused() -> None:
    model = conv_host()
    with pytest.raises(UnknownChoice, match="incubation"):
        attach(model, "norm1", EXAMPLE, incubation="gradually")
    attach(model, "norm1", EXAMPLE)
    with pytest.raises(AlreadyAttached, match="norm1"):
        attach(model, "norm2", EXAMPLE)


def test_a_compiled_host_is_refused() -> None:
    model = conv_host()
    with pytest.raises(CompiledHost):
        attach(torch.compile(model, backend="eager"), "norm1", EXAMPLE)  # type: ignore[type-var]
    model.norm1.compile(backend="eager")
    with pytest.raises(CompiledHost, match="`norm1`"):
        attach(model, "norm2", EXAMPLE)


class Both(NamedTuple):
    features: Tensor
    scores: Tensor


class TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Both:
        return Both(self.inner(x), x.sum(-1))


class Outer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.heads = TwoHeads()

    def forward(self, *, x: Tensor) -> Tensor:
        both: Both = self.heads(x)
        return both.features + both.scores[:, None]


def test_output_selects_from_a_tuple_and_an_example_may_hold_keyword_arguments() -> None:
    model, x = Outer(), torch.randn(3, 4)
    with pytest.raises(UnsuitableOutput, match="a Both"):
        attach(model, "heads", {"x": x})
    with pytest.raises(UnsuitableOutput, match="without `2`"):
        attach(model, "heads", {"x": x}, output=2)
    attach(model, "heads", {"x": x}, output=0)
    plain = model(x=x)
    GrowthOptimizer(torch.optim.SGD(model.parameters(), lr=0.1))
    slot = slots(model)["heads"]
    slot.plant(nn.Sequential(nn.Linear(4, 4), nn.Tanh()), blueprint_id="tanh")
    slot.advance()
    slot._enter(SeedStage.BLENDING, "put there by the test", None)
    slot.hook.set_alpha(1.0)
    seed = slot.seed
    assert seed is not None
    both = TwoHeads.forward(model.heads, x)
    assert torch.equal(model(x=x), seed(both.features) + both.scores[:, None])
    with disabled(model, "heads"):
        assert torch.equal(model(x=x), plain)


def test_an_integer_output_is_refused() -> None:
    class Indices(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.argmax(-1)

    with pytest.raises(UnsuitableOutput, match=r"torch\.int64"):
        attach(nn.Sequential(Indices(), nn.Embedding(4, 2)), "0", torch.randn(3, 4))


def test_a_seed_that_does_not_fit_is_refused_and_the_slot_stays_dormant() -> None:
    model = attach(conv_host(), "norm1", EXAMPLE)
    slot = slots(model)["norm1"]
    for seed, reason in [
        (nn.Conv2d(6, 7, 1), r"it returns float32 \[8, 7, 8, 8\]"),
        (nn.Linear(5, 5), "mat1 and mat2"),
        (nn.ReLU(inplace=True), "it writes into its input"),
    ]:
        with pytest.raises(SeedDoesNotFit, match=reason):
            slot.plant(seed, blueprint_id="misfit")
    assert (slot.stage, slot.seed, slot.history) == (SeedStage.DORMANT, None, ())


def test_a_slot_holds_one_seed() -> None:
    model = attach(conv_host(), "norm1", EXAMPLE)
    slot = slots(model)["norm1"]
    slot.plant(residual(), blueprint_id="residual")
    with pytest.raises(InvalidTransition) as raised:
        slot.plant(residual(), blueprint_id="residual")
    assert "TRAINING, CULLED" in raised.value.help_text


def test_the_host_alone_is_seen_until_a_seed_fossilizes() -> None:
    plain = conv_host()
    keys, count = list(plain.state_dict()), len(list(plain.parameters()))
    model = attach(conv_host(), "norm1", EXAMPLE)
    in_place(model, "norm1")
    assert list(model.state_dict()) == keys
    assert len(list(model.parameters())) == count


def test_a_checkpoint_from_before_attaching_loads_strictly_even_after_fossilization() -> None:
    saved = fingerprint(conv_host())
    model = attach(conv_host(), ["norm1", "norm2"], EXAMPLE)
    model.load_state_dict(saved, strict=True)
    seed = residual()
    fossils.register(model, "norm1", seed)
    kept = fingerprint(seed)
    with torch.no_grad():
        model.conv1.weight.zero_()
    model.load_state_dict(saved, strict=True)
    assert equal_states(host_state_dict(model), saved)
    assert equal_states(fingerprint(seed), kept)
    with_seed = model.state_dict()
    assert set(with_seed) - set(saved) == {f"_esper.norm1.{key}" for key in kept}
    model.load_state_dict(with_seed, strict=True)
    del with_seed["_esper.norm1.inner.weight"]
    with pytest.raises(RuntimeError, match=r"_esper\.norm1\.inner\.weight"):
        model.load_state_dict(with_seed, strict=True)


def test_detach_returns_the_host_bit_equal_and_without_a_trace() -> None:
    plain = conv_host()
    model = attach(conv_host(), r"norm\d|act1", EXAMPLE)
    slot = slots(model)["norm1"]
    slot.plant(NoisyNaN(), blueprint_id="noisy")
    slot.advance()
    assert detach(model) is model
    assert equal_states(fingerprint(model), fingerprint(plain))
    assert set(model.__dict__) == set(plain.__dict__)
    assert list(model._modules) == list(plain._modules)
    assert all(not module._forward_hooks for module in model.modules())
    with pytest.raises(NotAttached):
        slots(model)


def test_detach_refuses_while_the_host_depends_on_a_seed() -> None:
    model = attach(conv_host(), ["norm1", "norm2"], EXAMPLE)
    in_place(model, "norm1")
    with pytest.raises(LiveSeeds, match="`norm1`"):
        detach(model)
    assert list(detach(model, force=True).state_dict()) == list(conv_host().state_dict())


def test_a_deep_copy_has_its_own_seed() -> None:
    model = attach(conv_host(), "norm1", EXAMPLE)
    in_place(model, "norm1", alpha=0.5)
    twin = copy.deepcopy(model)
    seed, own = slots(model)["norm1"].seed, slots(twin)["norm1"].seed
    assert seed is not None and own is not None and own is not seed
    assert equal_states(fingerprint(seed), fingerprint(own))
    model.eval(), twin.eval()
    before = model(EXAMPLE)
    with torch.no_grad():
        next(own.parameters()).add_(1.0)
        own.get_parameter("outer.weight").add_(1.0)
    assert torch.equal(model(EXAMPLE), before)
    assert not torch.equal(twin(EXAMPLE), before)


def test_disabled_ends_with_its_block_on_an_exception_too() -> None:
    model = attach(conv_host(), "norm1", EXAMPLE).eval()
    plain = model(EXAMPLE)
    in_place(model, "norm1")
    with torch.no_grad():
        slots(model)["norm1"].hook.get_parameter("seed.outer.weight").add_(1.0)
    grown = model(EXAMPLE)
    assert not torch.equal(grown, plain)
    with pytest.raises(ZeroDivisionError), disabled(model, "norm1"):
        assert torch.equal(model(EXAMPLE), plain)
        raise ZeroDivisionError
    assert torch.equal(model(EXAMPLE), grown)


def test_a_slot_works_on_after_an_exception_in_the_host() -> None:
    model = attach(conv_host(), "norm1", EXAMPLE)
    in_place(model, "norm1")
    with pytest.raises(RuntimeError):
        model(torch.zeros(2, 5, 8, 8))
    random = torch.get_rng_state()
    model.norm1(torch.zeros(2, 6, 8, 8))
    assert torch.equal(random, torch.get_rng_state())
    assert torch.isfinite(loss_on(model, batches(1)[0]))


def test_a_seed_follows_the_hosts_mode_and_dtype() -> None:
    model = attach(conv_host(), "norm1", EXAMPLE)
    in_place(model, "norm1")
    seed = slots(model)["norm1"].seed
    assert seed is not None
    modes = []
    model.eval()(EXAMPLE)
    modes.append(seed.training)
    model.double().train()(EXAMPLE.double())
    modes.append(seed.training)
    assert modes == [False, True]
    assert next(seed.parameters()).dtype is torch.float64
    assert slots(model)["norm1"].hook.alpha.dtype is torch.float32


def test_under_autocast_the_seed_keeps_its_dtype_and_gives_the_hosts() -> None:
    model = attach(conv_host(), "norm1", EXAMPLE)
    in_place(model, "norm1", alpha=0.5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss_on(model, batches(1)[0]).backward()
    seed = slots(model)["norm1"].seed
    assert seed is not None
    assert all(p.dtype is torch.float32 and p.grad is not None for p in seed.parameters())


def test_an_example_that_the_model_cannot_take_is_an_error_that_leaves_no_hook() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    with pytest.raises(ExampleFails, match=r"RuntimeError: mat1 and mat2"):
        attach(model, slots="0", example=torch.zeros(2, 3))
    assert not model[0]._forward_hooks


def test_naming_no_slot_is_an_error() -> None:
    with pytest.raises(NoSlotNamed):
        attach(nn.Sequential(nn.Linear(4, 4)), slots=[], example=torch.zeros(2, 4))
