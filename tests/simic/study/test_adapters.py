"""Adapters: of the size asked for, the identity at first, the host frozen beneath them."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from esper.simic.hosts import host_named
from esper.simic.study.adapters import bottleneck, lora, without_adapters
from esper.simic.study.sizes import parameters
from esper.simic.tasks import Task, task_named

KINDS: dict[str, Callable[[nn.Module, Task, tuple[str, ...], int], nn.Module]] = {
    "lora": lambda model, task, slots, wanted: lora(model, wanted),
    "bottleneck": bottleneck,
}
HOSTS = [("cnn", "mnist1d"), ("cnn", "digits"), ("gpt", "text")]


def learn(model: nn.Module, task: Task) -> None:
    """One step along the gradient on a few examples."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1)
    task.losses(model(task.train.x[:20]), task.train.y[:20]).mean().backward()
    optimizer.step()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("host_name", "task_name"), HOSTS)
def test_adapters_start_as_the_identity_and_learn_over_a_frozen_host(
    kind: str, host_name: str, task_name: str
) -> None:
    torch.manual_seed(0)
    task, host = task_named(task_name, 0), host_named(host_name)
    model = host.build(task).eval()
    x = task.train.x[:7]
    before = model(x)
    frozen = {name: value.clone() for name, value in model.state_dict().items()}
    adapted = KINDS[kind](model, task, host.slots, 900)
    torch.testing.assert_close(adapted(x), before, rtol=0, atol=1e-6)
    learn(adapted, task)
    assert not torch.allclose(adapted(x), before, atol=1e-3)
    with without_adapters(adapted):
        torch.testing.assert_close(adapted(x), before, rtol=0, atol=1e-6)
    kept = {
        name.replace("base_layer.", "").replace(".host.", "."): value
        for name, value in adapted.state_dict().items()
    }
    assert all(torch.equal(kept[name], value) for name, value in frozen.items())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wanted", [424, 848, 3000])
def test_adapters_have_about_the_parameters_asked_for(kind: str, wanted: int) -> None:
    task, host = task_named("mnist1d", 0), host_named("cnn")
    model = host.build(task)
    size = parameters(model)
    added = parameters(KINDS[kind](model, task, host.slots, wanted)) - size
    assert abs(added - wanted) <= 40


def test_layers_left_out_have_no_lora() -> None:
    task, host = task_named("mnist1d", 0), host_named("cnn")
    adapted = lora(host.build(task), 400, leaving=("head",))
    assert isinstance(adapted.get_submodule("head"), nn.Linear)
    assert not any(p.requires_grad for p in adapted.get_submodule("head").parameters())
