"""The blend is exact at both ends, and alpha rises monotonically on every schedule."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from esper.kasmina.blending import ALPHA_SHAPES, AlphaSchedule, blend
from esper.kasmina.errors import UnknownChoice
from esper.kasmina.hook import Phase, SlotHook

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_both_ends_are_exact(dtype: torch.dtype) -> None:
    host, seed = (torch.randn(1000, dtype=torch.float64) * 100).to(dtype), torch.randn(1000).to(dtype)
    assert torch.equal(blend(host, seed, torch.tensor(0.0)), host)
    assert torch.equal(blend(host, seed, torch.tensor(1.0)), seed)


def test_half_precision_is_blended_in_float32_and_rounded_once() -> None:
    host, seed, alpha = (
        torch.ones(1, dtype=torch.bfloat16),
        torch.full((1,), 3.0).bfloat16(),
        torch.tensor(0.3),
    )
    exact = torch.lerp(host.float(), seed.float(), alpha).bfloat16()
    assert torch.equal(blend(host, seed, alpha), exact)


def test_alpha_may_move_between_forward_and_backward() -> None:
    host, seed, alpha = (
        torch.ones(3, requires_grad=True),
        torch.zeros(3, requires_grad=True),
        torch.tensor(0.25),
    )
    blended = blend(host, seed, alpha)
    alpha.fill_(1.0)
    blended.sum().backward()
    assert host.grad is not None and seed.grad is not None
    assert (host.grad[0].item(), seed.grad[0].item()) == (0.75, 0.25)


@given(st.sampled_from(sorted(ALPHA_SHAPES)), st.integers(1, 400))
def test_a_schedule_rises_from_exactly_0_to_exactly_1(shape: str, steps: int) -> None:
    schedule = AlphaSchedule(shape, steps)
    values = [schedule.at(step) for step in range(-1, steps + 2)]
    assert values[:2] == [0.0, 0.0]
    assert values[-2:] == [1.0, 1.0]
    assert values == sorted(values)


@pytest.mark.parametrize("shape", sorted(ALPHA_SHAPES))
def test_a_schedule_is_half_way_in_the_middle(shape: str) -> None:
    assert AlphaSchedule(shape, 100).at(50) == pytest.approx(0.5)


def test_an_unknown_shape_or_an_empty_schedule_is_refused() -> None:
    with pytest.raises(UnknownChoice, match="`square`"):
        AlphaSchedule("square")
    with pytest.raises(UnknownChoice, match="length"):
        AlphaSchedule(steps=0)


def test_at_alpha_0_the_seed_is_bypassed_so_that_its_nan_stays_inside() -> None:
    class Broken(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * torch.nan

    hook = SlotHook(None, 0)
    hook.put(Broken())
    hook.phase = Phase.IN_PLACE
    tensor = torch.ones(3)
    assert hook(nn.Identity(), (), tensor) is None
    hook.set_alpha(0.5)
    assert hook(nn.Identity(), (), tensor).isnan().all()
