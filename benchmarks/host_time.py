"""Host time of a forward and backward call: a seed on the torch tier beside the module written by hand.

Tiny tensors on the CPU, one thread, so that what is compared is Python, dispatch and autograd. Both have
equal weights, and in eval mode, where nothing is drawn, equal outputs: the run ends otherwise. In training
mode they are called in turn, a few calls at a time; a pair's ratio is taken of processor time, and the table
has medians. Fails if a call did not run on the torch tier.

    python benchmarks/host_time.py --write
    python benchmarks/host_time.py --profile mlp_block
"""

from __future__ import annotations

import argparse
import cProfile
import io
import os
import platform
import pstats
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from esper.lang.lower import lower
from esper.urza.run.seed import CompiledSeed

RESULTS = Path(__file__).parent / "results"
CALLS, PAIRS = 10, 60
GOAL = 1.0

Tensor = torch.Tensor


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


def both(case: Case) -> tuple[CompiledSeed, nn.Module, Tensor]:
    """The seed, the module by hand with the seed's weights, and an input. `SystemExit` if they differ."""
    torch.manual_seed(0)
    seed, hand = CompiledSeed(lower(case.blueprint, **case.arguments)), case.by_hand()
    x = torch.randn(case.shape, requires_grad=True)
    pairs = list(zip(seed.parameters(), hand.parameters(), strict=True))
    with torch.no_grad():
        for mine, theirs in pairs:
            if mine.shape != theirs.shape:
                raise SystemExit(
                    f"{case.blueprint}: a weight is {tuple(mine.shape)} and {tuple(theirs.shape)}"
                )
            theirs.copy_(torch.randn_like(mine) * 0.3)
            mine.copy_(theirs)
    seed.eval(), hand.eval()
    torch.testing.assert_close(seed(x), hand(x))
    seed.train(), hand.train()
    return seed, hand, x


def caller(module: nn.Module, x: Tensor) -> Callable[[], object]:
    wanted = [x, *module.parameters()]
    gradient = torch.ones_like(module(x))
    return lambda: torch.autograd.grad(module(x), wanted, gradient)


def microseconds(call: Callable[[], object]) -> float:
    begun = time.process_time()
    for _ in range(CALLS):
        call()
    return (time.process_time() - begun) / CALLS * 1e6


def row(case: Case) -> dict[str, float | str]:
    seed, hand, x = both(case)
    calls = caller(seed, x), caller(hand, x)
    for call in calls:
        microseconds(call)
    pairs = []
    for index in range(PAIRS):
        first = index % 2
        times = [0.0, 0.0]
        for which in (first, 1 - first):
            times[which] = microseconds(calls[which])
        pairs.append(times)
    status = seed.status()
    if status.tier != "torch" or status.calls["torch"] < CALLS * PAIRS:
        raise SystemExit(f"{case.blueprint} did not run on the torch tier: {status}")
    return {
        "blueprint": case.blueprint,
        "input": "x".join(map(str, case.shape)),
        "seed_us": statistics.median(mine for mine, _ in pairs),
        "by_hand_us": statistics.median(theirs for _, theirs in pairs),
        "ratio": statistics.median(mine / theirs for mine, theirs in pairs),
    }


def profile(case: Case) -> str:
    """Where Python spends the time of a seed's calls, by function."""
    seed, _, x = both(case)
    call = caller(seed, x)
    microseconds(call)
    profiler = cProfile.Profile()
    profiler.enable()
    for _ in range(CALLS * PAIRS):
        call()
    profiler.disable()
    text = io.StringIO()
    pstats.Stats(profiler, stream=text).strip_dirs().sort_stats("tottime").print_stats(20)
    return f"{case.blueprint}, {CALLS * PAIRS} calls\n{text.getvalue()}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("blueprints", nargs="*", default=[case.blueprint for case in CASES])
    parser.add_argument("--profile", action="store_true", help="where Python spends a seed's time")
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/host_time.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cases = [case for case in CASES if case.blueprint in arguments.blueprints]
    if arguments.profile:
        print("\n".join(map(profile, cases)))
        return
    rows = [row(case) for case in cases]
    lines = ["| blueprint | input | seed, µs | by hand, µs | ratio |", "| --- | --- | ---: | ---: | ---: |"]
    lines += [
        f"| {one['blueprint']} | {one['input']} | {one['seed_us']:.0f} | {one['by_hand_us']:.0f} "
        f"| {one['ratio']:.2f} |"
        for one in rows
    ]
    print("\n".join(lines))
    if arguments.write:
        (RESULTS / "host_time.md").write_text(
            "# Host time of a call on the torch tier\n\n"
            "`python benchmarks/host_time.py --write`: forward and backward in training, float32 on the "
            f"CPU, one thread, medians of {PAIRS} pairs of {CALLS} calls in processor time; "
            f"{os.cpu_count()} cores, Python {platform.python_version()}, torch {torch.__version__}. "
            f"The goal is a ratio of at most {GOAL:g}.\n\n" + "\n".join(lines) + "\n"
        )


if __name__ == "__main__":
    main()
