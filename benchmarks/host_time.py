"""Host time of a forward and backward call: a seed on the torch tier beside the module written by hand.

Tiny tensors on the CPU, one thread, so that what is compared is Python, dispatch and autograd. Both have
equal weights, and in eval mode, where nothing is drawn, equal outputs and gradients; where nothing is
dropped, also in training mode, running statistics included: the run ends otherwise.

A ratio is taken of processor time in one round: a few calls each of the seed, the module by hand and a second
module by hand, in an order and then in its reverse, so that a drift falls on all alike; the order changes
from round to round. The second module is the null, since nothing but chance lies between it and the first.
Where objects happen to lie in memory counts for as much as a per cent, so after some rounds all three are
made anew, and the table has medians over all of them, with the range that holds the true median in 95 % of
runs, taken over what each making found. Fails if a call did not run on the torch tier.

    python benchmarks/host_time.py --write
    python benchmarks/host_time.py --profile mlp_block
    python benchmarks/host_time.py --operators
"""

from __future__ import annotations

import argparse
import copy
import cProfile
import gc
import io
import itertools
import math
import os
import platform
import pstats
import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from esper.lang.lower import lower
from esper.urza.run.seed import CompiledSeed

RESULTS = Path(__file__).parent / "results"
CALLS, ROUNDS = 10, 24
GOAL = 1.0

Tensor = torch.Tensor
Call = Callable[[], tuple[Tensor, ...]]


class Norm(nn.Module):
    def __init__(self, features: int) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(features, eps=1e-5)
        self.linear = nn.Linear(features, features)

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.linear(self.norm(x))
        return x + h


class Mlp(nn.Module):
    def __init__(self, features: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(features)
        self.up, self.down = nn.Linear(features, 4 * features), nn.Linear(4 * features, features)

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.down(F.gelu(self.up(self.norm(x))))
        return x + h


class Heads(nn.Module):
    """Projections, attention, projection: [N, T, features] to the same."""

    def __init__(self, features: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.q, self.k, self.v, self.out = (nn.Linear(features, features) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        n, t, features = x.shape
        q, k, v = (p(x).view(n, t, self.heads, -1).transpose(1, 2) for p in (self.q, self.k, self.v))
        dropout = self.dropout if self.training else 0.0
        found = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
        h: Tensor = self.out(found.transpose(1, 2).reshape(n, t, features))
        return h


class Attention(nn.Module):
    def __init__(self, features: int) -> None:
        super().__init__()
        self.norm, self.heads = nn.LayerNorm(features), Heads(features, 4, 0.0)

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.heads(self.norm(x))
        return x + h


class Transformer(nn.Module):
    def __init__(self, features: int) -> None:
        super().__init__()
        self.first, self.heads = nn.LayerNorm(features), Heads(features, 4, 0.1)
        self.second = nn.LayerNorm(features)
        self.up, self.down = nn.Linear(features, 4 * features), nn.Linear(4 * features, features)

    def forward(self, x: Tensor) -> Tensor:
        x = x + F.dropout(self.heads(self.first(x)), 0.1, self.training)
        h = self.down(F.dropout(F.gelu(self.up(self.second(x))), 0.1, self.training))
        return x + F.dropout(h, 0.1, self.training)


class Conv(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x)))


class Mobilenet(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = 4 * channels
        self.expand = nn.Conv2d(channels, hidden, 1, bias=False)
        self.norm_1 = nn.BatchNorm2d(hidden)
        self.filter = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden, bias=False)
        self.norm_2 = nn.BatchNorm2d(hidden)
        self.project = nn.Conv2d(hidden, channels, 1, bias=False)
        self.norm_3 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = F.relu6(self.norm_1(self.expand(x)))
        h = F.relu6(self.norm_2(self.filter(h)))
        h = self.norm_3(self.project(h))
        return x + h


@dataclass(frozen=True, slots=True)
class Case:
    """A blueprint with its arguments, the module by hand, and the shape of the input."""

    blueprint: str
    by_hand: Callable[[], nn.Module]
    shape: tuple[int, ...]
    arguments: Mapping[str, Any] = field(default_factory=dict)


CASES = (
    Case("norm", lambda: Norm(16), (2, 4, 16), {"features": 16}),
    Case("mlp_block", lambda: Mlp(16), (2, 4, 16), {"features": 16}),
    Case("attention", lambda: Attention(16), (2, 4, 16), {"features": 16}),
    Case("transformer_block", lambda: Transformer(16), (2, 4, 16), {"d_model": 16}),
    Case("conv_block", lambda: Conv(8), (2, 8, 4, 4), {"channels": 8}),
    Case("mobilenet_block", lambda: Mobilenet(8), (2, 8, 4, 4), {"channels": 8}),
)


@dataclass(frozen=True, slots=True)
class Trio:
    """A seed, the module by hand twice, all with equal weights, and an input."""

    seed: CompiledSeed
    hand: nn.Module
    twin: nn.Module
    x: Tensor


def made(case: Case) -> Trio:
    """`SystemExit` if seed and module do not compute the same."""
    seed, hand = CompiledSeed(lower(case.blueprint, **case.arguments)), case.by_hand()
    x = torch.randn(case.shape, requires_grad=True)
    with torch.no_grad():
        for mine, theirs in zip(seed.parameters(), hand.parameters(), strict=True):
            if mine.shape != theirs.shape:
                raise SystemExit(
                    f"{case.blueprint}: a weight is {tuple(mine.shape)} and {tuple(theirs.shape)}"
                )
            theirs.copy_(torch.randn_like(mine) * 0.3)
            mine.copy_(theirs)
    twin = copy.deepcopy(hand)
    for training in (False, True):
        seed.train(training), hand.train(training), twin.train(training)
        if not (training and draws(hand)):
            check(caller(seed, x), caller(hand, x))
    statistics_of = (running_statistics(module) for module in (seed, hand))
    for mine, theirs in zip(*statistics_of, strict=True):
        torch.testing.assert_close(mine, theirs)
    return Trio(seed, hand, twin, x)


def draws(hand: nn.Module) -> bool:
    return any(getattr(module, "dropout", 0.0) > 0.0 for module in hand.modules())


def running_statistics(module: nn.Module) -> list[Tensor]:
    return [buffer for buffer in module.buffers() if buffer.is_floating_point()]


def check(seed: Call, hand: Call) -> None:
    for mine, theirs in zip(seed(), hand(), strict=True):
        torch.testing.assert_close(mine, theirs)


def caller(module: nn.Module, x: Tensor) -> Call:
    """A call forward and backward: the output, the gradient of `x`, and those of the weights."""
    wanted = [x, *module.parameters()]
    gradient = torch.ones_like(x)

    def call() -> tuple[Tensor, ...]:
        found: Tensor = module(x)
        return found, *torch.autograd.grad(found, wanted, gradient)

    return call


def microseconds(call: Call) -> float:
    begun = time.process_time_ns()
    for _ in range(CALLS):
        call()
    return (time.process_time_ns() - begun) / CALLS / 1000


def rounds(calls: Sequence[Call], count: int) -> list[list[float]]:
    """Microseconds of each call, `count` times: in an order, and again in its reverse."""
    for call in calls:
        microseconds(call)
    found = []
    orders = list(itertools.permutations(range(len(calls))))
    for number in range(count):
        order = orders[number % len(orders)]
        times = [0.0] * len(calls)
        for which in (*order, *reversed(order)):
            times[which] += microseconds(calls[which]) / 2
        found.append(times)
    return found


def row(case: Case, makings: int) -> dict[str, Any]:
    torch.manual_seed(0)
    seeds, hands, ratios, nulls = [], [], [], []
    for _ in range(makings):
        trio = made(case)
        gc.collect()
        found = rounds([caller(module, trio.x) for module in (trio.seed, trio.hand, trio.twin)], ROUNDS)
        status = trio.seed.status()
        if status.tier != "torch" or status.calls["torch"] < 2 * CALLS * ROUNDS:
            raise SystemExit(f"{case.blueprint} did not run on the torch tier: {status}")
        seeds.append(statistics.median(mine for mine, _, _ in found))
        hands.append(statistics.median(theirs for _, theirs, _ in found))
        ratios.append(statistics.median(mine / theirs for mine, theirs, _ in found))
        nulls.append(statistics.median(again / theirs for _, theirs, again in found))
    return {
        "blueprint": case.blueprint,
        "input": "x".join(map(str, case.shape)),
        "seed_us": statistics.median(seeds),
        "by_hand_us": statistics.median(hands),
        "ratio": ratios,
        "null": nulls,
    }


def median_range(values: Sequence[float]) -> tuple[float, float]:
    """Between which of `values` the median that they were drawn around lies in 95 % of draws.

    As many lie below that median as a fair coin shows heads.
    """
    count, cut, left_out = len(values), 0, 0.0
    while True:
        left_out += 2 * math.comb(count, cut) / 2**count
        if left_out > 0.05:
            break
        cut += 1
    ordered, last = sorted(values), max(cut - 1, 0)
    return ordered[last], ordered[-1 - last]


def figure(values: Sequence[float]) -> str:
    low, high = median_range(values)
    return f"{statistics.median(values):.3f} ({low:.3f} to {high:.3f})"


def profile(case: Case) -> str:
    """Where Python spends the time of a seed's calls, by function."""
    trio = made(case)
    call = caller(trio.seed, trio.x)
    microseconds(call)
    profiler = cProfile.Profile()
    profiler.enable()
    for _ in range(CALLS * ROUNDS):
        call()
    profiler.disable()
    text = io.StringIO()
    pstats.Stats(profiler, stream=text).strip_dirs().sort_stats("tottime").print_stats(20)
    return f"{case.blueprint}, {CALLS * ROUNDS} calls\n{text.getvalue()}"


class Counted(TorchDispatchMode):
    """Counts the operators that torch dispatches."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operators: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operators[str(func)] += 1
        return func(*args, **(kwargs or {}))


def operators(case: Case) -> str:
    """Which operators one of seed and module by hand dispatches more often; dropout's masks are drawn in
    the call here, while without a mode one call in sixteen draws those of all."""
    trio = made(case)
    found = []
    for module in (trio.seed, trio.hand):
        call = caller(module, trio.x)
        with Counted() as counted:
            call()
        found.append(counted.operators)
    mine, theirs = found
    return (
        f"{case.blueprint}: {mine.total()} by the seed, {theirs.total()} by hand; "
        f"more: {dict(mine - theirs)}; fewer: {dict(theirs - mine)}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("blueprints", nargs="*", default=[case.blueprint for case in CASES])
    parser.add_argument("--makings", type=int, default=25, help="how often the modules are made anew")
    parser.add_argument("--profile", action="store_true", help="where Python spends a seed's time")
    parser.add_argument("--operators", action="store_true", help="which operators are dispatched")
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/host_time.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cases = [case for case in CASES if case.blueprint in arguments.blueprints]
    for wanted, tell in ((arguments.profile, profile), (arguments.operators, operators)):
        if wanted:
            print("\n".join(map(tell, cases)))
            return
    load = os.getloadavg()[0]
    lines = [
        "| blueprint | input | seed, µs | by hand, µs | ratio | by hand against itself |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    print("\n".join(lines))
    for case in cases:
        one = row(case, arguments.makings)
        lines.append(
            f"| {one['blueprint']} | {one['input']} | {one['seed_us']:.0f} | {one['by_hand_us']:.0f} "
            f"| {figure(one['ratio'])} | {figure(one['null'])} |"
        )
        print(lines[-1], flush=True)
    if arguments.write:
        (RESULTS / "host_time.md").write_text(
            "# Host time of a call on the torch tier\n\n"
            "`python benchmarks/host_time.py --write`: forward and backward in training, float32 on the "
            f"CPU, one thread, medians over {arguments.makings} makings of {ROUNDS} rounds of {2 * CALLS} "
            f"calls of each, in processor time; {os.cpu_count()} cores at a load of {load:.1f} before, "
            f"Python {platform.python_version()}, torch {torch.__version__}. In brackets the range "
            "that holds the true median in 95 % of runs. The goal is a ratio of at most "
            f"{GOAL:g}.\n\n" + "\n".join(lines) + "\n"
        )


if __name__ == "__main__":
    main()
