"""A second task: classes in two halves, and a first task that comes back when what was added is left out."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from esper.kasmina.attach import attach
from esper.kasmina.host.hook import Phase
from esper.kasmina.lifecycle.bank import slots
from esper.simic.hosts import host_named
from esper.simic.study.adapters import bottleneck, lora
from esper.simic.study.second_task import HEADS, Replay, add_head, as_before, first_head, halves, rest
from esper.simic.study.training import Objective, Recipe, fit, meter_for
from esper.simic.tasks import Task, task_named


@pytest.fixture(scope="module")
def both() -> tuple[Task, Task]:
    return halves(task_named("mnist1d", 0))


def test_halves_share_no_class_and_together_have_every_example(both: tuple[Task, Task]) -> None:
    first, second = both
    whole = task_named("mnist1d", 0)
    assert len(first.train) + len(second.train) == len(whole.train)
    assert (first.classes, second.classes) == (5, 5)
    assert {first.train.y.max().item(), second.train.y.max().item()} == {4}
    rows = [{x.numpy().tobytes() for x in task.test.x} for task in both]
    assert not rows[0] & rows[1]


def with_lora(model: nn.Module, task: Task) -> nn.Module:
    return lora(model, 400, leaving=HEADS)


def with_bottleneck(model: nn.Module, task: Task) -> nn.Module:
    return bottleneck(model, task, ("blocks.0", "blocks.1"), 400)


def with_a_seed(model: nn.Module, task: Task) -> nn.Module:
    grown = attach(model, "blocks.0", task.train.x[:4])
    slot = slots(grown)["blocks.0"]
    seed = slot.germinate("convnext_block")
    slot.hook.phase = Phase.IN_PLACE
    slot.hook.set_alpha(1.0)
    with torch.no_grad():
        for parameter in seed.parameters():
            parameter.add_(0.1)
    return grown


@pytest.mark.parametrize("extend", [with_lora, with_bottleneck, with_a_seed])
def test_first_task_is_bit_equal_after_the_second_on_a_frozen_host(
    both: tuple[Task, Task], extend: Callable[[nn.Module, Task], nn.Module]
) -> None:
    first, second = both
    torch.manual_seed(0)
    model = host_named("cnn").build(first)
    model.eval()
    before = model(first.test.x[:50])
    model.train()
    rest(model)
    add_head(model, second)
    model = extend(model, second)
    model.get_submodule("head").requires_grad_(True)
    plain = model(second.test.x[:50])
    fit(model, Objective(second, meter_for(second)), Recipe(5, 0.05, 50), seed=0)
    assert not torch.equal(model(second.test.x[:50]), plain)
    with as_before(model):
        assert torch.equal(model(first.test.x[:50]), before)
    assert model(second.test.x[:50]).shape == (50, 5)


def test_heads_are_swapped_inside_alone(both: tuple[Task, Task]) -> None:
    first, second = both
    model = host_named("cnn").build(first)
    head = model.get_submodule("head")
    add_head(model, second)
    other = model.get_submodule("head")
    with first_head(model):
        assert model.get_submodule("head") is head
    assert model.get_submodule("head") is other
    assert head is not other


def test_replay_trains_the_first_classifier_and_counts_its_passes(both: tuple[Task, Task]) -> None:
    first, second = both
    torch.manual_seed(0)
    model = host_named("cnn").build(first)
    add_head(model, second)
    weights = [model.get_submodule(name).get_parameter("weight").detach().clone() for name in HEADS]
    meter = meter_for(second)
    again = Replay(first, meter, 20, seed=0)
    assert len(again.y) == round(0.1 * len(first.train))
    fit(model, Objective(second, meter), Recipe(3, 0.05, 20), seed=0, replay=again)
    after = [model.get_submodule(name).get_parameter("weight") for name in HEADS]
    assert not any(torch.equal(a, b) for a, b in zip(weights, after, strict=True))
    assert meter.counts["replay"] == meter.counts["training"] > 0
