"""Batches: whole epochs in orders of their own, and the rest of an epoch after a stop in it."""

import pytest
import torch
from torch import Tensor

from esper.simic.batches import ShuffledBatches
from esper.simic.tasks import Split

SPLIT = Split(torch.arange(23.0).unsqueeze(1), torch.arange(23))


def epochs(batches: ShuffledBatches, count: int) -> list[Tensor]:
    return [y for _ in range(count) for _, y in batches]


def test_an_epoch_has_whole_batches_and_no_example_twice() -> None:
    batches = ShuffledBatches(SPLIT, 5, seed=0)
    seen = torch.cat(epochs(batches, 1))
    assert (len(batches), len(seen), len(seen.unique())) == (4, 20, 20)
    assert not torch.equal(seen, torch.cat(epochs(batches, 1)))


@pytest.mark.parametrize("taken", range(9))
def test_the_rest_comes_as_it_would_have_come(taken: int) -> None:
    whole = torch.cat(epochs(ShuffledBatches(SPLIT, 5, seed=0), 3))
    batches = ShuffledBatches(SPLIT, 5, seed=0)
    seen: list[Tensor] = []
    while len(seen) < taken:
        for _, y in batches:
            seen.append(y)
            if len(seen) == taken:
                break
    other = ShuffledBatches(SPLIT, 5, seed=9)
    other.load_state_dict(batches.state_dict())
    seen += epochs(other, 3)
    assert torch.equal(torch.cat(seen)[:60], whole)
