"""Sizes: the nearest is taken, hosts are widened to it, and seeds built in make what growth made."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from esper.simic.hosts import host_named
from esper.simic.study.records import SeedOutcome
from esper.simic.study.sizes import matched_width, nearest, parameters, with_seeds
from esper.simic.tasks import Task, task_named


@pytest.fixture(scope="module")
def task() -> Task:
    return task_named("mnist1d", 0)


@given(st.integers(1, 40), st.integers(0, 60), st.integers(0, 5000))
def test_no_other_number_comes_nearer(slope: int, base: int, wanted: int) -> None:
    def count(n: int) -> int:
        return base + slope * n + n * n // 7

    best = nearest(count, wanted)
    assert best >= 1
    assert all(abs(count(best) - wanted) <= abs(count(n) - wanted) for n in range(1, 300))


@pytest.mark.parametrize("depth", [2, 3])
@pytest.mark.parametrize("wanted", [338, 762, 1186, 5000])
def test_width_is_the_one_whose_parameters_are_nearest(task: Task, depth: int, wanted: int) -> None:
    host = host_named("cnn")
    width = matched_width(host, task, depth, wanted)
    off = [
        abs(parameters(host.build(task, w, depth)) - wanted) for w in (max(width - 1, 1), width, width + 1)
    ]
    assert off[1] == min(off)


def test_seeds_built_in_have_the_parameters_of_grown_ones_and_start_as_the_identity(task: Task) -> None:
    torch.manual_seed(0)
    host = host_named("cnn").build(task)
    x = task.train.x[:9]
    before, size = host.eval()(x), parameters(host)
    seeds = [
        SeedOutcome(slot=slot, blueprint="conv_enhance", params=424, stage="FOSSILIZED", planted_at=1)
        for slot in ("blocks.0", "blocks.1")
    ]
    grown = with_seeds(host, task, seeds, seed=3)
    assert parameters(grown) == size + 2 * 424
    torch.testing.assert_close(grown.eval()(x), before, rtol=0, atol=0)


def test_no_seed_leaves_the_host(task: Task) -> None:
    host = host_named("cnn").build(task)
    assert with_seeds(host, task, [], seed=0) is host
