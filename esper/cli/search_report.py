"""`esperc search --report`: what a search has found as one HTML file that opens without a network."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from html import escape

import esper
from esper.cli.search_chart import front_chart, legend
from esper.nissa.page import page, section
from esper.nissa.tables import Cell, KeyFigure, key_figures, number, percent, table
from esper.tezzeret import Candidate, Plan, SearchResult
from esper.tezzeret.costs.exact import ExactMemory
from esper.tezzeret.objectives import FIGURES, JUDGED_FIGURES


def report(
    title: str,
    result: SearchResult,
    plan: Plan,
    exact: ExactMemory | None,
    notes: Sequence[str],
    steps: Sequence[str],
) -> str:
    """The document. exact: of the best. notes: how it was found. steps: what to do next, `words: command`."""
    subtitle = f"{plan.objective} by {plan.algorithm} search, seed {plan.seed}"
    footer = f"<p>Esper {escape(esper.__version__)} · Python {escape(platform.python_version())}</p>"
    return page(f"Search of {title}", subtitle, _sections(result, exact, notes, steps), footer)


def _sections(
    result: SearchResult, exact: ExactMemory | None, notes: Sequence[str], steps: Sequence[str]
) -> Iterator[str]:
    figures = JUDGED_FIGURES if result.rungs else FIGURES
    yield key_figures(_figures(result, exact))
    yield section(
        "Front",
        front_chart(result),
        legend(result),
        note=f"Nothing has less of {', '.join(figures[:-1])} and {figures[-1]} at once than what is on it.",
    )
    yield section("The best", _table(result))
    if result.best.bounds:
        yield section("What bounds cut", _bounds(result))
    yield section("How it was found", *(f"<p>{escape(line)}</p>" for line in notes if line))
    yield section("Next", *map(_step, steps))


def _figures(result: SearchResult, exact: ExactMemory | None) -> Iterator[KeyFigure]:
    best = result.best.figures
    learned = result.best.learned
    if learned is not None:
        yield KeyFigure("Held-out accuracy", percent(1 - learned.error), f"after {learned.steps} steps")
    yield KeyFigure("Latency", f"{best.latency * 1e6:.4g} us", f"of a training step, by {result.device}")
    yield KeyFigure("Parameters", f"{best.params:,}", f"{best.flops / 1e9:.4g} GFLOP a step")
    yield KeyFigure("Memory", f"{best.memory / 1e6:.4g} MB", "weights, and what backward keeps")
    if exact is not None:
        arena = max(exact.forward_arena, exact.backward_arena)
        yield KeyFigure("As planned", f"{exact.memory / 1e6:.4g} MB", f"and {arena / 1e6:.4g} MB to work in")
    yield KeyFigure("Candidates", f"{len(result.trials):,}", f"{result.infeasible:,} break a constraint")


def _table(result: SearchResult) -> str:
    names = [*result.best.values]
    trained = [Cell("accuracy", "number"), Cell("after steps", "number")] if result.rungs else []
    headings = [Cell("", "number"), *map(Cell, names), *trained]
    headings += [Cell(name, "number") for name in ("params", "GFLOP", "MB moved", "MB kept", "roofline, us")]
    front = {trial.ir_hash for trial in result.front}
    rows = [
        [number(place), *_cells(trial, bool(trained)), Cell("front" if trial.ir_hash in front else "")]
        for place, trial in enumerate(result.top, start=1)
    ]
    return table([*headings, Cell("")], rows)


def _cells(trial: Candidate, is_trained: bool) -> Iterator[Cell]:
    found, learned = trial.figures, trial.learned
    yield from (Cell(str(value)) for value in trial.values.values())
    if is_trained:
        yield Cell(percent(None if learned is None else 1 - learned.error), "number")
        yield number(None if learned is None else learned.steps)
    yield number(found.params)
    for figure in (found.flops / 1e9, found.bytes / 1e6, found.memory / 1e6, found.latency * 1e6):
        yield Cell(f"{figure:.4g}", "number")


def _bounds(result: SearchResult) -> str:
    headings = [Cell("constraint"), *(Cell(name, "number") for name in ("broken by", "of", "the best has"))]
    rows = []
    for bound in result.best.bounds:
        broken = sum(str(bound.constraint) in trial.violations for trial in result.trials)
        row = [Cell(str(bound.constraint)), number(broken), number(len(result.trials)), number(bound.found)]
        rows.append(row)
    return table(headings, rows)


def _step(step: str) -> str:
    words, colon, command = step.partition(": ")
    if not colon or not command.startswith("esper"):
        return f"<p>{escape(step)}</p>"
    return f"<p>{escape(words)}:</p><pre><code>{escape(command)}</code></pre>"
