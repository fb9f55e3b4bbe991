"""What the optimizer makes of every library blueprint under an objective, by plans.

Latency is the roofline of a device's datasheet with launches, memory the most that a training step holds;
errors are measured. Fails unless each technique changes a blueprint, and each blueprint that is rewritten is
better by its objective.

    python benchmarks/optimizer.py --write
"""

from __future__ import annotations

import argparse
import math
import platform
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from esper.lang import library, lower
from esper.passes import run_passes
from esper.tezzeret.optimizer import GOALS, Optimized, optimize
from esper.tezzeret.optimizer.techniques import TECHNIQUES

RESULT = Path(__file__).parent / "results" / "optimizer.md"


@dataclass(frozen=True, slots=True)
class Row:
    blueprint: str
    objective: str
    found: Optimized

    def text(self) -> str:
        before, after = self.found.before, self.found.after
        error = max((step.error for step in self.found.steps), default=0.0)
        cells = [
            self.blueprint,
            f"{before.latency * 1e6:.1f} → {after.latency * 1e6:.1f}",
            f"{before.peak / 2**20:.2f} → {after.peak / 2**20:.2f}",
            f"{before.kernels} + {before.calls} → {after.kernels} + {after.calls}",
            f"{error:.3f}" if error else "",
            "; ".join(f"{step.technique}: {_short(step.entry)}" for step in self.found.steps),
        ]
        return f"| {' | '.join(cells)} |"


def _short(entry: str) -> str:
    """A pass, with the number of nodes that it keeps wide."""
    name, _, options = entry.partition("{")
    kept = options.partition("keep=[")[2].partition("]")[0]
    return f"{name} but for {len(kept.split(','))}" if kept else name


def rows(target: str, objectives: Sequence[str]) -> Iterator[Row]:
    for objective in objectives:
        for entry in library():
            ir = lower(entry.name)
            found = optimize(ir, objective, target=target)
            rank = GOALS[objective].rank
            if found.steps and not rank(found.after) < rank(found.before):
                raise SystemExit(f"{entry.name} is no better for {objective}")
            if found.steps and run_passes(ir, found.pipeline) != found.ir:
                raise SystemExit(f"{entry.name}: the pipeline makes another graph")
            print(Row(entry.name, objective, found).text(), flush=True)
            yield Row(entry.name, objective, found)


def page(found: Sequence[Row], target: str) -> str:
    objectives = list(dict.fromkeys(row.objective for row in found))
    used = Counter((row.objective, step.technique) for row in found for step in row.found.steps)
    lines = [
        "# What the optimizer makes of the library",
        "",
        f"`python benchmarks/optimizer.py --write`: {len(found) // len(objectives)} blueprints at their "
        f"defaults, plans for {target} by its datasheet; Python {platform.python_version()}, torch "
        f"{torch.__version__}. Latency counts launches; nothing but errors is measured. Means are geometric.",
        "",
        "| objective | latency, after by before | peak, after by before | "
        + " | ".join(technique.name for technique in TECHNIQUES)
        + " |",
        "| --- | ---: | ---: |" + " ---: |" * len(TECHNIQUES),
    ]
    for objective in objectives:
        mine = [row.found for row in found if row.objective == objective]
        latency = _mean([one.after.latency / one.before.latency for one in mine])
        peak = _mean([one.after.peak / one.before.peak for one in mine])
        counts = " | ".join(str(used[objective, technique.name]) for technique in TECHNIQUES)
        lines.append(f"| {objective} | {latency:.3f} | {peak:.3f} | {counts} |")
    for objective in objectives:
        lines += [
            "",
            f"## {objective.capitalize()}",
            "",
            "| blueprint | latency, µs | peak, MiB | kernels + calls | error | steps |",
            "| --- | ---: | ---: | ---: | ---: | --- |",
            *(row.text() for row in found if row.objective == objective),
        ]
    return "\n".join(lines) + "\n"


def _mean(ratios: Sequence[float]) -> float:
    return math.exp(sum(map(math.log, ratios)) / len(ratios))


def unused(found: Sequence[Row]) -> Mapping[str, int]:
    """Techniques that change no blueprint, whatever the objective."""
    used = Counter(step.technique for row in found for step in row.found.steps)
    return {technique.name: 0 for technique in TECHNIQUES if not used[technique.name]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", default="sm_80")
    parser.add_argument("--objectives", nargs="+", choices=GOALS, default=["latency", "memory"])
    parser.add_argument("--write", action="store_true", help="keep the page in benchmarks/results")
    arguments = parser.parse_args()
    found = list(rows(arguments.target, arguments.objectives))
    text = page(found, arguments.target)
    if idle := unused(found):
        raise SystemExit(f"no blueprint needs {', '.join(idle)}")
    if arguments.write:
        RESULT.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
