"""How many evaluations a search needs, for each algorithm, on spaces whose every point is known beforehand.

Three kinds of spaces. The table of `benchmarks/tabular.py`: accuracy of real trainings, where a search has
arrived at the first blueprint within one standard error of the best mean. `tower.esp`, 157,464 points scored
by cost alone: by latency, and by latency with at least the median's parameters; there a search has arrived at
a latency within 1 % of the least that any point has, which enumerating them tells. And blueprints of the
library that leave enough to choose, by latency, likewise.

Of the table also the front of error, latency and parameters: which share of the true front's hypervolume a
search has after a fifth of the evaluations.

Each algorithm is asked and told as `run_search` does it, one point at a time, and searches with many seeds.
Fails if an algorithm reports nothing.

    python -m benchmarks.search_efficiency --write
"""

from __future__ import annotations

import argparse
import itertools
import platform
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray

from benchmarks.tabular import Settings, Table, read_table, space_of
from esper.lang import BlueprintRejected
from esper.tezzeret.algorithms import ALGORITHMS, ONE_OBJECTIVE, REFUSED, Algorithm, Outcome, make_algorithm
from esper.tezzeret.constraints import Constraint
from esper.tezzeret.costs import Quantities
from esper.tezzeret.evaluator import Evaluator
from esper.tezzeret.pareto import front, hypervolume
from esper.tezzeret.space import Space

HERE = Path(__file__).parent
GOALS = {"table": 3.0, "tower": 10.0}
"""Times fewer evaluations than random search takes."""
TOWER = HERE / "tower.esp"
RESULTS = HERE / "results"
LIBRARY = (
    "conv_block",
    "depthwise",
    "group_norm_block",
    "resnet_bottleneck",
    "separable_conv",
    "shuffle_block",
)
"""All of the library with a finite space of more than 30 points."""
NEAR = 1.01
"""Within this factor of the least latency a search has arrived."""
SHARE = 0.2
"""Of a table's points, that a search for the front may evaluate."""
WHOLE = 0.98
"""Of the true front's hypervolume, what a search is to have then."""
SLOW = ("bayesian",)
"""Algorithms that take milliseconds to be asked, and get fewer seeds."""
LARGE = 10_000
"""Points from which on a space gets fewer seeds, too."""
LONGEST = 300
"""Evaluations after which a search of a slow algorithm is given up, and counts as so many."""
DRAWS = 2000
"""Samples of a bootstrap."""
Evaluations = NDArray[np.int64]


@dataclass(frozen=True)
class Problem:
    """A space whose every point's outcome is known. goal: the objective at which a search has arrived.

    good: how many points are as good. note: what is to be known of it.
    """

    name: str
    space: Space
    outcomes: dict[str, Outcome]
    goal: float
    note: str

    @property
    def good(self) -> int:
        return sum(self.is_good(outcome) for outcome in self.outcomes.values())

    @property
    def line(self) -> str:
        """Of the table of spaces."""
        return f"| {self.name} | {len(self.outcomes):,} | {self.good:,} | {self.note} |"

    def is_good(self, outcome: Outcome) -> bool:
        return not outcome.violation and outcome.objectives[0] <= self.goal


def tabulated() -> list[Problem]:
    """The table."""
    return [by_accuracy(read_table(), space_of(Settings()))]


def by_accuracy(table: Table, space: Space) -> Problem:
    """The table: the objective is the error's mean over the seeds."""
    error, limit = 1 - table.mean, 1 - (table.mean.max() - table.standard_error)
    outcomes = {
        space.encode(point): Outcome((float(one),)) for point, one in zip(table.points, error, strict=True)
    }
    note = (
        f"accuracy {table.mean.min():.3f} to {table.mean.max():.3f}, deviation over the space "
        f"{table.mean.std():.3f}, one standard error {table.standard_error:.4f}"
    )
    return Problem("MNIST-1D table, accuracy", space, outcomes, float(limit), note)


def enumerated(evaluator: Evaluator) -> dict[str, Quantities | None]:
    """What every point of the space costs; None of what the blueprint refuses."""
    found: dict[str, Quantities | None] = {}
    for point in evaluator.space.points():
        try:
            figures = evaluator(point).figures
        except BlueprintRejected:
            figures = None
        found[evaluator.space.encode(point)] = figures
    return found


def by_latency(
    name: str, space: Space, costs: Mapping[str, Quantities | None], bound: Constraint | None = None
) -> Problem:
    """The objective is latency; with a bound, what keeps it comes first."""
    outcomes: dict[str, Outcome] = {}
    for key, figures in costs.items():
        if figures is None:
            outcomes[key] = REFUSED
            continue
        violation = 0.0 if bound is None else bound.excess(getattr(figures, bound.quantity))
        outcomes[key] = Outcome((figures.latency,), violation)
    feasible = [outcome.objectives[0] for outcome in outcomes.values() if not outcome.violation]
    note = f"{len(feasible):,} feasible" if len(feasible) < len(outcomes) else "all feasible"
    return Problem(name, space, outcomes, NEAR * min(feasible), note)


def library() -> list[Problem]:
    """Blueprints of the library as they stand."""
    found = []
    for name in LIBRARY:
        evaluator = Evaluator(name)
        found.append(by_latency(f"{name}, latency", evaluator.space, enumerated(evaluator)))
    return found


def towers() -> list[Problem]:
    """The larger space, as it is and with a bound that half of its points break, the cheapest among them."""
    evaluator = Evaluator(TOWER, sizes={"N": 8, "S": (28, 28)})
    costs = enumerated(evaluator)
    middle = float(np.median([figures.params for figures in costs.values() if figures is not None]))
    bound = Constraint("params", ">=", middle)
    return [
        by_latency("tower, latency", evaluator.space, costs),
        by_latency(f"tower, latency, {bound}", evaluator.space, costs, bound),
    ]


def evaluations(algorithm: Algorithm, problem: Problem, longest: int | None = None) -> int:
    """How many points are asked for until one is good; `longest` if none of so many is."""
    for count in itertools.count(1):
        point = algorithm.ask()
        if point is None:
            raise SystemExit(f"{problem.name}: an algorithm has used up the space and found nothing good")
        outcome = problem.outcomes[problem.space.encode(point)]
        if problem.is_good(outcome) or count == longest:
            return count
        algorithm.tell(point, outcome)
    raise AssertionError


def searched(problem: Problem, seeds: int, slow_seeds: int) -> dict[str, Evaluations]:
    """For each algorithm the evaluations of each seed."""
    found = {}
    for name in ALGORITHMS:
        count, longest = (slow_seeds, LONGEST) if name in SLOW else (seeds, None)
        if name == "random" and len(problem.outcomes) >= LARGE:
            runs = [drawn(problem, seed) for seed in range(seeds)]
        else:
            runs = [
                evaluations(make_algorithm(name, problem.space, seed), problem, longest)
                for seed in range(count)
            ]
        found[name] = np.array(runs, dtype=np.int64)
    return found


def drawn(problem: Problem, seed: int) -> int:
    """What random search needs, without running it: the first place of a good point in a random order."""
    return 1 + min(random.Random(seed).sample(range(len(problem.outcomes)), problem.good))


def medians(runs: Evaluations, rng: np.random.Generator) -> NDArray[np.float64]:
    """Medians of bootstrap samples of the runs."""
    drawn: NDArray[np.float64] = np.median(rng.choice(runs, (DRAWS, len(runs))), axis=1)
    return drawn


def interval(samples: NDArray[np.float64]) -> tuple[float, float]:
    """What holds the middle 95 % of the samples."""
    low, high = np.quantile(samples, (0.025, 0.975))
    return float(low), float(high)


def ratio(of: Evaluations, to: Evaluations) -> tuple[float, float, float]:
    """How many times the evaluations of `to` those of `of` are, by medians, and its interval."""
    rng = np.random.default_rng(0)
    samples = medians(of, rng) / medians(to, rng)
    return (float(np.median(of) / np.median(to)), *interval(samples))


def is_given_up(name: str, runs: Evaluations) -> bool:
    """Whether most searches of a slow algorithm had not arrived when they were ended."""
    return name in SLOW and bool(np.median(runs) >= LONGEST)


def rows(problem: Problem, found: dict[str, Evaluations]) -> list[str]:
    """Lines of the table of evaluations."""
    for name, runs in found.items():
        if not len(runs):
            raise SystemExit(f"{problem.name}: `{name}` reports nothing")
    lines = []
    for name, runs in found.items():
        if is_given_up(name, runs):
            lines.append(f"| {problem.name} | {name} | {len(runs)} | more than {LONGEST} | | |")
            continue
        low, high = interval(medians(runs, np.random.default_rng(0)))
        cells = [problem.name, name, f"{len(runs)}", f"{np.median(runs):,.1f} ({low:,.1f} to {high:,.1f})"]
        for other in ("random", "local"):
            times, least, most = ratio(found[other], runs)
            cells.append("" if other == name else f"{times:.1f} ({least:.1f} to {most:.1f})")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


@dataclass(frozen=True)
class Fronts:
    """A table's points by error, latency and parameters. volume: that the true front dominates.

    reference: the worst of each figure over the table, so every blueprint lies below it or on it.
    """

    space: Space
    vectors: dict[str, tuple[float, ...]]
    reference: tuple[float, ...]
    volume: float

    @classmethod
    def of(cls, table: Table, space: Space) -> Fronts:
        columns = (1 - table.mean, table.costs["latency"], table.costs["params"])
        scaled = [(column - column.min()) / (column.max() - column.min()) for column in columns]
        vectors = [tuple(map(float, row)) for row in zip(*scaled, strict=True)]
        reference = (1.0,) * len(columns)
        keyed = dict(zip(map(space.encode, table.points), vectors, strict=True))
        return cls(space, keyed, reference, _volume(vectors, reference))

    @property
    def size(self) -> int:
        """Of the true front."""
        return len(front(list(self.vectors.values())))

    def share(self, algorithm: Algorithm, budget: int) -> float:
        """Of the true front's volume, what a search has after `budget` evaluations."""
        seen = []
        for _ in range(budget):
            point = algorithm.ask()
            assert point is not None
            vector = self.vectors[self.space.encode(point)]
            algorithm.tell(point, Outcome(vector))
            seen.append(vector)
        return _volume(seen, self.reference) / self.volume


def _volume(vectors: Sequence[tuple[float, ...]], reference: tuple[float, ...]) -> float:
    return hypervolume([vectors[index] for index in front(vectors)], reference)


def front_rows(fronts: Fronts, seeds: int, slow_seeds: int) -> list[str]:
    """Lines of the table of hypervolumes, and what `evolutionary` has to do with the goal."""
    budget = round(SHARE * len(fronts.vectors))
    lines, middles = [], {}
    for name in ALGORITHMS:
        if name in ONE_OBJECTIVE:
            continue
        count = slow_seeds if name in SLOW else seeds
        shares = np.array(
            [fronts.share(make_algorithm(name, fronts.space, seed, 3), budget) for seed in range(count)]
        )
        low, high = interval(np.median(np.random.default_rng(0).choice(shares, (DRAWS, count)), axis=1))
        within = float((shares >= WHOLE).mean())
        middles[name] = float(np.median(shares))
        lines.append(
            f"| {name} | {count} | {np.median(shares):.2%} ({low:.2%} to {high:.2%}) | {within:.0%} |"
        )
        print(lines[-1], flush=True)
    found = middles["evolutionary"]
    kept = "kept" if found >= WHOLE else "missed"
    return [*lines, "", f"{WHOLE:.0%} wanted of `evolutionary`, {found:.1%} found: {kept}."]


COLOURS = {"evolutionary": "#1f6f54", "random": "#8c8c8c", "bayesian": "#3b6ea5", "local": "#b8792a"}


def picture(found: dict[str, dict[str, Evaluations]]) -> str:
    """Of each space a group of bars on a scale of magnitudes: medians, with the middle half of the seeds."""
    wide, high, left, gap = 780, 16, 250, 14
    greatest = max(float(np.quantile(runs, 0.75)) for entry in found.values() for runs in entry.values())
    unit = (wide - left - 150) / float(np.log10(greatest))
    parts, y = [], gap
    for name, entry in found.items():
        parts.append(f'<text x="{left - 8}" y="{y + 2.5 * high}" text-anchor="end">{escape(name)}</text>')
        for algorithm, runs in entry.items():
            low, middle, top = (unit * np.log10(max(q, 1.0)) for q in np.quantile(runs, (0.25, 0.5, 0.75)))
            at, bar = y + high / 2, f'height="{high - 4}" fill="{COLOURS[algorithm]}"'
            more = ", more than" if is_given_up(algorithm, runs) else ""
            label = f"{algorithm}{more} {np.median(runs):,.0f}"
            parts += [
                f'<rect x="{left}" y="{y + 2}" width="{middle:.1f}" {bar}/>',
                f'<line x1="{left + low:.1f}" x2="{left + top:.1f}" y1="{at}" y2="{at}" stroke="#222"/>',
                f'<text x="{left + max(top, middle) + 5:.1f}" y="{at + 4}">{label}</text>',
            ]
            y += high
        y += gap
    head = '<svg xmlns="http://www.w3.org/2000/svg" font-family="sans-serif" font-size="11"'
    size = f'width="{wide}" height="{y}">'
    return "\n".join(
        [f"{head} {size}", '<rect width="100%" height="100%" fill="white"/>', *parts, "</svg>\n"]
    )


TITLES = (
    "| space | algorithm | seeds | evaluations, median | times fewer than random | times fewer than local |"
)
FRONT_TITLES = "| algorithm | seeds | share of the true hypervolume, median | seeds within 2 % |"


def verdict(found: dict[str, dict[str, Evaluations]]) -> list[str]:
    """Of each goal whether `evolutionary` keeps it, on every space that it is about."""
    lines = []
    for word, goal in GOALS.items():
        for name, entry in found.items():
            if word in name:
                times, low, high = ratio(entry["random"], entry["evolutionary"])
                kept = "kept" if times >= goal else "missed"
                lines.append(
                    f"- {name}: {goal:.0f} times fewer than random search wanted, {times:.1f} found "
                    f"({low:.1f} to {high:.1f}): {kept}."
                )
    return lines


PAGE = """# How many evaluations a search needs

`{command}`: searches of each algorithm with {seeds} seeds on the table and the library, {fewer} on the
larger space and for the front, {slow} of `bayesian` everywhere; Python {python} on {machine}. Medians with
95 % intervals of a bootstrap over seeds ({draws} samples). One evaluation is one blueprint; none is
evaluated twice. On the larger space random search is not run but drawn: the first place of a good point in
a random order. A search of `bayesian` is given up after {longest} evaluations.

## The spaces

| space | points | good enough | what is known |
| --- | --- | --- | --- |
{spaces}

The table ([data](../data/tabular_mnist1d.json)) has {trainings:,} trainings: every blueprint of
[tabular.esp](../tabular.esp) with three seeds, {steps} steps each in a slot of the `cnn` host on
MNIST-1D, made by `python benchmarks/tabular.py`. A search is told a blueprint's mean held-out accuracy
over the three seeds. It has arrived at the first blueprint whose mean is within one standard error of
the best mean: the deviation between seeds, pooled over all blueprints, divided by the root of three.
[tower.esp](../tower.esp) was enumerated, and so was each library blueprint: a search has arrived at a
latency at most 1 % above the least that any feasible point has. Latency is the roofline's.

## Evaluations until a search has arrived

{titles}
| --- | --- | --- | --- | --- | --- |
{evaluations}

![Medians, with the middle half of the seeds](search_efficiency.svg)

{verdict}

Spaces of the library are small, and several of their points are equally cheap: the first random points
already hold one, and an algorithm has learned nothing yet.

## The front after a fifth of the evaluations

Error, latency and parameters of the table's blueprints, each scaled to 0..1 over the table; the
reference is the worst of each, so every blueprint counts. {front} of {points} blueprints are on the true
front; a search evaluates {budget}. `local` follows one figure, and finds no front.

{front_titles}
| --- | --- | --- | --- |
{volumes}

## On what the algorithms were chosen

`evolutionary` was made without these spaces: its model, how many children are born, and when it learns
were chosen on eight made-up landscapes of 324 to 4,320 points (main effects, pairs of parameters that
act together, and noise of its own for each point), the several objectives on ten such landscapes with two
costs; on fourteen others of that kind, looked at once, it did as well.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=100, help="searches of each algorithm on small spaces")
    parser.add_argument("--fewer-seeds", type=int, default=40, help="on larger ones, and for the front")
    parser.add_argument("--slow-seeds", type=int, default=20, help="of algorithms that are slow to ask")
    parser.add_argument("--write", action="store_true", help="write search_efficiency.md and .svg")
    asked = parser.parse_args()
    found: dict[str, tuple[Problem, dict[str, Evaluations]]] = {}
    for problem in itertools.chain.from_iterable(make() for make in (library, towers, tabulated)):
        seeds = asked.seeds if len(problem.outcomes) < LARGE else asked.fewer_seeds
        found[problem.name] = problem, searched(problem, seeds, asked.slow_seeds)
        print("\n".join(rows(*found[problem.name])), flush=True)
    table = read_table()
    fronts = Fronts.of(table, space_of(Settings()))
    volumes = front_rows(fronts, asked.fewer_seeds, asked.slow_seeds)
    runs = {name: entry for name, (_, entry) in reversed(found.items())}
    print("\n".join(verdict(runs)))
    if asked.write:
        text = PAGE.format(
            command=f"python -m benchmarks.search_efficiency --seeds {asked.seeds} --write",
            seeds=asked.seeds,
            fewer=asked.fewer_seeds,
            slow=asked.slow_seeds,
            python=platform.python_version(),
            machine=platform.machine(),
            draws=f"{DRAWS:,}",
            longest=LONGEST,
            spaces="\n".join(problem.line for problem, _ in reversed(found.values())),
            trainings=table.accuracy.size,
            steps=table.asked["settings"]["steps"],
            titles=TITLES,
            evaluations="\n".join("\n".join(rows(*entry)) for entry in reversed(found.values())),
            verdict="\n".join(verdict(runs)),
            front=fronts.size,
            points=len(fronts.vectors),
            budget=round(SHARE * len(fronts.vectors)),
            front_titles=FRONT_TITLES,
            volumes="\n".join(volumes),
        )
        RESULTS.joinpath("search_efficiency.md").write_text(text, encoding="utf-8")
        RESULTS.joinpath("search_efficiency.svg").write_text(picture(runs), encoding="utf-8")


if __name__ == "__main__":
    main()
