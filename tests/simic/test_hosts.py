"""Hosts: what they name exists, and they take every task."""

import pytest
import torch

from esper.simic.errors import UnknownHost
from esper.simic.hosts import HOSTS, host_named
from esper.simic.tasks import TASKS, task_named


@pytest.mark.parametrize("task_name", TASKS)
@pytest.mark.parametrize("host_name", HOSTS)
def test_host_takes_the_task_and_has_its_slots(host_name: str, task_name: str) -> None:
    task, host = task_named(task_name, 0), host_named(host_name)
    model = host.build(task)
    assert model(task.train.x[:5]).shape == (5, task.classes)
    modules = dict(model.named_modules())
    assert all(slot in modules for slot in host.slots)


@pytest.mark.parametrize("host_name", HOSTS)
def test_equal_seeds_build_equal_hosts(host_name: str) -> None:
    task = task_named("mnist1d", 0)
    weights = []
    for _ in range(2):
        torch.manual_seed(4)
        weights.append(host_named(host_name).build(task).state_dict())
    assert all(torch.equal(a, b) for a, b in zip(weights[0].values(), weights[1].values(), strict=True))


def test_unknown_host_names_the_choices() -> None:
    with pytest.raises(UnknownHost) as caught:
        host_named("resnet")
    assert "cnn" in caught.value.help_text
