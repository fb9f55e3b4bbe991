"""Several backward passes through one forward pass, one for each loss, teach a seed what their sum would."""

from __future__ import annotations

import gc

import pytest
import torch
from torch import Tensor, nn

from esper.kasmina.attach import attach
from esper.kasmina.host.hook import _Echo
from esper.kasmina.lifecycle.bank import slots
from esper.kasmina.lifecycle.slot import SeedSlot
from esper.kasmina.training.optimizer import GrowthOptimizer

X = torch.randn(16, 8, generator=torch.Generator().manual_seed(0))


class Twice(nn.Module):
    """Runs its body `calls` times in a pass."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.body, self.head = nn.Sequential(nn.Linear(8, 8), nn.GELU()), nn.Linear(8, 2)
        self.calls = calls

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(self.calls):
            x = self.body(x)
        logits: Tensor = self.head(x)
        return logits


def learning(calls: int = 1) -> tuple[nn.Module, SeedSlot]:
    torch.manual_seed(0)
    model = attach(Twice(calls), "body", X)
    GrowthOptimizer(torch.optim.SGD(model.parameters(), lr=0.1)).step()
    slot = slots(model)["body"]
    slot.germinate("mlp_block")
    slot.advance()
    with torch.no_grad():  # off the identity, so that all of it has gradients
        for parameter in slot.hook.trainable():
            parameter.add_(0.1)
    return model, slot


def taught(slot: SeedSlot) -> list[Tensor]:
    return [gradient for gradient in slot.hook.gradients if gradient is not None]


@pytest.mark.parametrize("calls", [1, 2])
@pytest.mark.parametrize("is_compiled", [False, True], ids=["eager", "compiled"])
def test_two_backward_passes_teach_what_one_for_the_sum_does(calls: int, is_compiled: bool) -> None:
    ends = []
    for is_summed in (True, False):
        model, slot = learning(calls)
        run = torch.compile(model, backend="eager") if is_compiled else model
        first, second = run(X).square().sum(0)
        if is_summed:
            (first + second).backward()
        else:
            first.backward(retain_graph=True)
            second.backward()
        ends.append((taught(slot), list(slot.hook.descents)))
    (one, promise), (two, promises) = ends
    assert len(one) == len(two) > 0 and len(promise) == len(promises) == 1
    torch.testing.assert_close(one, two)
    torch.testing.assert_close(promise, promises)


def test_the_pass_that_frees_the_graph_frees_what_the_seed_waited_with() -> None:
    model, slot = learning()
    first, second = model(X).sum(0)
    first.backward(retain_graph=True)
    held = [found for found in gc.get_objects() if type(found) is _Echo and found.hook is slot.hook]
    assert len(held) == 1 and held[0].tensor is not None
    second.backward()
    assert held[0].tensor is None
