"""A compiled blueprint beside eager PyTorch and `torch.compile`: who takes how long for a training step.

The comparator is the module that `esperc compile --emit torch` writes, with the seed's weights. Contenders
take turns in an order and then in its reverse, so that what disturbs the machine for a while falls on all.
"""

from __future__ import annotations

import math
import os
import shutil
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import nn

from esper.ir.graph import BlueprintIR
from esper.tezzeret.prediction.errors import KernelsMissing, NoGpu
from esper.tezzeret.prediction.timing import Stopwatch, Timing, median_range, random_inputs
from esper.urza.builder.source_module import module_from_source
from esper.urza.eager.module_text import class_name, module_text
from esper.urza.errors import NotWritten
from esper.urza.run.seed import CompiledSeed

TURNS = 6
PATIENCE_SECONDS = 120.0
"""For a seed's kernels to take over."""

SEED, EAGER, COMPILED = "seed", "eager", "torch.compile"
COMPILERS = ("g++", "clang++", "c++")

Device = Literal["cpu", "cuda"]
Part = Literal["forward", "backward", "step"]
PARTS: tuple[Part, ...] = ("forward", "backward", "step")


@dataclass(frozen=True, slots=True)
class Row:
    """Seconds of one part of a contender's call.

    low, high: hold the median that the rounds were drawn around in 95 % of cases. least: of all rounds; of a
    step, the sum of its parts'.
    repeatability: how far the leasts of the even and of the odd turns lie apart, as a share. error: a
    standard error of `least`, as its turns' leasts scatter.
    """

    contender: str
    part: Part
    median: float
    low: float
    high: float
    least: float
    error: float
    repeatability: float
    rounds: int


@dataclass(frozen=True, slots=True)
class Bench:
    """tier: that the seed ran on. device: as its driver names it. absent: who did not run, and why."""

    device: str
    tier: str
    rows: tuple[Row, ...]
    absent: Mapping[str, str]

    def row(self, contender: str, part: Part) -> Row | None:
        return next((r for r in self.rows if (r.contender, r.part) == (contender, part)), None)


def bench(
    ir: BlueprintIR,
    sizes: Mapping[str, int],
    *,
    device: Device,
    device_name: str,
    seconds: float,
    without: Sequence[str] = (),
) -> Bench:
    """Times the calls of `ir` in training; `sizes` has a number for each size symbol.

    seconds: of each contender. without: contenders to leave out. On a GPU the seed runs by its kernels.
    Raises `NoGpu` and `KernelsMissing`.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise NoGpu(blueprint=ir.name)
    generator = torch.Generator().manual_seed(0)
    seed = CompiledSeed(ir, generator=generator, tier="triton" if device == "cuda" else "torch").to(device)
    inputs = [
        tensor.detach().to(device).requires_grad_(tensor.requires_grad)
        for tensor in random_inputs(ir, dict(sizes), generator)
    ]
    watches = {SEED: Stopwatch(seed, inputs)}
    if device == "cuda":
        _wait_for_kernels(seed, watches[SEED])
    absent = dict.fromkeys(without, "left out")
    for name in (EAGER, COMPILED):
        if name not in absent:
            try:
                watches[name] = Stopwatch(_comparator(name, ir, seed).to(device), inputs)
            except (NotWritten, RuntimeError) as error:  # torch raises it for whatever its compiler meets
                absent[name] = str(error).strip().splitlines()[0]
    visits: dict[str, list[Timing]] = {name: [] for name in watches}
    for turn in range(TURNS):
        for name in list(watches)[:: 1 if turn % 2 == 0 else -1]:
            visits[name].append(watches[name].rounds(seconds / TURNS))
    rows = [row for name, found in visits.items() for row in rows_of(name, found)]
    shown = torch.cuda.get_device_name() if device == "cuda" else device_name
    return Bench(shown, seed.status().tier, tuple(rows), absent)


def rows_of(contender: str, visits: Sequence[Timing]) -> list[Row]:
    """A row for each part; of what has no gradient, the forward part alone."""
    parts: dict[Part, list[tuple[float, ...]]] = {
        "forward": [visit.forward for visit in visits],
        "backward": [visit.backward for visit in visits],
        "step": [visit.step for visit in visits],
    }
    if not any(map(any, parts["backward"])):
        del parts["backward"], parts["step"]
    found: list[Row] = []
    for part, turns in parts.items():
        rounds = [seconds for turn in turns for seconds in turn]
        leasts = [min(turn) for turn in turns]
        low, high = median_range(rounds)
        halves = min(leasts[::2]), min(leasts[1::2], default=leasts[0])
        least = sum(one.least for one in found) if part == "step" else min(leasts)
        error = statistics.stdev(leasts) / math.sqrt(len(leasts)) if len(leasts) > 1 else 0.0
        found.append(
            Row(
                contender,
                part,
                statistics.median(rounds),
                low,
                high,
                least,
                error,
                max(halves) / min(halves) - 1,
                len(rounds),
            )
        )
    return found


def eager_module(ir: BlueprintIR) -> nn.Module:
    """The module that `esperc compile --emit torch` writes. Raises `NotWritten`."""
    written = module_from_source(module_text(ir))
    module: nn.Module = getattr(written, class_name(ir))()
    return module


def _comparator(name: str, ir: BlueprintIR, seed: CompiledSeed) -> nn.Module:
    module = eager_module(ir)
    module.load_state_dict(seed.state_dict())
    if name == EAGER:
        return module
    compiler = os.environ.get("CXX")
    if not any(shutil.which(word) for word in ([compiler] if compiler else COMPILERS)):
        raise RuntimeError(f"it needs a C++ compiler, and there is no {compiler or ' or '.join(COMPILERS)}")
    return cast("nn.Module", torch.compile(module, dynamic=False))


def _wait_for_kernels(seed: CompiledSeed, watch: Stopwatch) -> None:
    """Raises `KernelsMissing`."""
    limit = time.monotonic() + PATIENCE_SECONDS
    while (status := seed.status()).tier != "triton":
        if status.quarantined or time.monotonic() > limit:
            raise KernelsMissing(blueprint=seed.ir.name, reason=status.reason)
        time.sleep(0.02)
        watch.rounds(0.0)
