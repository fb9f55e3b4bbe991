"""Which tier runs: kernels take over between calls, and lose their place when they fail; both are told."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from torch._dynamo.utils import counters

import esper
from esper.ir import Builder, DType, TensorType, symbol
from esper.urza.eager.torch_tier import ready
from esper.urza.errors import TensorTooLarge
from esper.urza.run.bound_program import launch
from esper.urza.run.differentiable import Direction, Kernels, Sizes
from esper.urza.run.seed import CompiledSeed
from esper.urza.run.supply import EVERYTHING, Ready, Supply, Want, programs_of
from tests.urza.run.test_citizen import ByTorch, map_of

Tensors = Mapping[str, torch.Tensor]
IR = esper.lower("mlp_block", features=8)


class Misbehaving(ByTorch):
    """Kernels of which one direction is spoilt from some call on."""

    def __init__(self, direction: str, spoil: Callable[[Tensors], Tensors], after: int = 0) -> None:
        super().__init__(IR)
        self.direction, self.spoil, self.after = direction, spoil, after

    def kernels(self, device: torch.device, want: Want = EVERYTHING) -> Kernels | None:
        known = want in self.made
        kernels = super().kernels(device, want)
        if not known and kernels is not None:
            setattr(kernels, self.direction, self.spoilt(getattr(kernels, self.direction)))
        return kernels

    def spoilt(self, right: Direction) -> Direction:
        def run(given: Tensors, sizes: Sizes) -> Tensors:
            self.after -= 1
            found = right(given, sizes)
            return found if self.after >= 0 else self.spoil(found)

        return run


def off_by_a_thousandth(found: Tensors) -> Tensors:
    """One element of one result of all is wrong."""
    first = next(iter(found))
    wrong = found[first].clone()
    wrong.view(-1)[-1] += 1e-3 * wrong.abs().max()
    return {**found, first: wrong}


def saved_wrong(found: Tensors) -> Tensors:
    name = next(name for name in found if name.startswith("saved."))
    return {**found, name: found[name] * 1.01}


def not_a_number(found: Tensors) -> Tensors:
    return {name: tensor * float("nan") for name, tensor in found.items()}


def crash(found: Tensors) -> Tensors:
    raise RuntimeError("an illegal memory access was encountered")


def train(seed: CompiledSeed, steps: int = 4) -> list[torch.Tensor]:
    """The losses, then the weights, of a short run."""
    with torch.no_grad():
        generator = torch.Generator().manual_seed(4)
        for parameter in seed.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 4)
    optimizer = torch.optim.SGD(seed.parameters(), lr=0.01)
    losses = []
    for step in range(steps):
        loss = seed(map_of(2 + step, 3, 3, 8)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return [*losses, *(parameter.detach() for parameter in seed.parameters())]


def seed_with(supply: Supply | None, tier: str = "triton") -> CompiledSeed:
    generator = torch.Generator().manual_seed(5)
    return CompiledSeed(IR, generator=generator, tier=tier, supply=supply)  # type: ignore[arg-type]


def assert_bit_equal(found: list[torch.Tensor], expected: list[torch.Tensor]) -> None:
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(found, expected, strict=True))


@pytest.mark.parametrize("spoil", [off_by_a_thousandth, saved_wrong, not_a_number, crash])
def test_kernels_that_lie_or_fail_at_first_are_found_out_and_training_is_the_same(
    spoil: Callable[[Tensors], Tensors], caplog: pytest.LogCaptureFixture
) -> None:
    seed = seed_with(Misbehaving("forward", spoil))
    assert_bit_equal(train(seed), train(seed_with(None, "torch")))
    status = seed.status()
    assert (status.tier, status.quarantined, status.fallbacks) == ("torch", True, 1)
    assert status.calls == {"torch": 4, "triton": 0}
    told = [record for record in caplog.records if record.name == "esper"]
    assert [record.levelno for record in told] == [logging.WARNING]
    assert status.reason in told[0].message and status.reason.startswith("kernels are in quarantine: ")


@pytest.mark.parametrize("spoil", [off_by_a_thousandth, not_a_number, crash])
def test_gradients_that_lie_or_fail_at_first_are_replaced_by_torchs(
    spoil: Callable[[Tensors], Tensors], caplog: pytest.LogCaptureFixture
) -> None:
    seed = seed_with(Misbehaving("backward", spoil))
    for mine, theirs in zip(train(seed), train(seed_with(None, "torch")), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)
    assert seed.status().quarantined and seed.status().calls == {"torch": 3, "triton": 1}
    assert "quarantine" in caplog.records[-1].message


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_kernels_that_fail_later_lose_their_place_and_the_call_has_torchs_results(direction: str) -> None:
    seed = seed_with(Misbehaving(direction, crash, after=2))
    for mine, theirs in zip(train(seed), train(seed_with(None, "torch")), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)
    status = seed.status()
    assert status.quarantined and status.calls["triton"] in (2, 3)
    assert "illegal memory access" in status.reason


def test_the_same_infinities_and_nan_are_no_disagreement() -> None:
    seed = seed_with(ByTorch(IR))
    x = map_of(2, 3, 3, 8)
    x[0, 0, 0, 0], x[1, 1, 1, 1] = float("nan"), float("inf")
    seed(x).sum().backward()
    assert seed.status().tier == "triton"


class Slow(ByTorch):
    """Kernels that are ready once `open` is set."""

    open = False

    def kernels(self, device: torch.device, want: Want = EVERYTHING) -> Kernels | None:
        return super().kernels(device, want) if self.open else None

    def target(self, device: torch.device) -> str | None:
        return "sm_90"


def test_kernels_take_over_between_two_calls_and_each_step_is_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "esper")
    supply = Slow(IR)
    seed, x = seed_with(supply), map_of(2, 3, 3, 8)
    pending = [seed(x) for _ in range(3)]
    assert seed.status().reason == "kernels are being built for sm_90"
    supply.open = True
    pending.append(seed(x))
    status = seed.status()
    assert (status.tier, status.calls, status.fallbacks) == ("triton", {"torch": 3, "triton": 1}, 3)
    torch.stack([y.sum() for y in pending]).sum().backward()
    assert [record.message for record in caplog.records] == [
        "mlp_block: kernels are being built for sm_90",
        "mlp_block: kernels agree with torch and take over",
    ]


# --- builds that die ---


class Built(Supply):
    """A GPU that is not there: kernels are truly built for sm_90, and torch stands in for their launches."""

    def target(self, device: torch.device) -> str | None:
        return "sm_90"

    def bind(self, ready: Ready, device: torch.device) -> Kernels:
        stand_in = ByTorch(self.ir).kernels(device)
        assert stand_in is not None and ready.codes
        return stand_in


@pytest.fixture
def kernel_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ESPER_CACHE_DIR", str(tmp_path))
    return tmp_path


def wait_for_builds() -> None:
    for thread in threading.enumerate():
        if thread.name.startswith("esper-kernels-"):
            thread.join(timeout=120)


@pytest.mark.usefixtures("kernel_cache")
def test_a_seed_trains_while_its_kernels_are_built_and_changes_over(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "esper")
    ir = esper.lower("norm", features=16)
    seed = CompiledSeed(ir, tier="triton", supply=Built(ir))
    seed(map_of(2, 3, 3, 16)).sum().backward()
    assert seed.status().tier == "torch"
    wait_for_builds()
    seed(map_of(2, 3, 3, 16)).sum().backward()
    assert seed.status().tier == "triton" and seed.status().calls == {"torch": 1, "triton": 1}
    messages = [record.message for record in caplog.records]
    assert messages[0].startswith("norm: kernels are being built for sm_90 (gradients of ")
    assert any("kernels for sm_90 are ready after" in message for message in messages)


def test_a_build_worker_that_dies_leaves_training_as_it_was(
    kernel_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker is a real one, whose Python dies as it starts."""
    deadly = kernel_cache / "deadly"
    deadly.mkdir()
    (deadly / "sitecustomize.py").write_text("import os\nos.kill(os.getpid(), 9)\n")
    supply = Built(IR)
    seed = seed_with(supply)
    with monkeypatch.context() as patch:
        patch.syspath_prepend(str(deadly))
        seed(map_of(2, 3, 3, 8)).sum().backward()
        wait_for_builds()
    assert_bit_equal(train(seed), train(seed_with(None, "torch")))
    status = seed.status()
    assert status.quarantined and "KernelBuildFailed" in status.reason
    again = seed_with(supply)  # another seed asks again
    again(map_of(2, 3, 3, 8))
    wait_for_builds()
    again(map_of(2, 3, 3, 8))
    assert again.status().tier == "triton", again.status()


# --- nothing is compiled again ---


def compilations() -> int:
    """Graphs compiled for the torch tier and programs planned for kernels, in this process."""
    return ready.cache_info().misses + programs_of.cache_info().misses


def test_sizes_modes_and_swaps_compile_nothing_again() -> None:
    """100 seeds of one blueprint after another, in training and eval mode, at many sizes."""
    ir = esper.lower("resnet_block", channels=4)
    supply = ByTorch(ir)
    for tier in ("torch", "triton"):
        first = CompiledSeed(ir, tier=tier, supply=supply)
        x = map_of(2, 4, 5, 5)
        first(x).sum().backward()
        first.eval()(x)
        before = compilations()
        for swap in range(100):
            seed = CompiledSeed(ir, tier=tier, supply=supply)
            x = map_of(2 + swap % 7, 4, 3 + swap % 5, 4 + swap % 11)
            seed(x).sum().backward()
            seed.eval()(x)
            assert seed.status().calls[tier] > 0
        assert compilations() == before


@pytest.mark.parametrize("tier", ["torch", "triton"])
def test_ten_thousand_values_of_alpha_compile_nothing_again(tier: str) -> None:
    """Alpha is a tensor, and so is the random seed, which changes at each call."""
    build = Builder("dropping")
    x = build.input("x", TensorType(DType.F32, (symbol("N"), 4)))
    weight = build.param("weight", TensorType(DType.F32, (4,)), init="ones")
    h = build.op("dropout", build.op("mul", x, weight), build.seed(), p=0.5, offset=0)
    ir = build.finish({"y": h})
    seed = CompiledSeed(ir, tier=tier, supply=ByTorch(ir))  # type: ignore[arg-type]
    given, alpha = map_of(2, 4), torch.zeros(())
    seed(given).sum().backward()
    before = compilations()
    for step in range(10_000):
        alpha.fill_(step / 10_000)
        torch.lerp(given, seed(given), alpha)
    assert compilations() == before
    assert seed.status().calls[tier] == 10_001


def test_alpha_and_the_dropout_seed_compile_a_host_once() -> None:
    torch._dynamo.reset()
    counters.clear()
    ir = esper.lower("transformer_block", d_model=4, n_heads=1, d_ff=4)
    seed = CompiledSeed(ir)
    alpha = torch.zeros(())

    @torch.compile(backend="aot_eager", fullgraph=True)
    def host(x: torch.Tensor) -> torch.Tensor:
        return torch.lerp(x, seed(x), alpha)

    x = map_of(2, 2, 4)
    for step in range(100):
        alpha.fill_(step / 100)
        host(x)
    assert counters["stats"]["unique_graphs"] == 1 and not counters["graph_break"]


# --- tensors as they come ---


def test_sliced_transposed_and_expanded_inputs_give_what_copies_of_them_give() -> None:
    seed = seed_with(ByTorch(IR))
    whole = map_of(6, 3, 3, 16)
    views = [
        whole[1::2, :, :, ::2],
        whole[..., 1:9],
        map_of(8, 3, 3, 2).permute(3, 1, 2, 0),
        map_of(1, 3, 1, 8).expand(4, 3, 5, 8),
    ]
    for view in views:
        torch.testing.assert_close(seed(view), seed(view.contiguous()))
    assert seed.status().fallbacks == 0


def test_a_tensor_past_32_bits_is_refused_before_a_kernel_sees_it() -> None:
    """By its shape alone: an expanded tensor of 2**31 elements takes the room of one row."""
    kernels = Kernels(programs_of(IR, EVERYTHING), launch, torch.device("cpu"))
    seed = seed_with(None)
    given = {"x": torch.empty(8).expand(2**14, 2**14, 1, 8), **dict(seed.named_parameters())}
    with pytest.raises(TensorTooLarge, match="`x` has 2147483648 elements"):
        kernels.forward(given, kernels.sizes(given))
