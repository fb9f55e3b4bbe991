"""What growth costs a training loop: a dormant slot, a seed in training, telemetry.

Each figure is the median over paired runs, one right after the other in alternating order, by the process's
own time on the processor, which programs beside it disturb less than the clock; in brackets the median's own
95 % interval. Beside it stands the null: the same pairs with nothing between them, its median with its
interval, and the middle 90 % of the pairs.

    python benchmarks/growth_cost.py --pairs 200 --write
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn

from esper.kasmina.attach import attach
from esper.kasmina.host.hook import Phase
from esper.kasmina.lifecycle.bank import slots
from esper.kasmina.training.growth import Growth
from esper.kasmina.training.optimizer import GrowthOptimizer
from esper.leyline.protocols import OutputBackend
from esper.nissa.stream import EventStream
from esper.simic.hosts import host_named
from esper.simic.tasks import task_named
from esper.tamiyo.baselines import NeverTamiyo

RESULTS = Path(__file__).parent / "results"
CALLS, BATCH, STEPS_PER_EPOCH, STEPS_PER_RUN = 5000, 100, 40, 20
CASES = [
    ("cnn", None, "blocks.0", "conv_enhance"),
    ("cnn", 64, "blocks.0", "conv_enhance"),
    ("mlp", None, "blocks.0", "mlp_block"),
]
"""Host, its width if not its own, slot and blueprint. The hosts' own widths make steps of 1 to 2 ms."""

Batch = tuple[Tensor, Tensor]


def seconds(act: Callable[[], object]) -> float:
    start = time.process_time()
    act()
    return time.process_time() - start


def paired(acts: Sequence[Callable[[], object]], pairs: int) -> list[list[float]]:
    """Seconds of each act, `pairs` times, in an order that alternates."""
    for act in acts:
        act()
    found: list[list[float]] = [[] for _ in acts]
    for pair in range(pairs):
        order = range(len(acts)) if pair % 2 else reversed(range(len(acts)))
        for index in order:
            found[index].append(seconds(acts[index]))
    return found


@dataclass(frozen=True)
class Figure:
    """A measured figure in `unit`, its bound, and the null's spread."""

    what: str
    values: list[float]
    null: list[float]
    unit: str
    bound: float | None

    def row(self) -> str:
        low, high = spread(self.null)
        bound = "" if self.bound is None else f"≤ {self.bound:g} {self.unit}"
        found, null = middle(self.values), middle(self.null)
        return f"| {self.what} | {found} {self.unit} | {bound} | {null}; {low:.2f} to {high:.2f} |"


def middle(values: Sequence[float]) -> str:
    """The median, and its 95 % interval by the ranks that a fair coin leaves (Conover 1999, section 3.2)."""
    ordered = sorted(values)
    reach = 0.98 * len(ordered) ** 0.5
    low, high = math.floor(len(ordered) / 2 - reach), math.ceil(len(ordered) / 2 + reach)
    ends = f"[{ordered[max(low, 0)]:.2f}, {ordered[min(high, len(ordered) - 1)]:.2f}]"
    return f"{median(ordered):.2f} {ends}"


def spread(values: Sequence[float]) -> tuple[float, float]:
    """The middle 90 %."""
    ordered = sorted(values)
    cut = len(ordered) // 20
    return ordered[cut], ordered[-1 - cut]


def dormant(pairs: int) -> list[Figure]:
    """A module's call with an empty slot against the same module without one, in microseconds."""
    x = torch.zeros(1)
    bare, other = nn.Identity(), nn.Identity()
    holder = attach(nn.Sequential(nn.Identity()), "0", x)

    def calls(module: nn.Module) -> Callable[[], None]:
        def act() -> None:
            for _ in range(CALLS):
                module(x)

        return act

    without, again, with_slot = paired([calls(bare), calls(other), calls(holder[0])], pairs)
    per_call = 1e6 / CALLS
    return [
        Figure(
            "a dormant slot, each call",
            [per_call * (b - a) for a, b in zip(without, with_slot, strict=True)],
            [per_call * (b - a) for a, b in zip(without, again, strict=True)],
            "µs",
            5.0,
        )
    ]


class Loop:
    """A host in training on MNIST-1D, one seed in its slot if `blueprint` is given."""

    def __init__(
        self,
        host: str,
        width: int | None,
        slot: str,
        blueprint: str | None,
        output: OutputBackend | None = None,
    ) -> None:
        self.task = task_named("mnist1d", 0)
        torch.manual_seed(0)
        self.model = attach(host_named(host).build(self.task, width), slot, self.task.train.x[:BATCH])
        self.optimizer = GrowthOptimizer(torch.optim.AdamW(self.model.parameters(), lr=1e-3))
        self.growth = Growth(self.model, self.optimizer, NeverTamiyo(), output=output)
        self.slot = slots(self.model)[slot]
        if blueprint is not None:
            self.slot.germinate(blueprint)
            self.slot.advance()
            assert self.slot.hook.phase is Phase.LISTENING
        self.batches: list[Batch] = [
            (self.task.train.x[rows], self.task.train.y[rows])
            for rows in torch.arange(STEPS_PER_EPOCH * BATCH).split(BATCH)
        ]

    def step(self, batch: Batch) -> Tensor:
        self.optimizer.zero_grad()
        loss = self.task.losses(self.model(batch[0]), batch[1]).mean()
        torch.autograd.backward(loss)
        self.optimizer.step()
        return loss

    def steps(self) -> None:
        for batch in self.batches[:STEPS_PER_RUN]:
            self.step(batch)

    def bare_epoch(self) -> None:
        for batch in self.batches:
            self.step(batch)

    def epoch(self) -> None:
        """Steps, each observed, and the growth step that ends them."""
        for batch in self.batches:
            self.growth.observe(self.step(batch), batch)
        self.growth.step(val_loss=1.0)


class SeedAlone:
    """The seed's own work of as many steps: forward, backward and its optimizer's step, apart from a host."""

    def __init__(self, loop: Loop) -> None:
        seed = loop.slot.seed
        assert seed is not None
        self.seed = seed
        self.parameters = list(seed.parameters())
        self.optimizer = torch.optim.AdamW(self.parameters, lr=1e-3)
        probe = loop.slot.probe
        self.x, self.gradient = torch.randn(probe.shape), torch.randn(probe.shape)

    def steps(self) -> None:
        for _ in range(STEPS_PER_RUN):
            gradients = torch.autograd.grad(self.seed(self.x), self.parameters, self.gradient)
            for parameter, gradient in zip(self.parameters, gradients, strict=True):
                parameter.grad = gradient
            self.optimizer.step()
            self.optimizer.zero_grad()


def named(host: str, width: int | None) -> str:
    return f"`{host}`" if width is None else f"`{host}` {width} wide"


def training(host: str, width: int | None, slot: str, blueprint: str, pairs: int) -> list[Figure]:
    """A step with a seed in TRAINING against a plain one and the seed's own work."""
    plain, other = Loop(host, width, slot, None), Loop(host, width, slot, None)
    grown, apart = Loop(host, width, slot, blueprint), SeedAlone(Loop(host, width, slot, blueprint))
    base, again, whole, own = paired([plain.steps, other.steps, grown.steps, apart.steps], pairs)
    rows = list(zip(base, again, whole, own, strict=True))
    null = [100 * (b / a - 1) for a, b, _, _ in rows]
    step_ms = 1000 / STEPS_PER_RUN * median(base)
    name = f"`{blueprint}` in TRAINING in {named(host, width)}, steps of {step_ms:.1f} ms"
    return [
        Figure(
            f"{name}, over a plain step and the seed's own",
            [100 * (t / (p + s) - 1) for p, _, t, s in rows],
            null,
            "%",
            10.0,
        ),
        Figure(f"{name}, over a plain step", [100 * (t / p - 1) for p, _, t, _ in rows], null, "%", None),
    ]


def telemetry(host: str, width: int | None, slot: str, blueprint: str, pairs: int) -> list[Figure]:
    """An epoch of steps whose events go to a file against one whose events go nowhere, and a bare loop."""
    with tempfile.TemporaryDirectory() as folder, EventStream(Path(folder) / "events.jsonl", "run") as stream:
        told = Loop(host, width, slot, blueprint, stream)
        silent, other, unwatched = (Loop(host, width, slot, blueprint) for _ in range(3))
        acts = [silent.epoch, other.epoch, told.epoch, unwatched.bare_epoch]
        base, again, written, bare = paired(acts, pairs)
    null = [100 * (b / a - 1) for a, b in zip(base, again, strict=True)]
    name = f"in {named(host, width)}, {STEPS_PER_EPOCH} steps an epoch"
    return [
        Figure(
            f"events written to a file {name}",
            [100 * (b / a - 1) for a, b in zip(base, written, strict=True)],
            null,
            "%",
            3.0,
        ),
        Figure(
            f"events, `observe` and `step` {name}",
            [100 * (b / a - 1) for a, b in zip(bare, written, strict=True)],
            null,
            "%",
            None,
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/growth_cost.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    load = os.getloadavg()[0]
    lines = [
        "| what | median | bound | the null's median; the middle 90 % of its pairs |",
        "| --- | ---: | ---: | ---: |",
    ]
    print("\n".join(lines))
    for figure in [
        *dormant(arguments.pairs),
        *(figure for case in CASES for figure in training(*case, arguments.pairs)),
        *(figure for case in CASES for figure in telemetry(*case, arguments.pairs)),
    ]:
        lines.append(figure.row())
        print(lines[-1], flush=True)
    if arguments.write:
        (RESULTS / "growth_cost.md").write_text(
            "# What growth costs a training loop\n\n"
            f"`python benchmarks/growth_cost.py --pairs {arguments.pairs} --write`: {os.cpu_count()} cores "
            f"at a load of {load:.1f} before, Python {platform.python_version()}, torch {torch.__version__} "
            f"with one thread; MNIST-1D in batches of {BATCH}, straight-through incubation, seeds on the "
            "torch tier. Medians of paired runs in time on the processor; the null pairs runs with nothing "
            "between them.\n\n" + "\n".join(lines) + "\n"
        )


if __name__ == "__main__":
    main()
