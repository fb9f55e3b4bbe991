"""The meter: what it counts is what torch's counter sees, over whole runs and for each pass alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from esper import lang
from esper.kasmina.attach import attach
from esper.kasmina.host.blending import AlphaSchedule
from esper.kasmina.host.hook import Phase
from esper.kasmina.lifecycle.bank import slots
from esper.kasmina.lifecycle.gates import GateParameters
from esper.kasmina.training.optimizer import GrowthOptimizer
from esper.simic.flops import FlopMeter, by_operator, cost_of_graph, counting
from esper.simic.hosts import host_named
from esper.simic.study.sizes import freeze
from esper.simic.study.training import Growing, Objective, Recipe, fit, meter_for
from esper.simic.tasks import Split, Task, task_named
from esper.urza.run.seed import CompiledSeed

QUICK = GateParameters(
    training_steps=10,
    shadow_steps=5,
    probation_steps=5,
    loss_rise=1e6,
    gain=-1e6,
    gain_errors=-1e6,
    gain_over_progress=-1e6,
)
EAGER = {"warmup_epochs": 1, "wait_epochs": 1}


@pytest.fixture(scope="module")
def task() -> Task:
    whole = task_named("mnist1d", 0)

    def first(split: Split, count: int) -> Split:
        return Split(split.x[:count], split.y[:count])

    return Task("mnist1d", "", 10, first(whole.train, 400), first(whole.held_out, 100), whole.test)


def grow(
    task: Task, incubation: str, counter: FlopCounterMode, blueprint: str, options: dict[str, int]
) -> tuple[FlopMeter, tuple[str, ...]]:
    """A short run of the small convolutional host, 8 epochs of 10 steps, seen by both counters."""
    torch.manual_seed(0)
    host = host_named("cnn")
    meter = meter_for(task)
    recipe = Recipe(steps=80, lr=0.01, batch_size=40)
    growing = Growing("heuristic", (blueprint,), options, QUICK, AlphaSchedule(steps=5))
    with counter:
        model = attach(host.build(task), list(host.slots), task.train.x[:40], incubation=incubation)
        meter.count("attachment", model, 40, backward=False)
        seeds = fit(model, Objective(task, meter), recipe, 0, growing=growing)
    return meter, tuple(seed.stage for seed in seeds)


@pytest.mark.parametrize("incubation", ["none", "straight_through", "counterfactual"])
def test_a_whole_grown_run_agrees_with_torchs_counter_within_a_percent(task: Task, incubation: str) -> None:
    counter = by_operator(FlopCounterMode(display=False))
    meter, stages = grow(task, incubation, counter, "conv_enhance", EAGER)
    assert "FOSSILIZED" in stages
    assert meter.total == pytest.approx(counter.get_total_flops(), rel=0.01)
    assert {"attachment", "training", "evaluation", "gates", "control"} <= set(meter.counts)
    assert ("incubation" in meter.counts) is (incubation == "counterfactual")


def test_culled_and_rolled_back_steps_are_counted(task: Task) -> None:
    counter = counting()
    torch.manual_seed(0)
    host = host_named("cnn")
    meter = meter_for(task)
    refusing = GateParameters(training_steps=10, shadow_steps=5, probation_steps=5, gain=1e6)
    growing = Growing("heuristic", ("depthwise",), EAGER, refusing, AlphaSchedule(steps=5))
    with counter:
        model = attach(host.build(task), list(host.slots), task.train.x[:40], incubation="none")
        meter.count("attachment", model, 40, backward=False)
        seeds = fit(model, Objective(task, meter), Recipe(80, 0.01, 40), 0, growing=growing)
    assert [seed.stage for seed in seeds].count("CULLED") >= 1
    assert meter.total == pytest.approx(counter.get_total_flops(), rel=0.01)


@pytest.mark.parametrize(
    ("blueprint", "shape"),
    [
        ("conv_enhance", (6, 8, 20)),
        ("depthwise", (6, 8, 20)),
        ("convnext_block", (6, 8, 5, 5)),
        ("mlp_block", (6, 16)),
        ("norm", (6, 9, 16)),
        ("mbconv_block", (6, 8, 20)),
    ],
)
def test_the_compilers_cost_of_a_seed_is_what_torch_counts(blueprint: str, shape: tuple[int, ...]) -> None:
    fitted, sizes = lang.fit(blueprint, shape)
    params: dict[str, Any] = dict(fitted)
    seed = CompiledSeed(lang.lower(blueprint, sizes=sizes, **params))
    x = torch.randn(shape)
    cost = cost_of_graph(seed.ir, shape)
    assert torch_count(lambda: seed(x), []) == cost.forward
    weights = list(seed.parameters())
    assert torch_count(lambda: seed(x), weights) == cost.forward + cost.weights
    x.requires_grad_()
    assert torch_count(lambda: seed(x), [x, *weights]) == cost.forward + cost.weights + cost.inputs


def torch_count(forward: Callable[[], Tensor], wanted: Sequence[Tensor]) -> int:
    with counting() as counter:
        result = forward()
        if wanted:
            torch.autograd.grad(result.sum(), wanted, allow_unused=True)
    return int(counter.get_total_flops())


def test_torchs_own_count_of_a_depthwise_gradient_is_too_large() -> None:
    layer = nn.Conv1d(8, 8, 7, padding=3, groups=8)
    x = torch.randn(2, 8, 20, requires_grad=True)
    counts = []
    for counter in (by_operator(FlopCounterMode(display=False)), counting()):
        with counter:
            torch.autograd.grad(layer(x).sum(), [x, layer.weight])
        counts.append(counter.get_total_flops())
    products = 2 * 2 * 20 * 8 * 7
    assert counts[1] == 3 * products
    assert counts[0] > counts[1]


def test_attention_on_the_cpu_is_counted() -> None:
    task = task_named("text", 0)
    model = host_named("gpt").build(task)
    cost = meter_for(task).cost(model, 1, backward=False)
    length, width, hidden, depth = 64, 32, 128, 2
    attention = 2 * 2 * length * length * width
    layers = 2 * length * (4 * width * width + 2 * width * hidden)
    assert cost == depth * (attention + layers) + 2 * length * width * task.classes


@pytest.mark.parametrize("names", [("blocks.0",), ("blocks.1",), ("blocks.0", "blocks.1")])
def test_in_a_frozen_host_gradients_go_back_to_the_first_seed_only(
    task: Task, names: tuple[str, ...]
) -> None:
    model = host_named("cnn").build(task)
    freeze(model)
    model.get_submodule("head").requires_grad_(True)
    attach(model, ["blocks.0", "blocks.1"], task.train.x[:4])
    GrowthOptimizer(torch.optim.AdamW(model.get_submodule("head").parameters()))
    for name in names:
        slots(model)[name].germinate("conv_enhance")
        slots(model)[name].hook.phase = Phase.IN_PLACE
        slots(model)[name].hook.set_alpha(1.0)
    x, y = task.train.x[:30], task.train.y[:30]
    learning: list[Tensor] = [p for p in model.parameters() if p.requires_grad]
    learning += [p for name in names for p in slots(model)[name].hook.trainable()]
    counted = torch_count(lambda: task.losses(model(x), y), learning)
    assert meter_for(task).cost(model, 30, backward=True) == counted


def test_counting_changes_neither_gradients_nor_statistics_nor_random_numbers(task: Task) -> None:
    model = host_named("cnn").build(task)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    meter_for(task).cost(model, 10, backward=True)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), random)
