"""Tuning: what is tried, what is kept, and that builds go by it; times are the tests' own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from esper.lang import lower, size_values
from esper.urza.builder.ahead_of_time import build_each, build_kernels
from esper.urza.builder.cache import KernelCache
from esper.urza.builder.choices import Choices
from esper.urza.builder.tuning import MOST_TRIED, Tier, Timer, candidates, tune
from esper.urza.builder.tuning_records import Record
from esper.urza.compiler import Programs, make_programs
from esper.urza.errors import DeviceMissing, KernelBuildFailed
from esper.urza.kernel import BuiltKernel, Configuration, KernelSource
from esper.urza.run.device import local_target
from esper.urza.run.device_timer import tune_programs

TARGET = "sm_90"


@pytest.fixture(scope="module")
def programs() -> Programs:
    return make_programs(lower("norm", features=32, precision="bf16"))


@pytest.fixture
def kernel(programs: Programs) -> KernelSource:
    return next(kernel for kernel in programs.kernels if not kernel.has_products)


@pytest.fixture(scope="module")
def product(programs: Programs) -> KernelSource:
    return next(kernel for kernel in programs.kernels if kernel.has_products)


@pytest.fixture
def cache(tmp_path: Path) -> KernelCache:
    return KernelCache(tmp_path)


def tuned(
    kernel: KernelSource, timer: Timer, cache: KernelCache, tier: Tier = "seconds", device: str = "a GPU"
) -> Record:
    return tune(kernel, TARGET, timer, tier=tier, device=device, sizes={"N": 32}, cache=cache, jobs=2)


def fewer_is_faster(built: BuiltKernel) -> float:
    return float(built.num_warps)


@pytest.mark.parametrize("tier", ["seconds", "full"])
def test_what_is_tried_differs_in_configuration_alone(programs: Programs, tier: Tier) -> None:
    for kernel in programs.kernels:
        tried = candidates(kernel, tier)
        digests = {one.digest for one in tried}
        assert tried[0].digest == kernel.digest and len(digests) == len(tried) <= MOST_TRIED[tier]
        allowed = [kernel.constexprs, *({**kernel.constexprs, **o.constexprs} for o in kernel.alternatives)]
        for one in tried:
            assert one.constexprs in allowed
            assert one.configured(kernel.configuration) == replace(kernel, alternatives=())


def test_what_is_tried_follows_from_the_seed(product: KernelSource) -> None:
    orders = {tuple(one.digest for one in candidates(product, "full", seed)) for seed in (1, 1, 2, 3)}
    assert len(orders) == 3
    assert len(candidates(product, "full")) > len(candidates(product, "seconds"))


def test_stages_are_tried_where_a_loop_over_a_product_is_pipelined(
    kernel: KernelSource, product: KernelSource
) -> None:
    own = {kernel.num_stages, *(other.num_stages for other in kernel.alternatives)}
    assert {one.num_stages for one in candidates(kernel, "full")} <= own
    assert {one.num_stages for one in candidates(product, "full")} == {1, 2, 3, 4, 5}


def test_builds_go_by_what_was_chosen(kernel: KernelSource, cache: KernelCache) -> None:
    record = tuned(kernel, fewer_is_faster, cache)
    least = min(one.num_warps for one in candidates(kernel, "seconds"))
    assert record.chosen is not None and record.chosen.num_warps == least < kernel.num_warps
    built = build_kernels([kernel], [TARGET], cache=cache)
    assert built.cached and built.kernels[0].num_warps == least
    assert built.kernels[0].kernel.configuration.num_warps == least


def test_one_target_is_tuned_and_no_other(kernel: KernelSource, cache: KernelCache) -> None:
    tuned(kernel, fewer_is_faster, cache)
    assert build_kernels([kernel], ["sm_80"], cache=cache).kernels[0].num_warps == kernel.num_warps


def test_tuning_that_was_stopped_goes_on_where_it_was(kernel: KernelSource, cache: KernelCache) -> None:
    timed: list[str] = []

    def stopped(built: BuiltKernel) -> float:
        if len(timed) == 2:
            raise KeyboardInterrupt
        timed.append(built.kernel.digest)
        return 1.0

    with pytest.raises(KeyboardInterrupt):
        tuned(kernel, stopped, cache)
    assert Choices(cache.folder).applied(kernel, TARGET) == kernel

    def counted(built: BuiltKernel) -> float:
        timed.append(built.kernel.digest)
        return 1.0

    tuned(kernel, counted, cache)
    assert timed == [one.digest for one in candidates(kernel, "seconds")]
    tuned(kernel, stopped, cache)


def test_more_is_tried_on_top_of_what_is_known(kernel: KernelSource, cache: KernelCache) -> None:
    few = tuned(kernel, lambda built: 1.0, cache).times_ms
    many = tuned(kernel, lambda built: 2.0, cache, tier="full").times_ms
    assert few.items() <= many.items()


def test_what_another_gpu_measured_is_dropped(kernel: KernelSource, cache: KernelCache) -> None:
    tuned(kernel, fewer_is_faster, cache)
    record = tuned(kernel, lambda built: -built.num_warps, cache, device="another GPU")
    assert record.device == "another GPU" and record.chosen is not None
    assert record.chosen.num_warps == max(one.num_warps for one in candidates(kernel, "seconds"))


def test_what_is_hardly_faster_is_not_chosen(kernel: KernelSource, cache: KernelCache) -> None:
    record = tuned(kernel, lambda built: 1.0 if built.kernel.digest == kernel.digest else 0.99, cache)
    assert record.chosen is not None
    assert kernel.configured(Configuration(**record.chosen.model_dump())).digest == kernel.digest


def test_what_does_not_build_is_not_chosen(kernel: KernelSource, cache: KernelCache) -> None:
    impossible = replace(kernel, alternatives=(Configuration({"BLOCK_K": 3, "BLOCK": 3}, 4, 1),))
    record = tuned(impossible, lambda built: 1.0, cache)
    assert None in record.times_ms.values() and record.chosen is not None
    broken, *_ = build_each([impossible.candidates[1]], TARGET, cache=cache)
    assert isinstance(broken, KernelBuildFailed)


def test_a_record_that_cannot_be_read_counts_for_nothing(kernel: KernelSource, cache: KernelCache) -> None:
    tuned(kernel, fewer_is_faster, cache)
    (record,) = cache.folder.glob("tuning/*/*.json")
    record.write_text("{")
    assert build_kernels([kernel], [TARGET], cache=cache).kernels[0].num_warps == kernel.num_warps


@pytest.mark.skipif(local_target() is not None, reason="there is a GPU here")
def test_without_a_gpu_it_is_said_that_tuning_needs_one(programs: Programs) -> None:
    with pytest.raises(DeviceMissing, match="the NVIDIA driver finds none") as found:
        tune_programs(programs, "seconds", size_values(programs.ir))
    assert found.value.exit_code == 3
