"""Scores: means over a split, in evaluation mode, whatever mode the model is in."""

import pytest
import torch
from torch import Tensor, nn

from esper.simic import evaluation
from esper.simic.evaluation import example_losses, score
from esper.simic.hosts import host_named
from esper.simic.tasks import Task, task_named


@pytest.fixture
def task() -> Task:
    return task_named("mnist1d", 0)


def test_score_is_the_mean_of_example_losses(task: Task) -> None:
    model = host_named("mlp").build(task)
    losses = example_losses(model, task, task.held_out)
    assert losses.shape == (len(task.held_out),)
    assert score(model, task, task.held_out).loss == losses.mean().item()


def test_score_does_not_depend_on_how_the_split_is_cut(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    model = host_named("cnn").build(task)
    whole = score(model, task, task.test)
    monkeypatch.setattr(evaluation, "CHUNK", 300)
    cut = score(model, task, task.test)
    assert cut.accuracy == whole.accuracy
    assert cut.loss == pytest.approx(whole.loss, rel=1e-6)


@pytest.mark.parametrize("mode", [True, False])
def test_mode_and_statistics_are_as_before(task: Task, mode: bool) -> None:
    model = host_named("cnn").build(task).train(mode)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    score(model, task, task.test)
    assert model.training is mode
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_perfect_model_scores_one(task: Task) -> None:
    class Knows(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 50.0 * nn.functional.one_hot(task.test.y, 10)[: len(x)].float()

    small = type(task.test)(task.test.x[:100], task.test.y[:100])
    found = score(Knows(), task, small)
    assert found.accuracy == 1.0
    assert found.loss == pytest.approx(0.0, abs=1e-6)
