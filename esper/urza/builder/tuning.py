"""Tuning: kernels are built in several configurations, and the fastest on the GPU here is kept.

Tried are configurations that cannot change what a kernel computes: its own and the alternatives it comes
with, with other numbers of warps and, where a loop over a product is pipelined, of stages. Which of them, and
in which order, follows from the seed alone. `seconds` tries few, `full` as many as there are up to a limit.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from esper.urza.builder.ahead_of_time import build_each
from esper.urza.builder.cache import KernelCache
from esper.urza.builder.choices import Choices
from esper.urza.builder.tuning_records import Record, Setting
from esper.urza.kernel import BuiltKernel, Configuration, KernelSource

Tier = Literal["seconds", "full"]
Timer = Callable[[BuiltKernel], float]
"""The milliseconds that one launch of a kernel takes."""

MOST_TRIED: Mapping[Tier, int] = {"seconds": 6, "full": 60}
MOST_WARPS = 16
STAGES = {"seconds": (2, 3, 4), "full": (1, 2, 3, 4, 5)}
WORTH = 0.98
"""The part of its own time that a kernel must take in another configuration for that to be chosen."""


def candidates(kernel: KernelSource, tier: Tier, seed: int = 0) -> tuple[KernelSource, ...]:
    """The kernel in each configuration that is tried, its own first, none twice."""
    own, *others = _distinct(kernel.configured(one) for one in _configurations(kernel, tier))
    random.Random(f"{seed} {kernel.digest}").shuffle(others)
    return own, *others[: MOST_TRIED[tier] - 1]


def _configurations(kernel: KernelSource, tier: Tier) -> Iterator[Configuration]:
    bases = kernel.configuration, *kernel.alternatives
    yield from bases
    for base in bases if tier == "full" else bases[:1]:
        for warps in (base.num_warps, base.num_warps * 2, base.num_warps // 2):
            for stages in STAGES[tier] if kernel.has_products else (base.num_stages,):
                if 1 <= warps <= MOST_WARPS:
                    yield replace(base, num_warps=warps, num_stages=stages)


def _distinct(kernels: Iterable[KernelSource]) -> Iterator[KernelSource]:
    seen: set[str] = set()
    for kernel in kernels:
        if kernel.digest not in seen:
            seen.add(kernel.digest)
            yield kernel


def tune(
    kernel: KernelSource,
    target: str,
    timer: Timer,
    *,
    tier: Tier,
    device: str,
    sizes: Mapping[str, int],
    seed: int = 0,
    cache: KernelCache | None = None,
    jobs: int | None = None,
) -> Record:
    """Times what has not been timed yet, chooses, and keeps the record: `build_kernels` goes by it.

    device: the GPU's name. sizes: the run-time sizes that `timer` launches with. What is known from another
    device, other sizes or another seed is dropped. Raises what `timer` raises, `CacheUnusable` and
    `FileUnwritable`.
    """
    cache = KernelCache() if cache is None else cache
    choices = Choices(cache.folder)
    fresh = Record(kernel=kernel.name, target=target, device=device, seed=seed, sizes=dict(sizes))
    known = choices.record(kernel, target)
    record = known if known is not None and _same_circumstances(known, fresh) else fresh
    tried = candidates(kernel, tier, seed)
    missing = [one for one in tried if one.digest not in record.times_ms]
    for one, built in zip(missing, _built(missing, target, cache, jobs), strict=True):
        time_ms = None if built is None else timer(built)
        record = record.model_copy(update={"times_ms": {**record.times_ms, one.digest: time_ms}})
        choices.keep(kernel, target, record)
    best = _fastest(tried, record.times_ms)
    record = record.model_copy(update={"chosen": Setting.of(best.configuration)})
    choices.keep(kernel, target, record)
    return record


def _same_circumstances(known: Record, fresh: Record) -> bool:
    return (known.device, known.seed, known.sizes) == (fresh.device, fresh.seed, fresh.sizes)


def _built(
    kernels: Sequence[KernelSource], target: str, cache: KernelCache, jobs: int | None
) -> Iterator[BuiltKernel | None]:
    """Each kernel in just its own configuration; None where it does not build, or spills registers."""
    alone = [replace(kernel, alternatives=()) for kernel in kernels]
    for built in build_each(alone, target, cache=cache, jobs=jobs):
        whole = isinstance(built, BuiltKernel) and built.resources.spill_bytes == 0
        yield built if isinstance(built, BuiltKernel) and whole else None


def _fastest(tried: Sequence[KernelSource], times_ms: Mapping[str, float | None]) -> KernelSource:
    """The fastest, or the first of `tried` unless another one is clearly faster."""
    timed = [(time, number) for number, one in enumerate(tried) if (time := times_ms[one.digest]) is not None]
    own = times_ms[tried[0].digest]
    if not timed:
        return tried[0]
    best, number = min(timed)
    return tried[number] if own is None or best < WORTH * own else tried[0]
