"""The counter hash behaves like independent uniform draws, within what chance allows (|z| < 4.5)."""

from __future__ import annotations

import pytest
import torch

from esper.ops.reference.random import uniform

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
