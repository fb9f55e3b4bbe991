"""Tasks: splits that do not mix, equal by seed."""

import pytest
import torch

from esper.simic.errors import UnknownTask
from esper.simic.tasks import TASKS, Task, task_named


@pytest.fixture(scope="module", params=TASKS)
def task(request: pytest.FixtureRequest) -> Task:
    return task_named(request.param, 3)


def test_splits_share_no_example(task: Task) -> None:
    splits = [task.train, task.held_out, task.test]
    examples = [{bytes(x.numpy().tobytes()) for x in split.x} for split in splits]
    assert not (examples[0] & examples[1] or examples[0] & examples[2] or examples[1] & examples[2])


def test_every_class_is_in_every_split(task: Task) -> None:
    for split in (task.train, task.held_out, task.test):
        assert torch.unique(split.y).tolist() == list(range(task.classes))


def test_training_split_is_standardised(task: Task) -> None:
    assert abs(task.train.x.mean().item()) < 0.02
    assert abs(task.train.x.std().item() - 1.0) < 0.02


def test_equal_seeds_give_equal_tensors(task: Task) -> None:
    again = task_named(task.name, 3)
    assert torch.equal(task.train.x, again.train.x)
    assert torch.equal(task.test.y, again.test.y)
    assert not torch.equal(task.train.x, task_named(task.name, 4).train.x)


def test_losses_and_hits_are_one_an_example(task: Task) -> None:
    logits = torch.zeros(7, task.classes)
    y = torch.zeros(7, dtype=torch.int64)
    assert task.losses(logits, y).shape == (7,)
    assert task.hits(logits, y).all()


def test_unknown_task_names_the_choices() -> None:
    with pytest.raises(UnknownTask) as caught:
        task_named("imagenet", 0)
    assert "mnist1d" in caught.value.help_text
