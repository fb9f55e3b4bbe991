"""How well a figure that costs little tells how well a blueprint learns: rank correlations, on MNIST-1D.

Points of each space are drawn, built into a slot of the small `cnn` host and trained in full. Beside their
held-out accuracies stand, by Spearman's coefficient: zero-cost proxies, what is counted, and short trainings
with another seed. `beyond size` is the partial correlation of ranks given the number of parameters: what a
figure tells that counting does not.

    python benchmarks/proxies.py --points 40 --seeds 2 --write
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import random
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from numpy.typing import NDArray

import esper
from esper.ir.graph import BlueprintIR
from esper.simic.candidates import SlotTask
from esper.tezzeret import Evaluator
from esper.tezzeret.ladder import ETA, PROXY_BATCHES
from esper.tezzeret.proxies import zico

HERE = Path(__file__).parent
SPACES = {"tabular.esp": str(HERE / "tabular.esp"), "conv_enhance": "conv_enhance"}
SLOT = ("mnist1d", "cnn", "blocks.0")


def figures(place: SlotTask, graph: BlueprintIR, steps: int) -> tuple[dict[str, float], dict[str, float]]:
    """What little is known of `graph` before it is trained in full, and the seconds it took."""
    found: dict[str, float] = {}
    seconds: dict[str, float] = {}
    start = time.process_time()
    gradients = place.gradients(graph, 1_000, PROXY_BATCHES)
    found["ZiCo"] = zico(gradients)
    seconds["ZiCo"] = time.process_time() - start
    found["gradient norm"] = math.sqrt(sum(float(g.square().sum()) for g in gradients[0]))
    seconds["gradient norm"] = seconds["ZiCo"] / PROXY_BATCHES
    for part in (ETA**2, ETA):
        start = time.process_time()
        found[f"{steps // part} steps"] = place.accuracy(graph, steps // part, 1_000).accuracy
        seconds[f"{steps // part} steps"] = time.process_time() - start
    return found, seconds


def measured(name: str, points: int, steps: int, seeds: int) -> list[str]:
    """Rows of the table for one space."""
    place = SlotTask(*SLOT)
    params, sizes = place.fitted(SPACES[name])
    evaluator = Evaluator(SPACES[name], fixed=params, sizes=sizes)
    columns: dict[str, list[float]] = {}
    seconds: dict[str, list[float]] = {}
    accuracies = []
    for point in evaluator.space.samples(points, random.Random(0)):
        graph, counted = evaluator.lower(point), evaluator(point).figures
        found, took = figures(place, graph, steps)
        found |= {"parameters": counted.params, "FLOPs": counted.flops}
        for column, value in found.items():
            columns.setdefault(column, []).append(value)
        for column, value in took.items():
            seconds.setdefault(column, []).append(value)
        start = time.process_time()
        accuracies.append(fmean(place.accuracy(graph, steps, seed).accuracy for seed in range(seeds)))
        seconds.setdefault("full", []).append((time.process_time() - start) / seeds)
        print(f"{name} {len(accuracies)}/{points} {accuracies[-1]:.3f} {found}", flush=True)
    return rows(name, columns, seconds, accuracies)


def rows(
    name: str,
    columns: Mapping[str, Sequence[float]],
    seconds: Mapping[str, Sequence[float]],
    accuracies: Sequence[float],
) -> list[str]:
    """Each figure with its correlation, and what it costs of a full training."""
    truth, size = ranked(accuracies), ranked(columns["parameters"])
    full = fmean(seconds["full"])
    lines = []
    for column, values in columns.items():
        ranks = ranked(values)
        beyond = "" if column == "parameters" else f"{correlation(rest(ranks, size), rest(truth, size)):.2f}"
        cost = fmean(seconds[column]) / full if column in seconds else 0.0
        lines.append(
            f"| {name} | {column} | {correlation(ranks, truth):.2f} | {beyond} | {100 * cost:.0f} % |"
        )
    return lines


def ranked(values: Sequence[float]) -> NDArray[np.float64]:
    """Ranks from 1, the mean of them where values are equal."""
    _, place, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    found: NDArray[np.float64] = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return found


def correlation(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Pearson's coefficient; of ranks, Spearman's. NaN where one does not vary."""
    if np.ptp(one) < 1e-9 or np.ptp(other) < 1e-9:
        return math.nan
    return float(np.corrcoef(one, other)[0, 1])


def rest(ranks: NDArray[np.float64], size: NDArray[np.float64]) -> NDArray[np.float64]:
    """What is left of ranks when a line through `size` is taken out."""
    basis = np.stack([np.ones_like(size), size], axis=1)
    left: NDArray[np.float64] = ranks - basis @ np.linalg.lstsq(basis, ranks, rcond=None)[0]
    return left


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--points", type=int, default=40, help="of each space, or all where it has fewer")
    parser.add_argument("--steps", type=int, default=360, help="of a full training")
    parser.add_argument("--seeds", type=int, default=2, help="of full trainings")
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/proxies.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    lines = [
        "# Zero-cost proxies beside counts and short training",
        "",
        f"`python benchmarks/proxies.py --points {options.points} --steps {options.steps} "
        f"--seeds {options.seeds} --write`",
        "",
        f"Esper {esper.__version__}, torch {torch.__version__}, Python {platform.python_version()}, "
        f"{platform.machine()}, {os.cpu_count()} CPUs, one thread. MNIST-1D in `blocks.0` of `cnn`. Spaces: "
        "`benchmarks/tabular.esp`, whose stages begin at random, and the library's `conv_enhance`, whose "
        "last layer begins at zero.",
        "",
        "| space | figure | rank correlation with accuracy | beyond size | cost of a full training |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    for name in SPACES:
        lines += measured(name, options.points, options.steps, options.seeds)
    text = "\n".join(lines) + "\n"
    print(text)
    if options.write:
        (HERE / "results" / "proxies.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
