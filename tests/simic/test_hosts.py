"""Hosts: what they name exists, they take every task of their kind, and they grow on it."""

from pathlib import Path

import pytest
import torch

from esper.kasmina.attach import attach
from esper.kasmina.lifecycle.bank import slots
from esper.kasmina.training.optimizer import GrowthOptimizer
from esper.leyline.stages import SeedStage
from esper.simic.errors import HostDoesNotFit, HostFails, HostNotImported, UnknownHost
from esper.simic.hosts import HOSTS, SmallGPT, build_host, host_named
from esper.simic.tasks import Split, Task, task_named

PAIRS = [("cnn", "mnist1d"), ("mlp", "mnist1d"), ("cnn", "digits"), ("mlp", "digits"), ("gpt", "text")]


def photographs() -> Task:
    """Random pixels in CIFAR-10's shape."""
    split = Split(torch.randn(12, 3, 32, 32), torch.arange(12) % 10)
    return Task("cifar10", "", 10, split, split, split)


def prepared(task_name: str) -> Task:
    return photographs() if task_name == "cifar10" else task_named(task_name, 0)


@pytest.mark.parametrize(("host_name", "task_name"), [*PAIRS, ("cnn", "cifar10"), ("mlp", "cifar10")])
def test_host_trains_on_the_task_and_its_slots_train_its_blueprints(host_name: str, task_name: str) -> None:
    task, host = prepared(task_name), host_named(host_name)
    x, y = task.train.x[:5], task.train.y[:5]
    model = attach(host.build(task), host.slots, x)
    optimizer = GrowthOptimizer(torch.optim.AdamW(model.parameters()))
    for name, blueprint in zip(host.slots, host.blueprints, strict=True):
        slots(model)[name].germinate(blueprint)
        slots(model)[name].advance()
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        logits = model(x)
        assert logits.shape == (*y.shape, task.classes)
        loss = task.losses(logits, y).mean()
        torch.autograd.backward(loss)
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(slot.hook.descents for slot in slots(model).values())
    assert all(slot.stage is SeedStage.TRAINING for slot in slots(model).values())


@pytest.mark.parametrize(("host_name", "task_name"), [("cnn", "text"), ("mlp", "text"), ("gpt", "mnist1d")])
def test_host_of_another_kind_of_task_is_refused(host_name: str, task_name: str) -> None:
    with pytest.raises(HostDoesNotFit) as caught:
        host_named(host_name).build(task_named(task_name, 0))
    assert host_name not in caught.value.help_text


@pytest.mark.parametrize("host_name", HOSTS)
def test_width_and_depth_are_what_is_asked_for(host_name: str) -> None:
    task = task_named("text" if host_name == "gpt" else "mnist1d", 0)
    usual = host_named(host_name).build(task)
    larger = host_named(host_name).build(task, width=48, depth=3)
    sizes = [sum(p.numel() for p in model.parameters()) for model in (usual, larger)]
    assert sizes[0] < sizes[1]
    assert len(larger.get_submodule("blocks")._modules) == 3


def test_gpt_sees_no_later_character() -> None:
    torch.manual_seed(0)
    model = SmallGPT(vocabulary=11, length=8, width=16, depth=2)
    tokens = torch.randint(11, (3, 8))
    changed = tokens.clone()
    changed[:, 5:] = (changed[:, 5:] + 1) % 11
    first, second = model(tokens), model(changed)
    torch.testing.assert_close(first[:, :5], second[:, :5], rtol=0, atol=0)
    assert not torch.equal(first[:, 5:], second[:, 5:])


def test_gpt_begins_near_a_uniform_guess() -> None:
    torch.manual_seed(0)
    task = task_named("text", 0)
    x, y = task.train.x[:16], task.train.y[:16]
    loss = task.losses(host_named("gpt").build(task)(x), y).mean()
    assert abs(loss.item() - torch.tensor(float(task.classes)).log().item()) < 0.1


HOST_FILE = """
from torch import nn

def build(task):
    return nn.Sequential(nn.Flatten(), nn.Linear(40, task.classes))

def nothing(task):
    return None

def broken(task):
    raise ValueError("no such layer")
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "hosts_of_a_user.py").write_text(HOST_FILE)
    monkeypatch.syspath_prepend(tmp_path)
    return "hosts_of_a_user"


def test_import_path_is_called_with_the_task(package: str) -> None:
    task = task_named("mnist1d", 0)
    assert build_host(f"{package}:build", task)(task.train.x[:5]).shape == (5, 10)


@pytest.mark.parametrize(
    ("function", "error"), [("nothing", HostFails), ("broken", HostFails), ("absent", HostNotImported)]
)
def test_import_path_that_makes_no_host_is_refused(
    package: str, function: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        build_host(f"{package}:{function}", task_named("mnist1d", 0))


def test_module_that_is_not_there_is_refused() -> None:
    with pytest.raises(HostNotImported) as caught:
        build_host("no_such_package_anywhere:build", task_named("mnist1d", 0))
    assert "PYTHONPATH" in caught.value.help_text


@pytest.mark.parametrize("host_name", HOSTS)
def test_equal_seeds_build_equal_hosts(host_name: str) -> None:
    task = task_named("text" if host_name == "gpt" else "mnist1d", 0)
    weights = []
    for _ in range(2):
        torch.manual_seed(4)
        weights.append(host_named(host_name).build(task).state_dict())
    assert all(torch.equal(a, b) for a, b in zip(weights[0].values(), weights[1].values(), strict=True))


def test_unknown_host_names_the_choices() -> None:
    with pytest.raises(UnknownHost) as caught:
        host_named("resnet")
    assert "cnn" in caught.value.help_text
