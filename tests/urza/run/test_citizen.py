"""A seed inside PyTorch's own machinery: autograd, autocast, torch.compile, export, copies, checkpointing."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters
from torch.utils.checkpoint import checkpoint

import esper
from esper.urza.eager.recomputation import first_run
from esper.urza.errors import NoSecondGradient, RecomputedElsewhere
from esper.urza.run.differentiable import Kernels, TorchDirections
from esper.urza.run.seed import CompiledSeed
from esper.urza.run.supply import EVERYTHING, Supply, Want, programs_of
from esper.urza.run.tiers import Tier

CPU = torch.device("cpu")


class ByTorch(Supply):
    """Stands in for a GPU: the two graphs that kernels compute, by torch's operators.

    asked: what was wanted, in order.
    """

    def __init__(self, ir: esper.BlueprintIR) -> None:
        super().__init__(ir)
        self.asked: list[Want] = []
        self.made: dict[Want, Kernels] = {}

    def kernels(self, device: torch.device, want: Want = EVERYTHING) -> Kernels | None:
        self.asked.append(want)
        if want not in self.made:
            programs = programs_of(self.ir, want)
            kernels = self.made[want] = Kernels(programs, lambda *arguments: None, device)
            by_torch = TorchDirections(programs)
            kernels.forward, kernels.backward = by_torch.forward, by_torch.backward
        return self.made[want]


def seed_of(tier: Tier, name: str = "mlp_block", **params: int | float) -> CompiledSeed:
    """A seed with weights that are nowhere zero; on the triton tier it needs no GPU."""
    ir = esper.lower(name, **params)
    generator = torch.Generator().manual_seed(1)
    seed = CompiledSeed(ir, generator=generator, tier=tier, supply=ByTorch(ir))
    with torch.no_grad():
        for parameter in seed.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
    return seed


def mlp(tier: Tier) -> CompiledSeed:
    return seed_of(tier, features=8)


def dropping(tier: Tier) -> CompiledSeed:
    return seed_of(tier, "transformer_block", d_model=8, n_heads=2, dropout=0.5)


def map_of(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(2))


def gradients(module: Any, *results: torch.Tensor) -> dict[str, torch.Tensor]:
    """Of all parameters, for the sum of squares of `results`; they are let go of."""
    module.zero_grad()
    torch.stack([result.square().sum() for result in results]).sum().backward()
    found = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
    module.zero_grad()
    return found


both = pytest.mark.parametrize("tier", ["torch", "triton"])


# --- autograd ---


def test_a_gradient_of_a_gradient_is_torchs_on_the_torch_tier() -> None:
    seed, x = mlp("torch").double(), map_of(2, 3, 3, 8).double().requires_grad_()
    (first,) = torch.autograd.grad(seed(x).square().sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), x)
    step = 1e-6 * map_of(2, 3, 3, 8).double()

    def first_at(place: torch.Tensor) -> torch.Tensor:
        place = place.detach().requires_grad_()
        return torch.autograd.grad(seed(place).square().sum(), place)[0]

    change = (first_at(x + step).square().sum() - first_at(x - step).square().sum()) / 2
    torch.testing.assert_close((second * step).sum(), change, rtol=1e-5, atol=0.0)


def test_a_gradient_of_a_gradient_is_refused_on_the_triton_tier() -> None:
    seed, x = mlp("triton"), map_of(2, 3, 3, 8).requires_grad_()
    (first,) = torch.autograd.grad(seed(x).square().sum(), x, create_graph=True)
    assert first.requires_grad
    with pytest.raises(NoSecondGradient, match="mlp_block"):
        first.sum().backward()


def test_a_recorded_backward_pass_gives_the_same_gradient() -> None:
    seed, x = mlp("triton"), map_of(2, 3, 3, 8).requires_grad_()
    recorded, plain = (
        torch.autograd.grad(seed(x).square().sum(), x, create_graph=create_graph)[0]
        for create_graph in (True, False)
    )
    assert torch.equal(recorded, plain)


@both
def test_gradients_that_nobody_asks_for_are_not_computed(tier: Tier) -> None:
    seed, x = mlp(tier), map_of(2, 3, 3, 8)
    whole = gradients(seed, seed(x))
    seed.linear.requires_grad_(False)
    part = gradients(seed, seed(x))
    assert set(whole) - set(part) == {"linear.weight", "linear.bias"}
    assert all(torch.allclose(part[name], whole[name], atol=1e-6) for name in part)
    if tier == "triton":
        supply = seed._tiers.supply
        assert isinstance(supply, ByTorch)
        learned = {"layer_norm.weight", "layer_norm.bias", "linear_2.weight", "linear_2.bias"}
        assert supply.asked[-1] == Want(frozenset(learned))
        (_, kernels) = supply.made.items()
        assert {f"grad.{name}" for name in learned} == {
            name for name, _ in kernels[1].programs.parts.backward.outputs
        }


@both
def test_without_gradients_nothing_is_kept(tier: Tier) -> None:
    seed = mlp(tier)
    with torch.no_grad():
        assert seed(map_of(2, 3, 3, 8)).grad_fn is None


# --- dtypes ---


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
@both
def test_a_seed_computes_in_the_dtype_that_its_weights_were_taken_to(tier: Tier, dtype: torch.dtype) -> None:
    for name in ("mlp_block", "resnet_block", "gru_layer"):
        seed = seed_of(tier, name)
        wide, narrow = seed.double(), copy.deepcopy(seed).to(dtype)
        x = map_of(
            *(
                (2, 4, 64)
                if name == "gru_layer"
                else (2, 64, 4, 4)
                if name == "resnet_block"
                else (2, 3, 3, 256)
            )
        )
        found = narrow(x.to(dtype))
        assert found.dtype is dtype
        torch.testing.assert_close(found.double(), wide(x.double()), rtol=0.1, atol=0.2)
        assert narrow.status().calls["triton"] == 0


@both
def test_under_autocast_products_are_narrow_and_outputs_have_the_declared_dtype(tier: Tier) -> None:
    seed, x = mlp(tier), map_of(4, 3, 3, 8).requires_grad_()
    exact = seed(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        narrow = seed(x.bfloat16())
        assert narrow.dtype is torch.float32
    assert 1e-4 < (narrow - exact).abs().max() < 0.1
    found = gradients(seed, narrow)
    assert all(gradient.dtype is torch.float32 for gradient in found.values()) and len(found) == 6
    if tier == "triton":
        assert seed.status().calls == {"torch": 0, "triton": 2}


# --- torch.compile and torch.export ---


class Host(nn.Module):
    """A model around a seed: alpha is a tensor, as in a slot."""

    def __init__(self, seed: nn.Module) -> None:
        super().__init__()
        self.first = nn.Linear(8, 8)
        self.seed = seed
        self.last = nn.Linear(8, 3)
        self.register_buffer("alpha", torch.tensor(0.5))

    alpha: torch.Tensor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.first(x).relu()
        found: torch.Tensor = self.last(torch.lerp(h, self.seed(h), self.alpha))
        return found


@pytest.fixture
def fresh_dynamo() -> None:
    torch._dynamo.reset()
    counters.clear()


BACKENDS = ["aot_eager", "inductor"]


@both
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.*:DeprecationWarning")
@pytest.mark.usefixtures("fresh_dynamo")
def test_a_compiled_host_is_one_graph_around_the_seed(tier: Tier, backend: str) -> None:
    host = Host(mlp(tier))
    compiled = torch.compile(copy.deepcopy(host), fullgraph=True, backend=backend)
    for rows in (2, 3, 5):
        x = map_of(rows, 3, 3, 8)
        torch.testing.assert_close(compiled(x), host(x), rtol=1e-4, atol=1e-5)
        for name, mine in gradients(compiled, compiled(x)).items():
            theirs = gradients(host, host(x))[name.removeprefix("_orig_mod.")]
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)
    assert not counters["graph_break"]
    assert counters["stats"]["unique_graphs"] == 2  # the second is of any number of rows


@pytest.mark.usefixtures("fresh_dynamo")
def test_a_compiled_seed_that_drops_draws_other_numbers_at_each_call() -> None:
    for tier in ("torch", "triton"):
        seed, plain = dropping(tier), dropping("torch")
        compiled = torch.compile(seed, fullgraph=True, backend="aot_eager")
        x = map_of(2, 4, 8)
        first, second = compiled(x), compiled(x)
        assert not torch.equal(first, second)
        torch.testing.assert_close(first, plain(x))
        torch.testing.assert_close(second, plain(x))


@pytest.mark.usefixtures("fresh_dynamo")
def test_a_compiled_host_refuses_gradients_of_gradients() -> None:
    from esper.urza.run import host_compile

    seed, x = mlp("triton"), map_of(2, 3, 3, 8).requires_grad_()
    handle = seed._prepare_trace()
    (y, *_) = host_compile.call(handle, [x, *(seed._find(name) for name in seed._names)])
    (first,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    with pytest.raises(NoSecondGradient, match="mlp_block"):
        first.sum().backward()


@both
def test_torch_export_gives_torchs_operators_alone(tier: Tier) -> None:
    seed = mlp(tier)
    x = map_of(2, 3, 3, 8)
    exported = torch.export.export(seed, (x,), dynamic_shapes=(({0: torch.export.Dim.DYNAMIC},),))
    assert not any("esper" in str(node.target) for node in exported.graph.nodes)
    for rows in (2, 5):
        x = map_of(rows, 3, 3, 8)
        torch.testing.assert_close(exported.module()(x), seed(x))


# --- copies, state ---


@both
def test_a_deep_copy_learns_by_itself_and_shares_the_kernels(tier: Tier) -> None:
    host = Host(mlp(tier))
    x = map_of(2, 3, 3, 8)
    host(x)
    twin = copy.deepcopy(host)
    assert isinstance(twin.seed, CompiledSeed) and isinstance(host.seed, CompiledSeed)
    assert twin.seed.status() == host.seed.status()
    assert twin.seed._tiers.supply is host.seed._tiers.supply
    torch.optim.SGD(twin.parameters(), lr=0.1).step(lambda: twin(x).square().sum().backward() or 0.0)
    mine, theirs = (host.seed.get_parameter("linear.weight") for host in (twin, host))
    assert not torch.equal(mine, theirs)
    assert twin.seed.status().calls != host.seed.status().calls


def test_state_is_the_same_on_every_tier() -> None:
    tiers: tuple[Tier, Tier] = ("torch", "triton")
    states = [seed_of(tier, "resnet_block", channels=4).state_dict() for tier in tiers]
    assert list(states[0]) == list(states[1])
    x = map_of(2, 4, 5, 5)
    found = []
    for tier, other in zip(tiers, (1, 0), strict=True):
        seed = seed_of(tier, "resnet_block", channels=4)
        seed.load_state_dict(states[other])
        seed(x)
        found.append(seed.state_dict())
    for name in found[0]:
        torch.testing.assert_close(found[0][name], found[1][name])


@both
def test_a_weight_that_is_parametrized_takes_part(tier: Tier) -> None:
    seed, x = mlp(tier), map_of(2, 3, 3, 8)
    before = seed(x)
    torch.nn.utils.parametrizations.weight_norm(seed.get_submodule("linear"))
    torch.testing.assert_close(seed(x), before)
    assert "linear.parametrizations.weight.original1" in gradients(seed, seed(x))


@both
def test_torch_func_calls_a_seed_with_weights_of_its_own(tier: Tier) -> None:
    seed, x = mlp(tier), map_of(2, 3, 3, 8)
    doubled = {name: parameter * 2 for name, parameter in seed.named_parameters()}
    expected = copy.deepcopy(seed)
    with torch.no_grad():
        for parameter in expected.parameters():
            parameter.mul_(2)
    torch.testing.assert_close(torch.func.functional_call(seed, doubled, (x,)), expected(x))


# --- activation checkpointing ---


@both
@pytest.mark.parametrize("use_reentrant", [True, False])
@pytest.mark.parametrize("make", [mlp, dropping, lambda tier: seed_of(tier, "resnet_block", channels=8)])
def test_checkpointing_changes_no_gradient_and_no_buffer(
    make: Callable[[Tier], CompiledSeed], use_reentrant: bool, tier: Tier
) -> None:
    """The region calls the seed twice on one input; two regions are alive at once."""
    x = map_of(2, 8, 8) if make is dropping else map_of(2, 8, 8, 8)

    def region(seed: nn.Module, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = seed(x) - 2 * seed(x)
        return found

    states, found = [], []
    for checkpointed in (False, True):
        seed = make(tier)
        given = x.clone().requires_grad_()
        if checkpointed:
            results = [checkpoint(region, seed, given, use_reentrant=use_reentrant) for _ in range(2)]
        else:
            results = [region(seed, given) for _ in range(2)]
        found.append({**gradients(seed, *results), "input": given.grad})
        states.append(seed.state_dict())
    for name in found[0]:
        torch.testing.assert_close(found[0][name], found[1][name], msg=name)
    for name in states[0]:
        torch.testing.assert_close(states[0][name], states[1][name], msg=name)


def test_a_region_may_be_computed_again_more_than_once() -> None:
    seed, x = dropping("torch"), map_of(2, 4, 8).requires_grad_()
    y = checkpoint(seed, x, use_reentrant=False)
    first = torch.autograd.grad(y.sum(), x, retain_graph=True)[0]
    second = torch.autograd.grad(y.sum(), x)[0]
    assert torch.equal(first, second)


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_a_region_inside_a_first_run_is_recomputed_with_what_it_drew(use_reentrant: bool) -> None:
    """A seed that runs in the host's backward pass has a backward pass of its own."""
    found = []

    def train(gradient: torch.Tensor) -> None:
        for checkpointed in (False, True):
            seed, x = dropping("torch"), map_of(2, 4, 8).requires_grad_()
            with first_run(), torch.enable_grad():
                for _ in range(2):
                    y = checkpoint(seed, x, use_reentrant=use_reentrant) if checkpointed else seed(x)
                    y.square().sum().backward()
            found.append(x.grad)

    waits = torch.ones(1, requires_grad=True) * 2
    waits.register_hook(train)
    waits.sum().backward()
    plain, again = found
    torch.testing.assert_close(plain, again)


def test_dropout_that_cannot_be_found_again_is_an_error() -> None:
    seed, x = dropping("torch"), map_of(2, 4, 8).requires_grad_()
    y = seed(x)
    y.register_hook(lambda gradient: seed(x).detach())
    with pytest.raises(RecomputedElsewhere, match="drew its dropout elsewhere"):
        y.sum().backward()


# --- profilers ---


@both
def test_profilers_see_a_seed_by_its_name(tier: Tier) -> None:
    seed, x = mlp(tier), map_of(2, 3, 3, 8)
    seed(x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            seed(x).sum().backward()
    names = {event.key for event in profile.key_averages()}
    assert "esper.mlp_block" in names
    assert tier == "torch" or "esper.mlp_block backward" in names
