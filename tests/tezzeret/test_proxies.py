"""A zero-cost proxy: its formula, and what leaves it as it is."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from esper.tezzeret.proxies import zico


def drawn(seed: int, batches: int = 4) -> list[list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(3, 2), (4, 3, 2)]
    return [
        [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
        for _ in range(batches)
    ]


@given(st.integers(0, 1000))
@settings(max_examples=20)
def test_it_is_the_sum_over_tensors_of_the_log_of_means_over_deviations(seed: int) -> None:
    gradients = drawn(seed)
    expected = 0.0
    for tensors in zip(*gradients, strict=True):
        sizes = torch.stack(tensors).abs()
        expected += math.log((sizes.mean(0) / sizes.std(0, correction=0)).sum().item())
    assert zico(gradients) == pytest.approx(expected, rel=1e-9)


@given(st.integers(0, 1000), st.floats(1e-6, 1e6))
@settings(max_examples=20)
def test_the_scale_and_the_signs_of_gradients_do_not_matter(seed: int, scale: float) -> None:
    gradients = drawn(seed)
    scaled = [[-scale * gradient for gradient in batch] for batch in gradients]
    assert zico(scaled) == pytest.approx(zico(gradients), rel=1e-9)


def test_gradients_that_agree_more_score_higher() -> None:
    gradients = drawn(0)
    mean = [torch.stack(tensors).abs().mean(0) for tensors in zip(*gradients, strict=True)]
    nearer = [[m + 0.5 * (g.abs() - m) for g, m in zip(batch, mean, strict=True)] for batch in gradients]
    assert zico(nearer) > zico(gradients)


def test_weights_that_nothing_reaches_add_nothing() -> None:
    gradients = drawn(1)
    beside = [[*batch, torch.zeros(5, 5, dtype=torch.float64)] for batch in gradients]
    assert zico(beside) == zico(gradients) and math.isfinite(zico(beside))
    assert zico([[torch.zeros(2, 2)], [torch.zeros(2, 2)]]) == 0.0
