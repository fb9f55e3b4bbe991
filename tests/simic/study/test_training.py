"""The loop of every arm: equal runs, whole batches, a schedule that ends at zero."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from esper.kasmina.attach import attach
from esper.simic.hosts import host_named
from esper.simic.study.training import Growing, Objective, Recipe, batches, fit, meter_for
from esper.simic.tasks import Split, Task, task_named

RECIPE = Recipe(steps=12, lr=0.02, batch_size=100)


@pytest.fixture(scope="module")
def task() -> Task:
    return task_named("mnist1d", 0)


def trained(task: Task, recipe: Recipe = RECIPE, growing: Growing | None = None) -> dict[str, Tensor]:
    torch.manual_seed(0)
    host: nn.Module = host_named("cnn").build(task)
    if growing is not None:
        host = attach(host, ["blocks.0"], task.train.x[:4])
    fit(host, Objective(task, meter_for(task)), recipe, seed=1, growing=growing)
    return host.state_dict()


def equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, second[name]) for name, value in first.items())


def test_equal_runs_give_equal_weights(task: Task) -> None:
    assert equal(trained(task), trained(task))
    assert not equal(trained(task), trained(task, replace(RECIPE, lr=0.01)))


def test_a_policy_that_never_plants_leaves_the_weights_of_a_plain_run(task: Task) -> None:
    never = Growing("never", ())
    longer = replace(RECIPE, steps=50)
    assert equal(trained(task, longer), trained(task, longer, never))


def test_test_data_decides_nothing(task: Task) -> None:
    eager = Growing("heuristic", ("conv_enhance",), {"warmup_epochs": 1, "wait_epochs": 1})
    turned = replace(task, test=Split(-task.test.x, task.test.y))
    longer = replace(RECIPE, steps=50)
    assert equal(trained(task, longer, eager), trained(turned, longer, eager))


@given(st.integers(2, 500))
def test_schedule_rises_to_the_peak_and_falls_to_nothing(steps: int) -> None:
    recipe = replace(RECIPE, steps=steps)
    factors = [recipe.factor(step) for step in range(steps + 1)]
    top = factors.index(max(factors))
    assert max(factors) == 1.0
    assert factors[: top + 1] == sorted(factors[: top + 1])
    assert factors[top:] == sorted(factors[top:], reverse=True)
    assert factors[-1] == pytest.approx(0.0, abs=1e-9)


@given(st.integers(1, 40), st.integers(1, 30), st.integers(2, 25))
def test_batches_are_whole_and_as_many_as_asked_for(steps: int, examples: int, size: int) -> None:
    split = Split(torch.arange(float(examples)), torch.arange(examples))
    drawn = list(batches(split, Recipe(steps, 0.1, size), seed=3))
    assert len(drawn) == steps
    assert all(len(y) == min(size, examples) and len(set(y.tolist())) == len(y) for _, y in drawn)
    a_pass = examples // min(size, examples)
    if steps >= a_pass:
        first = torch.cat([y for _, y in drawn[:a_pass]])
        assert len(set(first.tolist())) == a_pass * min(size, examples)
