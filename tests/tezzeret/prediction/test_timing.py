"""Stopwatches: what is called and how often, and the interval of a median."""

from __future__ import annotations

import random

import torch
from torch import nn

from esper.lang import lower, size_values
from esper.tezzeret.prediction.bench import SEED, eager_module, rows_of
from esper.tezzeret.prediction.timing import (
    LEAST_ROUNDS,
    Stopwatch,
    Timing,
    least_seconds,
    median_range,
    random_inputs,
)
from esper.urza.run.seed import CompiledSeed


class Counted(nn.Module):
    """Counts its calls, and the gradients that come back."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))
        self.forwards = self.backwards = 0

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.forwards += 1
        found = x * self.weight
        found.register_hook(self._count)
        return found, found.argmax()

    def _count(self, gradient: torch.Tensor) -> None:
        assert torch.equal(gradient, torch.ones_like(gradient))
        self.backwards += 1


def test_each_call_goes_forward_and_back_with_gradients_of_one() -> None:
    module = Counted()
    watch = Stopwatch(module, [torch.ones(2, 3, requires_grad=True)])
    found = watch.rounds(0.0)
    assert len(found.forward) == len(found.backward) == LEAST_ROUNDS
    assert module.forwards == module.backwards + 1 > LEAST_ROUNDS
    assert all(seconds > 0 for seconds in found.step)
    assert module.weight.grad is None


def test_threads_are_as_they_were_after_a_round() -> None:
    before = torch.get_num_threads()
    least_seconds(lower("norm", features=8), {"N": 2, "S.0": 2, "S.1": 2}, 0.0)
    assert torch.get_num_threads() == before


def test_what_has_no_gradient_takes_no_time_backward_and_has_one_row() -> None:
    watch = Stopwatch(nn.Flatten(), [torch.ones(2, 3)])
    found = watch.rounds(0.0)
    assert set(found.backward) == {0.0}
    assert [row.part for row in rows_of(SEED, [found])] == ["forward"]


def test_a_step_takes_what_its_parts_take_and_halves_are_told_apart() -> None:
    turns = [Timing((1.0, 2.0), (3.0, 5.0)), Timing((1.5, 4.0), (6.0, 3.0))]
    forward, backward, step = rows_of(SEED, turns)
    assert (forward.least, backward.least, step.least) == (1.0, 3.0, 4.0)
    assert (forward.repeatability, backward.repeatability) == (0.5, 0.0)
    assert step.rounds == 4


def test_the_interval_holds_the_median_in_95_of_100_cases() -> None:
    rng = random.Random(0)
    held = 0
    for _ in range(2000):
        low, high = median_range([rng.expovariate(1.0) for _ in range(21)])
        held += low <= 0.6931471805599453 <= high
    assert 0.94 <= held / 2000 <= 0.985


def test_the_comparator_computes_what_the_seed_computes() -> None:
    ir = lower("conv_block", channels=4)
    generator = torch.Generator().manual_seed(0)
    seed, module = CompiledSeed(ir, generator=generator), eager_module(ir)
    module.load_state_dict(seed.state_dict())
    inputs = random_inputs(ir, size_values(ir, {"N": 2, "S": (3, 5)}), generator)
    torch.testing.assert_close(module(*inputs), seed(*inputs))
