"""How well a blueprint's time on a processor is predicted: held out by family, with the intervals' coverage.

    python benchmarks/prediction.py measure --passes 4   # resumes; processor time of one thread, for minutes
    python benchmarks/prediction.py report --write

`measure` times operators alone, as a device's profile has them, and blueprints of the library at random
values and sizes, pass after pass in random order, so that what disturbs the machine falls on all alike. A
time is the least of all passes. How far the leasts of the even and of the odd passes lie apart is a
blueprint's repeatability.

`report` leaves out one family (one library blueprint, whatever its values and sizes) after the other: neither
the correction nor the interval knows any measurement of it. Operators were measured at sizes of their own. In
a second table the operators that no other family has are taken out of the profile, too.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from esper.errors import EsperError  # noqa: E402
from esper.files import write_whole  # noqa: E402
from esper.ir.graph import BlueprintIR  # noqa: E402
from esper.lang import Interval, LibraryEntry, library, lower, size_values  # noqa: E402
from esper.tezzeret.costs import quantities  # noqa: E402
from esper.tezzeret.costs.exact import exact_memory  # noqa: E402
from esper.tezzeret.prediction.calls import calls_of  # noqa: E402
from esper.tezzeret.prediction.device import Rates, cpu_name, measured_rates  # noqa: E402
from esper.tezzeret.prediction.predictor import (  # noqa: E402
    LEVEL,
    QUANTITIES,
    Observation,
    Predictor,
    Quantity,
    corrected,
    fit,
)
from esper.tezzeret.prediction.profile import CHAIN, Both, Profile, profile_of, tiny  # noqa: E402
from esper.tezzeret.prediction.sweep import Use, uses  # noqa: E402
from esper.tezzeret.prediction.timing import keep_freed_memory, least_seconds  # noqa: E402
from esper.urza.arena import arena  # noqa: E402
from esper.urza.compiler import make_programs  # noqa: E402
from esper.urza.run.seed import CompiledSeed  # noqa: E402

DATA = Path(__file__).parent / "data" / "prediction.json"
RESULTS = Path(__file__).parent / "results"
POINTS = 8
"""Of each family."""

FLOPS = 5e5, 6e7
"""Of a training step, least and most: backward has twice the forward direction's."""

ELEMENTS = 1 << 18
"""Of the largest value, at most."""

SECONDS = {"uses": 0.012, "blueprints": 0.06}
"""How long one is timed in a pass, at least."""

SAVED_EVERY = 20.0
REPEATABLE = 0.05
WIDTHS = tuple(range(16, 321, 8))
GOALS = ((0.15, 0.90), (0.25, 0.99))
COVERED = (0.85, 0.95)


@dataclass(frozen=True)
class Point:
    """A library blueprint at values and sizes."""

    family: str
    values: tuple[tuple[str, Any], ...]
    sizes: tuple[tuple[str, Any], ...]

    @property
    def key(self) -> str:
        return json.dumps([self.family, dict(self.values), dict(self.sizes)])

    @staticmethod
    def of(key: str) -> Point:
        family, values, sizes = json.loads(key)
        listed = {name: tuple(size) if isinstance(size, list) else size for name, size in sizes.items()}
        return Point(family, tuple(values.items()), tuple(listed.items()))

    def lower(self) -> BlueprintIR:
        return lower(self.family, sizes=dict(self.sizes), **dict(self.values))


def points(seed: int) -> list[Point]:
    """`POINTS` of each family, drawn at random."""
    return [point for entry in library() for point in drawn(entry, random.Random(f"{seed} {entry.name}"))]


def drawn(entry: LibraryEntry, rng: random.Random) -> Iterator[Point]:
    count = 0
    while count < POINTS:
        found = candidate(entry, rng)
        try:
            ir = found.lower()
            sizes = size_values(ir, dict(found.sizes))
            largest = max(math.prod(node.type.concrete_shape(sizes)) for node in ir.nodes)
            if largest > ELEMENTS:
                continue
            flops = 3 * sum(call.flops for call in calls_of(ir, sizes).calls)
        except EsperError:  # values that do not suit each other
            continue
        if FLOPS[0] <= flops <= FLOPS[1]:
            count += 1
            yield found


def candidate(entry: LibraryEntry, rng: random.Random) -> Point:
    values: dict[str, Any] = {}
    for parameter in entry.signature.parameters:
        if isinstance(parameter.domain, tuple):
            values[parameter.name] = rng.choice(parameter.domain)
        elif isinstance(parameter.domain, Interval):
            if parameter.domain.low == 0.0 and rng.random() < 0.5:
                values[parameter.name] = rng.choice((0.0, 0.2))
        elif parameter.kind == "bool":
            values[parameter.name] = rng.choice((False, True))
    first = next(parameter.name for parameter in entry.signature.parameters if parameter.kind == "dim")
    values[first] = rng.choice(WIDTHS)
    if first == "length":
        values |= {"length": rng.choice(range(8, 97, 8)), "features": rng.choice(WIDTHS)}
    sizes: dict[str, Any] = {}
    side = rng.randint(4, 32)
    for symbol in lower(entry.name).symbols:
        stem = symbol.partition(".")[0]
        if stem == "N":
            sizes[stem] = rng.randint(1, 16)
        elif "." in symbol:
            sizes[stem] = (side // 2, side // 2) if stem == "R" else (side, side)
        else:
            sizes[stem] = rng.randint(4, 96)
    return Point(entry.name, tuple(values.items()), tuple(sizes.items()))


# Measuring.


class Journal:
    """Times in nanoseconds by what was timed, one pair for each pass; a file that is always whole."""

    def __init__(self, path: Path) -> None:
        self.path = path
        machine = {"device": cpu_name(), "torch": torch.__version__, "python": platform.python_version()}
        self.held: dict[str, Any] = {"machine": machine, "rates": None, "loads": [], "cpu_seconds": 0.0}
        self.held |= {"points": [], "uses": {}, "blueprints": {}}
        if path.exists():
            found = json.loads(path.read_text(encoding="utf-8"))
            if found["machine"] != machine:
                raise SystemExit(f"{path} was measured on {found['machine']}, and this is {machine}")
            self.held = found
        self._saved = time.monotonic()

    def add(self, kind: str, key: str, found: Both) -> None:
        pair = [round(found.forward * 1e9), round(found.backward * 1e9)]
        self.held[kind].setdefault(key, []).append(pair)
        if time.monotonic() - self._saved > SAVED_EVERY:
            self.save()

    def save(self) -> None:
        self.path.parent.mkdir(exist_ok=True)
        parts = [f'"{name}": {json.dumps(self.held[name])}' for name in self.held if name not in SECONDS]
        for kind in SECONDS:
            rows = (f"{json.dumps(key)}: {json.dumps(times)}" for key, times in self.held[kind].items())
            parts.append(f'"{kind}": {{\n' + ",\n".join(rows) + "\n}")
        write_whole(self.path, "{" + ",\n".join(parts) + "}\n")
        self._saved = time.monotonic()


def use_key(use: Use) -> str:
    return json.dumps([use.op, use.inputs, use.expression])


def use_of(key: str) -> Use:
    op, inputs, expression = json.loads(key)
    return Use(op, tuple(map(tuple, inputs)), expression)


def timed(ir: BlueprintIR, sizes: dict[str, int], seconds: float) -> Both:
    forward, backward = least_seconds(ir, sizes, seconds)
    return Both(forward=forward, backward=backward)


def measure(path: Path, passes: int, scale: float) -> None:
    journal = Journal(path)
    todo: list[tuple[str, str]] = [("uses", use_key(use)) for use in (tiny(1), tiny(CHAIN), *uses(0, scale))]
    if not journal.held["points"]:
        journal.held["points"] = [point.key for point in points(0)]
        journal.save()
    todo += [("blueprints", key) for key in journal.held["points"]]
    for number in range(passes):
        rates = measured_rates()
        before = journal.held["rates"] or [0.0, 0.0]
        journal.held["rates"] = [
            max(before[0], rates.flops_per_second),
            max(before[1], rates.bytes_per_second),
        ]
        random.Random(number).shuffle(todo)
        left = [(kind, key) for kind, key in todo if len(journal.held[kind].get(key, ())) <= number]
        started = time.process_time()
        for kind, key in left:
            if kind == "uses":
                ir, sizes = use_of(key).lower(), {}
            else:
                point = Point.of(key)
                ir = point.lower()
                sizes = size_values(ir, dict(point.sizes))
            journal.add(kind, key, timed(ir, sizes, SECONDS[kind]))
        if left:
            journal.held["loads"].append(round(os.getloadavg()[0], 1))
            journal.held["cpu_seconds"] += round(time.process_time() - started)
            journal.save()
        print(f"pass {number + 1}: {len(left)} timed, load {os.getloadavg()[0]:.1f}", flush=True)


# Reporting.


@dataclass(frozen=True)
class Seen:
    """A blueprint that was measured. spread: by quantity, how far its leasts of two halves lie apart."""

    point: Point
    observation: Observation
    spread: dict[Quantity, float]


def profile_from(held: dict[str, Any]) -> Profile:
    times = {}
    for key, pairs in held["uses"].items():
        forward, backward = (min(column) * 1e-9 for column in zip(*pairs, strict=True))
        times[use_of(key)] = Both(forward=forward, backward=backward)
    machine = held["machine"]
    return profile_of(machine["device"], machine["torch"], Rates(*held["rates"]), times)


def seen_in(held: dict[str, Any]) -> list[Seen]:
    found = []
    for key, pairs in held["blueprints"].items():
        point = Point.of(key)
        ir = point.lower()
        calls = calls_of(ir, size_values(ir, dict(point.sizes)))
        leasts = [least(pairs[half::2]) for half in (0, 1)] if len(pairs) > 1 else []
        seconds = least(pairs)
        spread: dict[Quantity, float] = {
            quantity: abs(math.log(leasts[0][quantity] / leasts[1][quantity])) if leasts else math.inf
            for quantity in QUANTITIES
        }
        found.append(Seen(point, Observation(point.family, calls, seconds), spread))
    return found


def least(pairs: Sequence[Sequence[int]]) -> dict[Quantity, float]:
    forward, backward = (min(column) * 1e-9 for column in zip(*pairs, strict=True))
    return {"forward": forward, "step": forward + backward}


@dataclass(frozen=True)
class Judged:
    """A prediction beside the time that was measured."""

    family: str
    error: float
    is_inside: bool
    width: float


def held_out(bare: Predictor, seen: Sequence[Seen], quantity: Quantity, without_own: bool) -> list[Judged]:
    """Each blueprint predicted without its family. without_own: without the operators that it alone has."""
    found = []
    owners: dict[str, set[str]] = {}
    for one in seen:
        for call in one.observation.calls.calls:
            owners.setdefault(call.op, set()).add(one.point.family)
    for family in dict.fromkeys(one.point.family for one in seen):
        own = {op for op, families in owners.items() if families == {family}} if without_own else set()
        models = {op: model for op, model in bare.operators.models.items() if op not in own}
        known = replace(
            bare, operators=replace(bare.operators, models=models, _known={}) if own else bare.operators
        )
        predictor = corrected(known, [one.observation for one in seen if one.point.family != family])
        for one in seen:
            if one.point.family == family:
                prediction = predictor.of(one.observation.calls)
                estimate = getattr(prediction, quantity)
                seconds = one.observation.seconds[quantity]
                inside = estimate.low <= seconds <= estimate.high
                error = estimate.seconds / seconds - 1
                found.append(Judged(family, error, inside, estimate.high / estimate.low))
    return found


def row(name: str, judged: Sequence[Judged]) -> str:
    errors = [abs(one.error) for one in judged]
    shares = [sum(error <= limit for error in errors) / len(errors) for limit, _ in GOALS]
    covered = sum(one.is_inside for one in judged) / len(judged)
    width = statistics.median(one.width for one in judged) ** 0.5 - 1
    return (
        f"| {name} | {len(judged)} | {statistics.median(errors):.1%} | {shares[0]:.1%} | {shares[1]:.1%} "
        f"| {max(errors):.0%} | {covered:.1%} | ±{width:.0%} |"
    )


def verdict(judged: Sequence[Judged]) -> str:
    """Which goals are met."""
    told = []
    for limit, goal in GOALS:
        share = sum(abs(one.error) <= limit for one in judged) / len(judged)
        told.append(f"within {limit:.0%} {'met' if share >= goal else 'missed'}")
    covered = sum(one.is_inside for one in judged) / len(judged)
    told.append(f"intervals {'met' if COVERED[0] <= covered <= COVERED[1] else 'missed'}")
    return ", ".join(told)


HEAD = (
    "| held out by family | blueprints | median error | within 15 % | within 25 % | worst | in the interval "
    "| its median width |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
)


def seconds_of_predictions(predictor: Predictor, seen: Sequence[Seen]) -> tuple[list[float], list[float]]:
    """Processor time of a prediction from the graph, the first of each, and again."""
    graphs = [(one.point.lower(), dict(one.point.sizes)) for one in seen]
    found: tuple[list[float], list[float]] = ([], [])
    for times in found:
        for ir, sizes in graphs:
            begun = time.process_time()
            predictor(ir, sizes)
            times.append(time.process_time() - begun)
    return found


def is_exact(point: Point) -> bool:
    """Whether parameters and the arenas of the plan are those that a seed has and a compilation reports."""
    ir, sizes = point.lower(), dict(point.sizes)
    known = exact_memory(ir, sizes)
    values = size_values(ir, sizes)
    programs = make_programs(ir)
    arenas = [arena(program, values).size for program in programs.both]
    weights = sum(weight.numel() for weight in CompiledSeed(ir).parameters())
    return quantities(ir, sizes).params == weights and [known.forward_arena, known.backward_arena] == arenas


def report(path: Path, write: bool) -> None:
    held = json.loads(path.read_text(encoding="utf-8"))
    seen = seen_in(held)
    profile = profile_from(held)
    begun = time.process_time()
    bare = fit(profile)
    fitting = time.process_time() - begun
    predictor = corrected(bare, [one.observation for one in seen])
    cold, warm = seconds_of_predictions(predictor, seen)
    steady = {
        quantity: [one for one in seen if one.spread[quantity] <= math.log1p(REPEATABLE)]
        for quantity in QUANTITIES
    }
    tables = []
    verdicts = []
    kinds = (("its operators known", False), ("operators that it alone has unknown", True))
    for title, without_own in kinds:
        for quantity in QUANTITIES:
            judged = held_out(bare, steady[quantity], quantity, without_own)
            tables.append(row(f"{quantity}, {title}", judged))
            verdicts.append(f"- {quantity}, {title}: {verdict(judged)}")
    first = {one.point.family: one.point for one in seen}
    exact = sum(map(is_exact, first.values()))
    spreads = sorted(one.spread["step"] for one in seen)
    machine = held["machine"]
    steps = sorted(one.observation.seconds["step"] for one in seen)
    lines = [
        "# Latency on a processor, predicted",
        "",
        "`python benchmarks/prediction.py report --write`, from `benchmarks/data/prediction.json`, which "
        f"`measure` wrote in {held['cpu_seconds']:.0f} s of processor time.",
        "",
        f"{machine['device']}, one thread, processor time, torch {machine['torch']}, Python "
        f"{machine['python']}; products {held['rates'][0] / 1e9:.0f} GFLOP/s, copies "
        f"{held['rates'][1] / 1e9:.0f} GB/s. The machine was shared with others: load averages after the "
        f"passes {', '.join(map(str, held['loads']))} on {os.cpu_count()} cores.",
        "",
        f"{len(seen)} blueprints of {len(first)} families at random values and sizes, "
        f"{steps[0] * 1e6:.0f} us to {steps[-1] * 1e3:.1f} ms a training step; {len(profile.uses)} uses of "
        f"{len({use.op for use in profile.uses})} operators. Repeatability of a step, by the leasts of the "
        f"even and the odd passes: median {spreads[len(spreads) // 2]:.1%}, 90th percentile "
        f"{spreads[int(0.9 * len(spreads))]:.1%}. The table has those within {REPEATABLE:.0%}: "
        f"{len(steady['step'])} of {len(seen)} for the step.",
        "",
        HEAD,
        *tables,
        "",
        f"Goals: {GOALS[0][1]:.0%} within {GOALS[0][0]:.0%}, {GOALS[1][1]:.0%} within {GOALS[1][0]:.0%}, "
        f"{COVERED[0]:.0%} to {COVERED[1]:.0%} in the {LEVEL:.0%} interval.",
        *verdicts,
        "",
        "Which figures describe an operator was chosen with errors of these blueprints in sight, so the "
        "shares are not those of a blind test.",
        "",
        f"A prediction from the graph takes {statistics.median(warm) * 1e3:.2f} ms warm (median; "
        f"{max(warm) * 1e3:.2f} at most), {statistics.median(cold) * 1e3:.2f} ms the first time "
        f"({max(cold) * 1e3:.2f} at most); fitting the operators {fitting:.0f} s. The goal is 5 ms warm.",
        "",
        f"Parameters and arena bytes are exact for {exact} of {len(first)} blueprints, one of each family: "
        "as many as the seed's weights have, and what the planner lays out.",
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    if write:
        write_whole(RESULTS / "prediction.md", text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    measuring = commands.add_parser("measure")
    measuring.add_argument("--passes", type=int, default=4)
    measuring.add_argument("--scale", type=float, default=1.0, help="uses of each operator, as a share")
    measuring.add_argument("--data", type=Path, default=DATA)
    reporting = commands.add_parser("report")
    reporting.add_argument("--write", action="store_true", help="write benchmarks/results/prediction.md")
    reporting.add_argument("--data", type=Path, default=DATA)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    if arguments.command == "measure":
        measure(arguments.data, arguments.passes, arguments.scale)
    else:
        report(arguments.data, arguments.write)


if __name__ == "__main__":
    main()
