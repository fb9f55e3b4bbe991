"""A slot's tensor may be a view, and the host may write into it: the host's own results stay the same."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from esper.kasmina.attach import attach
from esper.kasmina.host.hook import Phase
from esper.kasmina.lifecycle.bank import slots
from esper.kasmina.training.optimizer import GrowthOptimizer
from tests.kasmina.networks import equal_states, fingerprint, without_host_randomness

Change = Callable[[Tensor], Tensor]

VIEWS: dict[str, Change] = {
    "itself": lambda h: h,
    "slice": lambda h: h[:, 1:],
    "transposed": lambda h: h.transpose(1, 2),
    "reshaped": lambda h: h.reshape(h.shape[0], -1, 2),
    "strided": lambda h: h[:, ::2],
    "detached": lambda h: h.detach(),
    "expanded": lambda h: h[:, :1].expand(-1, 4, -1).clone(),
}
WRITES: dict[str, Change] = {
    "nothing": lambda h: h,
    "relu": lambda h: h.relu_(),
    "sum": lambda h: h.add_(1.0).mul_(0.5),
    "part": lambda h: h.index_fill_(1, torch.tensor([0]), 2.0),
}


class Part(nn.Module):
    def __init__(self, change: Change) -> None:
        super().__init__()
        self.change = change

    def forward(self, h: Tensor) -> Tensor:
        return self.change(h)


class Model(nn.Module):
    def __init__(self, view: Change, write: Change) -> None:
        super().__init__()
        self.stem = nn.Linear(4, 4)
        self.part, self.write = Part(view), write

    def forward(self, x: Tensor) -> Tensor:
        return self.write(self.part(self.stem(x))).square().mean()


def trained(
    view: str, write: str, *, grow: bool, frozen: bool
) -> tuple[list[Tensor], dict[str, Tensor], int]:
    torch.manual_seed(0)
    model = Model(VIEWS[view], WRITES[write])
    if frozen:
        model.requires_grad_(False)
    x, heard = torch.randn(3, 6, 4), 0
    optimizer: torch.optim.Optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    if grow:
        attach(model, "part", x)
        optimizer = GrowthOptimizer(optimizer)
        slot = slots(model)["part"]
        size = slot.probe.shape[-1]
        slot.plant(without_host_randomness(lambda: nn.Linear(size, size)), blueprint_id="linear")
        slot.advance()
        assert slot.hook.phase is Phase.LISTENING
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        losses.append(model(x))
        if losses[-1].requires_grad:
            torch.autograd.backward(losses[-1])
        optimizer.step()
    if grow:
        heard = len(slots(model)["part"].hook.descents)
    return [loss.detach() for loss in losses], fingerprint(model), heard


@pytest.mark.parametrize("frozen", [False, True], ids=["learning", "frozen"])
@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("view", VIEWS)
def test_a_training_seed_hears_the_gradient_and_changes_nothing(view: str, write: str, frozen: bool) -> None:
    plain_losses, plain, _ = trained(view, write, grow=False, frozen=frozen)
    losses, grown, heard = trained(view, write, grow=True, frozen=frozen)
    assert all(map(torch.equal, plain_losses, losses))
    assert equal_states(plain, grown)
    assert heard == 3


@pytest.mark.parametrize("view", ["itself", "slice", "transposed", "strided"])
def test_what_is_heard_is_the_gradient_before_the_host_writes(view: str) -> None:
    heard = []
    for write in (torch.relu, torch.relu_):
        torch.manual_seed(0)
        model = Model(VIEWS[view], write)
        x = torch.randn(3, 6, 4)
        slot = slots(attach(model, "part", x))["part"]
        size = slot.probe.shape[-1]
        slot.plant(without_host_randomness(partial(nn.Linear, size, size)), blueprint_id="linear")
        slot.advance()
        torch.autograd.backward(model(x))
        heard.append(slot.hook.gradients)
    for apart, within in zip(*heard, strict=True):
        assert apart is not None and within is not None and torch.equal(apart, within)
