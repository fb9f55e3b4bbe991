"""The counter hash behaves like independent uniform draws, within what chance allows (|z| < 4.5)."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from esper.ops.reference.random import Mask, Masks, dropout, uniform

COUNT = 1 << 18
LIMIT = 4.5


def correlation_z(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a, b]))[0, 1] * len(a) ** 0.5)


@pytest.mark.parametrize("seed", [0, 1, 2**33, -7])
def test_mean_and_variance(seed: int) -> None:
    x = uniform(seed, 0, (COUNT,)).double()
    assert abs(x.mean().item() - 0.5) * (12 * COUNT) ** 0.5 < LIMIT
    assert abs(x.var().item() - 1 / 12) * (180 * COUNT) ** 0.5 < LIMIT


@pytest.mark.parametrize("lag", [1, 2, 3, 16, 64, 256, 1000, 1024])
def test_neighbours_are_uncorrelated(lag: int) -> None:
    x = uniform(3, 0, (COUNT,)).double()
    assert abs(correlation_z(x[:-lag], x[lag:])) < LIMIT


@pytest.mark.parametrize("other", [(3, 1), (3, 2**31), (4, 0), (3 + 2**32, 0), (-3, 0)])
def test_streams_of_other_seeds_and_offsets_are_uncorrelated(other: tuple[int, int]) -> None:
    x, y = uniform(3, 0, (COUNT,)).double(), uniform(*other, (COUNT,)).double()
    assert abs(correlation_z(x, y)) < LIMIT
    assert not torch.equal(x.sort().values, y.sort().values)


def test_each_of_the_24_bits_is_set_half_of_the_time() -> None:
    bits = (uniform(5, 9, (COUNT,)) * 2**24).long()
    for position in range(24):
        share = ((bits >> position) & 1).double().mean().item()
        assert abs(share - 0.5) * 2 * COUNT**0.5 < LIMIT, position


def test_values_fill_cells_evenly() -> None:
    cells = (uniform(11, 2, (COUNT,)) * 256).long().bincount(minlength=256).double()
    expected = COUNT / 256
    chi_square = ((cells - expected) ** 2 / expected).sum().item()
    assert abs(chi_square - 255) / (2 * 255) ** 0.5 < LIMIT


def test_pairs_fill_the_square_evenly() -> None:
    x = (uniform(12, 2, (COUNT,)) * 16).long()
    cells = (x[::2] * 16 + x[1::2]).bincount(minlength=256).double()
    expected = COUNT / 2 / 256
    chi_square = ((cells - expected) ** 2 / expected).sum().item()
    assert abs(chi_square - 255) / (2 * 255) ** 0.5 < LIMIT


def test_the_seed_may_be_a_tensor_and_the_shape_is_a_view_of_the_stream() -> None:
    drawn = uniform(torch.tensor(9), 4, (6, 7))
    assert torch.equal(drawn.flatten(), uniform(9, 4, (42,)))
    assert drawn.dtype == torch.float32 and drawn.min() >= 0 and drawn.max() < 1


SEEDS = st.one_of(st.integers(-(2**63), 2**63 - 1), st.sampled_from([2**63 - 2, -(2**63), 2**32 - 2, -2]))
MASKS = st.builds(
    Mask,
    offset=st.integers(0, 2**31 - 1),
    p=st.one_of(st.floats(0.0, 0.999), st.sampled_from([0.1, 0.5, 0.7, 2.0**-25])),
    shape=st.lists(st.integers(1, 4), max_size=4).map(tuple),
)


@given(
    seed=SEEDS,
    masks=st.lists(MASKS, min_size=1, max_size=4, unique_by=lambda m: m.offset),
    calls=st.integers(1, 4),
)
def test_masks_that_are_drawn_together_are_those_that_dropout_draws(
    seed: int, masks: list[Mask], calls: int
) -> None:
    ahead = Masks(masks, calls).drawn(seed)
    assert len(ahead) == calls
    for one, drawn in ahead.items():
        wrapped = (one + 2**63) % 2**64 - 2**63  # as the counter of an int64 tensor goes on
        for mask in masks:
            ones = torch.ones(mask.shape)
            alone = dropout(ones, torch.tensor(wrapped), p=mask.p, offset=mask.offset)
            assert torch.equal(dropout(ones, drawn, p=mask.p, offset=mask.offset), alone)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_a_mask_ahead_is_passed_over_where_it_does_not_fit(dtype: torch.dtype) -> None:
    drawn = Masks([Mask(3, 0.25, (4, 8))], 1).drawn(5)[5]
    for shape, offset, p in [((4, 8), 3, 0.25), ((8, 4), 3, 0.25), ((4, 8), 4, 0.25), ((4, 8), 3, 0.5)]:
        x = torch.randn(shape, dtype=dtype)
        assert torch.equal(dropout(x, drawn, p=p, offset=offset), dropout(x, 5, p=p, offset=offset))


def test_what_is_dropped_is_zero_whatever_it_was() -> None:
    x = torch.tensor([math.nan, math.inf, -math.inf, 1.0]).repeat(64)
    drawn = Masks([Mask(0, 0.5, (256,))], 1).drawn(1)[1]
    kept = dropout(torch.ones(256), 1, p=0.5, offset=0) != 0
    assert torch.equal(dropout(x, drawn, p=0.5, offset=0)[~kept], torch.zeros(int((~kept).sum())))
