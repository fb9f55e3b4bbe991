"""Whether what is returned keeps its constraints, and whether what is refused is rightly refused.

Feasible requirements are so by construction: a random point of a random template between random shapes, with
bounds up to 5 % above its figures. Infeasible ones bound a figure below what `Bounding` proves that every
graph of every template that fits has at least, without counting a single one. Figures of what is returned
are counted again from its source, by the full road. The solver alone is asked for several rules at once;
for pairs that contradict each other the truth is told by counting every point of the space.

A run that is stopped by --seconds is gone on with by the next: what cases have come to is kept as data.

    python benchmarks/constraint_satisfaction.py --cases 1000 --write
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

from esper.errors import EsperError
from esper.files import write_whole
from esper.lang import BlueprintRejected, lower_loaded
from esper.simic.study.records import made_by
from esper.tezzeret import Candidate, Constraint, Evaluator
from esper.tezzeret.costs import DEVICES, REFERENCE_DEVICE, quantities
from esper.tezzeret.costs.figures import counted
from esper.tezzeret.requirements import OperationType, Requirements, parse_requirements
from esper.tezzeret.solver import enforce
from esper.tezzeret.solver.bounding import Bounding
from esper.tezzeret.solver.enforce import defaults_of
from esper.tezzeret.solver.errors import Infeasible
from esper.tezzeret.solver.rates import finite
from esper.tezzeret.space import Point
from esper.tezzeret.synthesis import TEMPLATES, Fitted, fitted, serving, synthesize
from esper.tezzeret.synthesis.errors import Unsatisfiable
from esper.tezzeret.synthesis.existing import graph_of
from esper.tezzeret.synthesis.templates import loaded_template

RESULTS = Path(__file__).parent / "results" / "constraint_satisfaction.md"
DATA = RESULTS.with_suffix(".json")
OPERATIONS: tuple[OperationType, ...] = get_args(OperationType)
RULED = ("params", "flops", "bytes", "memory", "latency_ms")
ABOVE = 0.05
TRIALS = 20
INSTANTIATION_MS = 10.0
PAIRS = 30


@dataclass(frozen=True)
class Answered:
    """One case of a kind. reason: why the answer is wrong, empty where it is right. seconds: that it took."""

    kind: str
    reason: str
    seconds: float


def taken(kind: str, case: object, judged: Callable[..., str], *arguments: object) -> Answered:
    start = time.process_time()
    reason = judged(*arguments)
    return Answered(kind, f"{case}: {reason}" if reason else "", time.process_time() - start)


def row(kind: str, answers: list[Answered]) -> str:
    own = [one for one in answers if one.kind == kind]
    right = sum(not one.reason for one in own)
    times = [one.seconds for one in own] or [0.0]
    share = right / len(own) if own else 0.0
    spent = " | ".join(f"{percentile(times, at):.2f}" for at in (0.5, 0.99))
    return f"| {kind} | {len(own):,} | {right:,} | {share:.2%} | {spent} |"


def percentile(values: list[float], share: float) -> float:
    """Nearest rank."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def shapes(rng: random.Random) -> tuple[int, ...]:
    batch = rng.choice((1, 2, 4))
    kind = rng.choice(("map", "map", "sequence", "sequence", "row"))
    if kind == "map":
        return batch, rng.choice((16, 32, 64)), rng.choice((4, 8)), rng.choice((4, 8))
    if kind == "sequence":
        return batch, rng.choice((8, 16, 32)), rng.choice((32, 64))
    return batch, rng.choice((16, 32, 100))


def asked(
    shape: tuple[int, ...], operation: str, limits: Mapping[str, float], target: str | None
) -> Requirements:
    more: dict[str, Any] = {} if target is None else {"hardware_target": target}
    return parse_requirements(
        {
            "input_shape": list(shape),
            "output_shape": list(shape),
            "operation_type": operation,
            "constraints": dict(limits),
            "optimization_target": "latency",
            **more,
        }
    )


def placed(rng: random.Random) -> tuple[tuple[int, ...], Fitted]:
    """A shape, and a template that keeps it."""
    while True:
        shape = shapes(rng)
        found = fitted(TEMPLATES[rng.choice([*TEMPLATES])], asked(shape, "any", {}, None))
        if isinstance(found, Fitted):
            return shape, found


def evaluator_of(one: Fitted) -> Evaluator:
    return Evaluator(one.template.name, None, one.fixed, one.sizes, one.precision)


def some_point(evaluator: Evaluator, rng: random.Random) -> Point:
    """A random point that the blueprint takes."""
    space, default = defaults_of(evaluator)
    while True:
        point = space.sample(rng) if space.domains else default
        try:
            evaluator.lower(point)
        except BlueprintRejected:
            continue
        return point


def figures(evaluator: Evaluator, point: Point) -> Callable[..., float]:
    """By quantity and target, counted whole."""
    devices = [REFERENCE_DEVICE, *DEVICES.values()]
    found = counted(evaluator.lower(point), evaluator.sizes, devices)
    by_target = dict(zip((None, *DEVICES), found, strict=True))

    def figure(quantity: str, target: str | None = None) -> float:
        return float(getattr(by_target[target], quantity))

    return figure


LIMITS = {"max_latency_ms": "latency_ms", "max_memory_mb": "memory_mb"}


def feasible(rng: random.Random) -> Requirements:
    shape, one = placed(rng)
    evaluator = evaluator_of(one)
    figure = figures(evaluator, some_point(evaluator, rng))
    target = rng.choice((None, *DEVICES))
    names = rng.choice(([*LIMITS][:1], [*LIMITS][1:], [*LIMITS]))
    limits = {name: figure(LIMITS[name], target) * (1 + rng.random() * ABOVE) for name in names}
    return asked(shape, rng.choice(("any", *one.template.operations)), limits, target)


def infeasible(rng: random.Random) -> Requirements:
    shape, one = placed(rng)
    operation = rng.choice(("any", *one.template.operations * 3))
    name, quantity = rng.choice([*LIMITS.items()])
    target = rng.choice((None, *DEVICES))
    plain = asked(shape, operation, {}, target)
    rule = Constraint(quantity, "<=", 0.0, target)
    fits = [
        found for each in serving(plain.operation_type) if isinstance(found := fitted(each, plain), Fitted)
    ]
    least = min(bound_of(each, rule) for each in fits)
    if not least:  # a template without weights or products: nothing is proven of it
        return infeasible(rng)
    return asked(shape, operation, {name: least * rng.uniform(0.3, 0.999)}, target)


def bound_of(one: Fitted, rule: Constraint) -> float:
    """What every graph of a template's space has at least."""
    evaluator = evaluator_of(one)
    space, default = defaults_of(evaluator)
    domains = finite(space, evaluator.loaded, default)[0].domains
    return Bounding(evaluator).least({n: d for n, d in domains.items() if isinstance(d, tuple)}).of(rule)


def kept(requirements: Requirements) -> str:
    """Why the answer to feasible requirements is wrong; empty where it is right."""
    try:
        found = synthesize(requirements, trials=TRIALS)
    except EsperError as error:
        return f"refused: {error}"
    ir = graph_of(found.blueprint)
    if ir.hash != found.ir.hash:
        return "its source gives another graph"
    for constraint in requirements.bounds():
        device = REFERENCE_DEVICE if constraint.target is None else DEVICES[constraint.target]
        again = getattr(quantities(ir, found.blueprint.sizes, device), constraint.quantity)
        if not constraint.holds(again):
            return f"{constraint} is broken by {again}"
    return ""


def refused(requirements: Requirements) -> str:
    try:
        found = synthesize(requirements, trials=TRIALS)
    except Unsatisfiable:
        return ""
    except EsperError as error:
        return f"not proven: {error}"
    return f"answered by {found.algorithm}"


def ruled(rng: random.Random) -> tuple[Evaluator, list[Constraint]]:
    """A template with one to five bounds above the figures of one point, one of them perhaps from below."""
    evaluator = evaluator_of(placed(rng)[1])
    figure = figures(evaluator, some_point(evaluator, rng))
    rules = [
        Constraint(name, "<=", figure(name, None) * (1 + rng.random() * ABOVE))
        for name in rng.sample(RULED, rng.randint(1, len(RULED)))
    ]
    if rng.random() < 0.3:
        name = rng.choice(RULED)
        rules.append(Constraint(name, ">=", figure(name, None) * (1 - rng.random() * ABOVE)))
    return evaluator, rules


def repaired(evaluator: Evaluator, rules: list[Constraint]) -> str:
    try:
        found = enforce(evaluator, rules)
    except EsperError as error:
        return f"refused: {error}"
    figure = figures(evaluator, found.candidate.values)
    broken = [rule for rule in rules if not rule.holds(figure(rule.quantity, None))]
    return f"{broken} are broken" if broken else ""


def contradicting(rng: random.Random) -> Iterator[tuple[Evaluator, list[Constraint]]]:
    """Pairs of bounds, each kept by some point of a template's space, that no point keeps together."""
    while True:
        evaluator = evaluator_of(placed(rng)[1])
        space, default = defaults_of(evaluator)
        if not space.domains:
            continue
        listed = finite(space, evaluator.loaded, default)[0]
        if listed.size is None or listed.size > 40:
            continue
        every = [
            found for point in listed.points() if (found := counted_or_none(evaluator, point)) is not None
        ]
        for _ in range(PAIRS):
            one, other = rng.sample(RULED, 2)
            low = rng.choice(sorted({getattr(found.figures, one) for found in every}))
            high = rng.choice(sorted({getattr(found.figures, other) for found in every}))
            rules = [Constraint(one, "<=", low), Constraint(other, ">=", high)]
            if not any(all(r.holds(getattr(found.figures, r.quantity)) for r in rules) for found in every):
                yield evaluator, rules
                break


def counted_or_none(evaluator: Evaluator, point: Mapping[str, Any]) -> Candidate | None:
    try:
        return evaluator(point)
    except BlueprintRejected:
        return None


def recognised(evaluator: Evaluator, rules: list[Constraint]) -> str:
    try:
        found = enforce(evaluator, rules)
    except Infeasible as error:
        conflict = set(error.details["rules"])
        return "" if conflict == set(rules) else f"{error.details['rules']} are named"
    except EsperError as error:
        return f"not proven: {error}"
    return f"{found.candidate.values} is returned"


def instantiations(rng: random.Random, count: int) -> list[float]:
    """Milliseconds of this process to instantiate each template at random points, after the first of each."""
    found: list[float] = []
    for template in TEMPLATES.values():
        one: Fitted | None = None
        while not isinstance(one, Fitted):
            tried = fitted(template, asked(shapes(rng), "any", {}, None))
            one = tried if isinstance(tried, Fitted) else None
        evaluator = evaluator_of(one)
        loaded = loaded_template(template.name)
        values = [{**one.fixed, **some_point(evaluator, rng)} for _ in range(count)]
        lower_loaded(loaded, values[0], one.sizes, one.precision)
        for each in values:
            start = time.process_time()
            lower_loaded(loaded, each, one.sizes, one.precision)
            found.append((time.process_time() - start) * 1e3)
    return found


MET, UNMET = "requirements that can be met", "requirements below a proven bound"
KEPT, BROKEN = "several rules that can be kept", "two rules that contradict each other"
KINDS = (MET, UNMET, KEPT, BROKEN)


def case(seed: int, number: int) -> Iterator[Answered]:
    """Case `number`, the same whatever cases were before it."""
    rng = random.Random(f"{seed} {number}")
    met = feasible(rng)
    yield taken(MET, met.text, kept, met)
    evaluator, rules = ruled(rng)
    yield taken(KEPT, f"{evaluator.blueprint} {rules}", repaired, evaluator, rules)
    if number % 10 == 0:
        unmet = infeasible(rng)
        yield taken(UNMET, unmet.text, refused, unmet)
        evaluator, rules = next(contradicting(rng))
        yield taken(BROKEN, f"{evaluator.blueprint} {rules}", recognised, evaluator, rules)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cases", type=int, default=1000, help="feasible cases; a tenth of infeasible ones")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=math.inf, help="end after so long, to go on later")
    parser.add_argument(
        "--write", action="store_true", help=f"keep cases in {DATA.name}, write {RESULTS.name}"
    )
    arguments = parser.parse_args()
    deadline = time.monotonic() + arguments.seconds
    found: dict[str, Any] = {"made_by": made_by(), "seed": arguments.seed, "instantiation": [], "cases": []}
    kept = json.loads(DATA.read_text(encoding="utf-8")) if arguments.write and DATA.exists() else found
    if all(kept.get(name) == found[name] for name in ("made_by", "seed")):
        found = kept
    else:
        print(f"{DATA} holds answers of other code or another seed, and is begun anew", flush=True)
    times = found["instantiation"] = found["instantiation"] or instantiations(random.Random(0), 10)
    spent = f"median {percentile(times, 0.5):.2f} ms, 99th percentile {percentile(times, 0.99):.2f} ms"
    print(f"Instantiating a template: {spent}", flush=True)
    while len(found["cases"]) < arguments.cases and time.monotonic() < deadline:
        number = len(found["cases"])
        found["cases"].append([asdict(one) for one in case(arguments.seed, number)])
        if arguments.write:
            write_whole(DATA, json.dumps(found) + "\n")
    answers = [Answered(**one) for several in found["cases"] for one in several]
    wrong = [one.reason for one in answers if one.reason]
    table = "\n".join(
        [HEADINGS, "| --- | --- | --- | --- | --- | --- |", *(row(one, answers) for one in KINDS)]
    )
    print(table, *wrong[:20], sep="\n")
    if arguments.write:
        text = PAGE.format(
            command=f"python benchmarks/constraint_satisfaction.py --cases {len(found['cases'])} --write",
            cores=os.cpu_count(),
            machine=platform.machine(),
            python=platform.python_version(),
            table=table,
            wrong="\n".join(f"- {line}" for line in wrong[:20]) or "None was answered wrongly.",
            instantiation=f"{spent}, {len(times)} instantiations of {len(TEMPLATES)} templates",
            limit=f"{INSTANTIATION_MS:g}",
        )
        RESULTS.write_text(text, encoding="utf-8")
    if wrong or percentile(times, 0.99) >= INSTANTIATION_MS:
        raise SystemExit(1)


HEADINGS = "| cases | asked | right | share | median, s | 99th percentile, s |"

PAGE = """# Constraints that are kept, and refusals that are right

`{command}` on a {cores}-core {machine} CPU, Python {python}; times are of the process, for one answer.

{table}

Right is: what is returned keeps every constraint, as counted again from its source by the full road; what
cannot be kept is refused with a proof, and of two rules that contradict each other both are named, and no
other. Requirements that can be met have bounds up to 5 % above the figures of a random point of a random
template; those that cannot bound a figure below what is proven of every template that fits, without counting
a graph. Several rules: one to six, on parameters, FLOPs, bytes, memory and latency.

{wrong}

Instantiating a template of the library at random points, from its source read once to its verified graph:
{instantiation}. The limit is {limit} ms at the 99th percentile.
"""


if __name__ == "__main__":
    main()
