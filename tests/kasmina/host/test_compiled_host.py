"""A host under `torch.compile`: it grows as the same host does uncompiled, and never falls back to eager."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._dynamo.utils import counters

from esper.kasmina.attach import attach
from esper.kasmina.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from esper.kasmina.errors import CompiledHost, GateRefused
from esper.kasmina.host import compiled_host
from esper.kasmina.host.blending import AlphaSchedule
from esper.kasmina.host.hook import Phase, Role
from esper.kasmina.lifecycle.bank import slots
from esper.kasmina.lifecycle.gates import GateParameters
from esper.kasmina.lifecycle.slot import SeedSlot
from esper.kasmina.training.governor import GovernorParameters
from esper.kasmina.training.growth import Growth
from esper.kasmina.training.optimizer import GrowthOptimizer
from esper.leyline.stages import SeedStage

X = torch.randn(8, 3, 6, 6, generator=torch.Generator().manual_seed(0))
Y = torch.randint(0, 10, (8,), generator=torch.Generator().manual_seed(1))
BLEND_STEPS = 3


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(self._block(a, 8) for a in (3, 8))
        self.head = nn.Linear(8, 10)

    def _block(self, inputs: int, outputs: int) -> nn.Module:
        convolution = nn.Conv2d(inputs, outputs, 3, padding=1)
        return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """No code from before, and an error where a function has too many versions to be compiled once more."""
    torch.compiler.reset()
    counters.clear()
    with torch._dynamo.config.patch(fail_on_recompile_limit_hit=True):
        yield
    torch.compiler.reset()


class Run:
    """A network that grows, compiled or not; `backend` None is uncompiled."""

    def __init__(self, backend: str | None, kind: type[torch.optim.Optimizer] = torch.optim.AdamW) -> None:
        torch.manual_seed(0)
        self.model = attach(Network(), slots=r"blocks\.[01]", example=X)
        self.optimizer = GrowthOptimizer(kind, self.model.parameters(), lr=1e-2)
        self.growth = Growth(
            self.model,
            self.optimizer,
            policy="never",
            loss=lambda model, batch: F.cross_entropy(model(batch[0]), batch[1]),
            evaluate=lambda model: F.cross_entropy(model(X), Y, reduction="none"),
            gates=GateParameters(permissive=True),
            blend=AlphaSchedule(steps=BLEND_STEPS),
            governor=GovernorParameters(embargo=0),
        )
        self.call = self.model if backend is None else torch.compile(self.model, backend=backend)

    def slot(self, life: int) -> SeedSlot:
        return slots(self.model)[f"blocks.{life % 2}"]

    def train(self, steps: int) -> Tensor:
        """The last loss."""
        self.model.train()
        for _ in range(steps):
            self.optimizer.zero_grad()
            loss = F.cross_entropy(self.call(X), Y)
            loss.backward()
            self.optimizer.step()
            self.growth.observe(loss, (X, Y))
        return loss.detach()

    def evaluated(self) -> Tensor:
        self.model.eval()
        with torch.no_grad():
            logits: Tensor = self.call(X)
        return logits

    def to_dormant(self, slot: SeedSlot) -> None:
        slot.cull("its time is over")
        while slot.stage is not SeedStage.DORMANT:
            self.growth.step()


def test_twelve_lives_are_those_of_an_uncompiled_host_and_stages_recompile_nothing() -> None:
    runs = [Run("eager"), Run(None)]

    def trained(steps: int = 2) -> None:
        compiled, plain = (run.train(steps) for run in runs)
        assert torch.equal(compiled, plain)

    def evaluated() -> None:
        compiled, plain = (run.evaluated() for run in runs)
        assert torch.equal(compiled, plain)

    trained()
    for life in range(12):
        for run in runs:
            run.slot(life).germinate("conv_enhance")
            run.slot(life).advance()
        trained(1)
        before = counters["frames"]["ok"]
        trained(2)
        for run in runs:
            run.slot(life).advance()
        trained(BLEND_STEPS)  # alpha moves
        for stage in (SeedStage.SHADOWING, SeedStage.PROBATIONARY):
            for run in runs:
                run.slot(life).advance()
                assert run.slot(life).stage is stage
            trained(1)
        assert counters["frames"]["ok"] == before
        evaluated()
        for run in runs:
            if life < 10:
                run.to_dormant(run.slot(life))
            else:
                run.slot(life).advance()
                assert run.slot(life).stage is SeedStage.FOSSILIZED
        trained()
    assert counters["frames"]["ok"] == counters["frames"]["total"] > 0
    assert not counters["graph_break"] and not counters["unimplemented"]
    weights = [dict(run.model.state_dict()) for run in runs]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[1])


@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.*:DeprecationWarning")
def test_code_that_inductor_generates_serves_every_stage() -> None:
    """By SGD: Adam makes whole steps of gradients that are 0 but for their rounding."""
    runs = [Run(backend, torch.optim.SGD) for backend in ("inductor", None)]
    for run in runs:
        run.slot(0).germinate("conv_enhance")
    for steps in (2, BLEND_STEPS, 1, 1):  # TRAINING to PROBATIONARY
        for run in runs:
            run.slot(0).advance()
        torch.testing.assert_close(*(run.train(steps) for run in runs))
    assert counters["frames"]["ok"] == counters["frames"]["total"] == 1
    assert not compiled_host._HELD  # of a pass, once it went back


def test_a_resting_slot_and_a_fossilized_seed_break_no_graph() -> None:
    run = Run("aot_eager")
    run.train(1)
    slot = run.slot(0)
    slot.germinate("conv_enhance")
    slot.advance()
    run.train(2)
    slot.advance()
    run.train(BLEND_STEPS)
    while slot.stage is not SeedStage.FOSSILIZED:
        slot.advance()
    counters.clear()
    run.train(1)
    found = run.evaluated()
    assert not counters["graph_break"] and counters["stats"]["unique_graphs"] == 2  # training, evaluation
    torch.testing.assert_close(found, run.model(X), rtol=0, atol=0)


class Twice(nn.Module):
    """Calls one module twice on one tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(6, 6))

    def forward(self, x: Tensor) -> Tensor:
        difference: Tensor = self.inner(x) - self.inner(x)
        return difference


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the partitioner loads torch.jit
def test_two_calls_on_one_tensor_are_two() -> None:
    """A seed that draws random numbers draws for each."""
    model = attach(Twice(), slots="inner", example=X.flatten(2)[:, :, :6])
    GrowthOptimizer(torch.optim.SGD(model.parameters(), lr=0.1))
    slot = slots(model)["inner"]
    slot.plant(nn.Dropout(0.5), blueprint_id="noise")
    slot.hook.phase = Phase.IN_PLACE
    slot.hook.set_alpha(1.0)
    found = torch.compile(model, backend="aot_eager_decomp_partition")(X.flatten(2)[:, :, :6])
    assert found.abs().sum() > 0
    found.sum().backward()
    assert not counters["graph_break"]


def test_a_graph_serves_as_many_backward_passes_as_it_is_kept_for() -> None:
    run = Run("aot_eager")
    slot = run.slot(0)
    slot.germinate("conv_enhance")
    slot.advance()
    slot.advance()  # the gates are permissive
    slot.hook.set_alpha(0.5)
    run.model.train()
    losses = [F.cross_entropy(run.call(X), Y) for _ in range(3)]
    total = torch.stack(losses).sum()
    total.backward(retain_graph=True)
    first = [p.grad.clone() for p in slot.hook.trainable() if p.grad is not None]
    assert len(compiled_host._HELD) == 3
    total.backward()
    again = [p.grad for p in slot.hook.trainable() if p.grad is not None]
    assert first and all(torch.allclose(2 * a, b) for a, b in zip(first, again, strict=True))
    assert not compiled_host._HELD  # the graph was not kept


def test_a_fossilized_seed_is_built_in_after_a_checkpoint_too(tmp_path: Path) -> None:
    run = Run(None)
    slot = run.slot(0)
    slot.germinate("conv_enhance")
    while slot.stage is not SeedStage.FOSSILIZED:
        run.train(1)
        with suppress(GateRefused):
            slot.advance()
    save_checkpoint(tmp_path / "run.safetensors", growth=run.growth)
    resumed = Run("eager")
    load_checkpoint(tmp_path / "run.safetensors", growth=resumed.growth)
    assert resumed.slot(0).hook.role is Role.BUILT_IN
    resumed.train(1)
    assert not counters["graph_break"] and counters["stats"]["unique_graphs"] == 1


def test_slots_are_put_in_before_compiling() -> None:
    with pytest.raises(CompiledHost):
        compiled = torch.compile(Network(), backend="eager")
        assert isinstance(compiled, nn.Module)
        attach(compiled, slots="blocks.0", example=X)
