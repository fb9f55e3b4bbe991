"""The table of slots: aligned, and honest about a module that does not run in every step."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from esper.kasmina.attach import attach
from esper.kasmina.errors import NotAttached
from esper.kasmina.host.attendance import IDLE_STEPS
from esper.kasmina.lifecycle.bank import slots
from esper.kasmina.listing import print_slots
from esper.kasmina.training.optimizer import GrowthOptimizer
from tests.kasmina.exports.test_export import fossilize
from tests.kasmina.networks import batches, conv_host


class Choosing(nn.Module):
    """Runs `often` in every pass, `seldom` when told to, and `cell` twice."""

    def __init__(self) -> None:
        super().__init__()
        self.often, self.seldom, self.cell = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.runs_seldom = True

    def forward(self, x: Tensor) -> Tensor:
        x = self.often(x)
        if self.runs_seldom:
            x = self.seldom(x)
        return self.cell(self.cell(x))  # type: ignore[no-any-return]


def choosing() -> tuple[Choosing, GrowthOptimizer]:
    torch.manual_seed(0)
    model = attach(Choosing(), ["often", "seldom", "cell"], torch.zeros(2, 4))
    return model, GrowthOptimizer(torch.optim.SGD(model.parameters(), lr=0.01))


def train(model: Choosing, optimizer: GrowthOptimizer, steps: int, *, seldom: bool) -> None:
    model.runs_seldom = seldom
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.ones(2, 4)).sum().backward()
        optimizer.step()


def test_the_table_stands_in_columns(
    capsys: pytest.CaptureFixture[str], golden: Callable[[str, str], None]
) -> None:
    model = attach(conv_host(), ["conv1", "norm1", "act2", "head"], batches(1)[0][0])
    model.get_submodule("conv2").requires_grad_(False)
    fossilize(model, "conv1", nn.Conv2d(6, 6, 1))
    slots(model)["norm1"].germinate("conv_enhance", expand=4)
    slots(model)["norm1"].hook.set_alpha(0.25)
    print_slots(model)
    golden("slots.txt", capsys.readouterr().out)


def test_a_model_without_slots_has_no_table() -> None:
    with pytest.raises(NotAttached):
        print_slots(conv_host())


def test_a_module_that_runs_once_in_each_step_is_ok() -> None:
    model, optimizer = choosing()
    assert slots(model)["often"].status == "ok"
    train(model, optimizer, 3, seldom=True)
    assert slots(model)["often"].status == "ok"


def test_a_module_that_runs_twice_in_a_pass_is_irregular() -> None:
    model, _ = choosing()
    assert slots(model)["cell"].status == "irregular: 2 calls a pass"


def test_a_module_that_runs_in_some_steps_only_is_irregular() -> None:
    model, optimizer = choosing()
    train(model, optimizer, 2, seldom=True)
    train(model, optimizer, 3, seldom=False)
    train(model, optimizer, 1, seldom=True)
    assert slots(model)["seldom"].status == "irregular: ran in 3 of 6 steps"


def test_a_module_that_ran_no_more_says_since_when() -> None:
    model, optimizer = choosing()
    train(model, optimizer, 2, seldom=True)
    train(model, optimizer, IDLE_STEPS, seldom=False)
    assert slots(model)["seldom"].status == "never ran since step 2"
    model.runs_seldom = True
    model(torch.ones(2, 4))
    assert slots(model)["seldom"].status == f"irregular: ran in 2 of {2 + IDLE_STEPS} steps"


def test_a_module_that_ran_in_evaluation_alone_never_ran() -> None:
    model, optimizer = choosing()
    model.runs_seldom = True
    with torch.no_grad():
        model(torch.ones(2, 4))
    train(model, optimizer, 1, seldom=False)
    assert slots(model)["seldom"].status == "never ran since attach"


def test_a_compiled_module_is_not_counted() -> None:
    model, _ = choosing()
    torch.compile(model, backend="eager")(torch.ones(2, 4))
    assert slots(model)["often"].status == "compiled, so not counted"
    torch.compiler.reset()
