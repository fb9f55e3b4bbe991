"""Candidates a second and core, by cost alone: from a point to its hash, figures and violations.

Each space is a chain of blocks (convolution, batch norm, activation; every block has a width, a kernel and an
activation of its own). Times are of this process's processor, so that other work on the machine does not
count as ours, and include all that is learned on the way; the blueprint was read before. `cold` is a search
by an evaluator that has seen nothing of the blueprint, `warm` the rate at which its points are evaluated
again: nothing in them is new. The full road elaborates and counts each point whole.

A short search is of 200 candidates, a long one of 1,000. Where widths are many, nearly every candidate has
sizes that none had before: what holds for all sizes is worked out once, the rest for each.

    python benchmarks/search_speed.py --runs 20 --write
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from esper.tezzeret.evaluator import Evaluator
from esper.tezzeret.space import Point

RESULTS = Path(__file__).parent / "results" / "search_speed.md"

FEW, MANY = "{16, 24, 32, 48, 64}", "4..512 step 4"
"""Widths to choose from."""

LIMITS = {"short": 0.5, "long": 10.0}
"""Seconds that a search may take at the 99th percentile."""

WHOLE = 3
"""Points that are counted whole, too, and have to come out the same."""


@dataclass(frozen=True, slots=True)
class Chain:
    """blocks: of nine nodes each, after one input. short, long: candidates of a search; held: to limits."""

    blocks: int
    widths: str
    short: int = 200
    long: int = 1000
    held: tuple[str, ...] = ("short", "long")

    @property
    def source(self) -> str:
        """A blueprint whose blocks have all settings open."""
        parameters, body = [], []
        for n in range(self.blocks):
            parameters += [
                f"width_{n}: dim = 32 in {self.widths},",
                f"kernel_{n}: int = 3 in {{1, 3, 5}},",
                f"act_{n}: op = relu in {{relu, gelu, silu}},",
            ]
            body.append(f"h = h |> conv(width_{n}, kernel=kernel_{n}) |> batch_norm() |> act_{n}()")
        head = ["blueprint chain(", *parameters, ") {", "input x: f32[N, 3, ...S]", "h = x"]
        return "\n".join([*head, *body, "output h", "}"]) + "\n"


CHAINS = (
    Chain(1, MANY),
    Chain(3, FEW),
    Chain(3, MANY),
    Chain(11, FEW, held=("long",)),
    Chain(110, FEW, 10, 1000, held=("long",)),
    Chain(110, MANY, 10, 100, held=("long",)),
)

TITLES = (
    "nodes", "widths", "short search, cold", "long search, cold", "a second, cold", "a second, warm",
    "a second, full road", "parts measured", "points taken whole",
)  # fmt: skip


def seconds(evaluator: Evaluator, points: Sequence[Point]) -> float:
    """Of this process's processor, to evaluate `points` one after another."""
    start = time.process_time()
    for point in points:
        evaluator(point)
    return time.process_time() - start


def percentile(times: Sequence[float], share: float) -> float:
    """The least of `times` that at least `share` of them do not exceed (nearest rank)."""
    return sorted(times)[math.ceil(share * len(times)) - 1]


def row(path: Path, chain: Chain, runs: int) -> tuple[list[str], list[str]]:
    """One line of the table, and the searches that are over their limits."""
    path.write_text(chain.source, encoding="utf-8")
    cold: dict[str, list[float]] = {"short": [], "long": []}
    warm: list[float] = []
    measured = wholes = nodes = 0
    for run in range(runs):
        evaluator = Evaluator(path)
        points = evaluator.space.samples(chain.long, random.Random(run))
        short = seconds(evaluator, points[: chain.short])
        cold["short"].append(short)
        cold["long"].append(short + seconds(evaluator, points[chain.short :]))
        warm.append(len(points) / seconds(evaluator, points))
        measured, wholes = evaluator.measured, wholes + evaluator.wholes
        nodes = len(evaluator.lower(points[0]).nodes)
    start = time.process_time()
    whole = [evaluator.reference(point) for point in points[:WHOLE]]
    full = WHOLE / (time.process_time() - start)
    if [evaluator(point) for point in points[:WHOLE]] != whole:
        raise SystemExit("the two roads differ: no figure here means anything")
    late = {kind: percentile(times, 0.99) for kind, times in cold.items()}
    cells = [
        f"{nodes}",
        chain.widths,
        f"{chain.short} in {statistics.median(cold['short']):.2f} s, p99 {late['short']:.2f} s",
        f"{chain.long} in {statistics.median(cold['long']):.2f} s, p99 {late['long']:.2f} s",
        f"{chain.long / statistics.median(cold['long']):,.0f}",
        f"{statistics.median(warm):,.0f}",
        f"{full:.1f}",
        f"{measured:,}",
        f"{wholes}",
    ]
    over = [f"{nodes} nodes, widths {chain.widths}, {k} search" for k in chain.held if late[k] > LIMITS[k]]
    return cells, over


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=20, help="searches of each kind, from different seeds")
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name}")
    asked = parser.parse_args()
    lines = [f"| {' | '.join(TITLES)} |", f"|{' --- |' * len(TITLES)}"]
    over: list[str] = []
    fewer = max(asked.runs // 4, 3)
    with tempfile.TemporaryDirectory() as folder:
        for number, chain in enumerate(CHAINS):
            few = chain.blocks > 100
            cells, late = row(Path(folder) / f"chain_{number}.esp", chain, fewer if few else asked.runs)
            over += late
            lines.append(f"| {' | '.join(cells)} |")
            print(lines[-1], flush=True)
    verdict = f"Over their limits: {'; '.join(over)}." if over else "All that are held to limits keep them."
    print(verdict)
    if asked.write:
        RESULTS.write_text(_page("\n".join(lines), verdict, asked.runs, fewer), encoding="utf-8")


def _page(table: str, verdict: str, runs: int, fewer: int) -> str:
    return (
        "# Candidates a second and core, by cost alone\n\n"
        f"`python benchmarks/search_speed.py --runs {runs} --write`: processor seconds of one core, {runs} "
        f"searches each, {fewer} of 1,000 nodes; Python {platform.python_version()} on {platform.machine()}, "
        f"{os.cpu_count()} cores, load average {os.getloadavg()[1]:.0f}.\n\n"
        f"{table}\n\n"
        "Limits at the 99th percentile: 0.5 s for a short search of up to 30 nodes, 10 s for a long one. "
        f"{verdict} The figures and hashes of {WHOLE} candidates each were those of the full road, to the "
        "last digit.\n"
    )


if __name__ == "__main__":
    main()
