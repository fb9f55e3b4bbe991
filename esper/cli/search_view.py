"""What `esperc search` shows: the best so far on a terminal, and at the end a page or a JSON document."""

from __future__ import annotations

import json
import shlex
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

import click

from esper.cli.blueprint import Request
from esper.cli.program import INTERRUPTED, TERMINATED
from esper.cli.search_slot import HEADINGS, Training, cells, percent, record
from esper.tezzeret import JUDGED_OBJECTIVES, OBJECTIVES, Candidate, Plan, Progress, SearchResult, Stop
from esper.tezzeret.costs.exact import ExactMemory
from esper.tezzeret.objectives import FIGURES, JUDGED_FIGURES

SCHEMA_VERSION = 1
SHOWN = 10
"""Rows of the front that are not among the best."""
EVERY = 0.1
"""Seconds between two lines of progress."""


class Interrupts:
    """Whether SIGINT or SIGTERM has come. A second one ends the program at once."""

    def __init__(self) -> None:
        self.exit_code = 0

    def has_come(self) -> bool:
        return self.exit_code != 0

    def come(self, number: int, frame: FrameType | None) -> None:
        if self.exit_code:
            raise KeyboardInterrupt
        self.exit_code = INTERRUPTED if number == signal.SIGINT else TERMINATED


@contextmanager
def watching(is_quiet: bool) -> Iterator[tuple[Interrupts, ProgressLine]]:
    """While entered, signals ask the search to end, and a terminal shows the best so far in one line."""
    interrupts = Interrupts()
    line = ProgressLine(sys.stderr.isatty() and not is_quiet)
    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {
            number: signal.signal(number, interrupts.come) for number in (signal.SIGINT, signal.SIGTERM)
        }
    try:
        yield interrupts, line
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        line.clear()


class ProgressLine:
    """One line of a terminal, written over and over; nothing where there is none."""

    def __init__(self, is_there: bool) -> None:
        self._is_there = is_there
        self._shown = 0.0

    def show(self, progress: Progress) -> None:
        now = time.monotonic()
        if not self._is_there or now - self._shown < EVERY:
            return
        self._shown = now
        text = f"{progress.evaluated}/{progress.trials}"
        if any(progress.trained):
            text += f", rungs {'/'.join(map(str, progress.trained))}"
        if progress.best is not None:
            found, learned = progress.best.figures, progress.best.learned
            kind = "best" if progress.best.is_feasible else "nearest to the constraints"
            if learned is not None:
                kind += f": {percent(learned)} % after {learned.steps} steps"
            chosen = " ".join(f"{name}={value}" for name, value in progress.best.values.items())
            text += f"  {kind}: {found.latency * 1e6:.4g} us, {found.memory / 1e6:.4g} MB, {chosen}"
        width = shutil.get_terminal_size().columns - 1
        click.echo(f"\r{text[:width]:<{width}}", err=True, nl=False)

    def clear(self) -> None:
        if self._shown:
            click.echo("\r" + " " * (shutil.get_terminal_size().columns - 1) + "\r", err=True, nl=False)


def document(
    result: SearchResult,
    plan: Plan,
    seconds: float,
    exact: ExactMemory | None,
    training: Training | None = None,
) -> str:
    """The result as JSON. exact: of the best. training: of a search in a slot."""
    found = {
        "schema_version": SCHEMA_VERSION,
        "best": _record(result.best),
        "planned_memory": None if exact is None else asdict(exact),
        "top": [_record(trial) for trial in result.top],
        "front": [_record(trial) for trial in result.front],
        "trials": len(result.trials),
        "infeasible": result.infeasible,
        "invalid": result.invalid,
        "duplicates": result.duplicates,
        "space_size": result.space_size,
        "exhaustive": result.exhaustive,
        "stopped": result.stopped.value,
        "algorithm": plan.algorithm,
        "objective": plan.objective,
        "seed": plan.seed,
        "workers": plan.width,
        "device": result.device,
        "measured": False,
        "training": None if training is None else training.document(),
        "seconds": seconds,
    }
    return json.dumps(found, indent=2)


def _record(trial: Candidate) -> dict[str, Any]:
    found = trial.figures
    return {
        "values": dict(trial.values),
        "objectives": {
            name: getattr(found, name)
            for name in ("latency", "memory", "balanced", "params", "flops", "bytes")
        },
        "ir_hash": trial.ir_hash,
        "learned": record(trial.learned),
    }


def page(
    result: SearchResult,
    plan: Plan,
    request: Request,
    output: Path | None,
    exact: ExactMemory | None,
    training: Training | None = None,
) -> str:
    """The best and the front as a table, how they were found, and what to do next. exact: of the best.

    training: of a search in a slot.
    """
    on_front = {trial.ir_hash for trial in result.front}
    names = list(result.best.values)
    learned = HEADINGS if result.rungs else ()
    rows = [["", *names, *learned, "params", "GFLOP", "MB moved", "MB kept", "roofline us"]]
    for place, trial in enumerate(result.top, start=1):
        label = "best" if place == 1 else str(place)
        rows.append(
            _row(f"{label} front" if trial.ir_hash in on_front and place > 1 else label, trial, learned)
        )
    others = [trial for trial in result.front if trial not in result.top]
    rows += [_row("front", trial, learned) for trial in others[:SHOWN]]
    lines = [*_table(rows, len(names)), ""]
    if len(others) > SHOWN:
        lines.append(f"and {len(others) - SHOWN} more of the front, which --json prints")
    if len(result.front) > 1:
        figures = JUDGED_FIGURES if result.rungs else FIGURES
        lines.append(f"front: nothing has less of {', '.join(figures[:-1])} and {figures[-1]} at once")
    lines += [
        *how_found(result, plan),
        *([] if training is None else training.story()),
        *_planned(exact),
        *([] if plan.objective == "accuracy" else _capacity(result)),
        "",
        *next_steps(result, request, output, training),
    ]
    return "\n".join(lines)


def _table(rows: Sequence[Sequence[str]], names: int) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if column <= names else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _row(label: str, trial: Candidate, learned: Sequence[str] = ()) -> list[str]:
    found = trial.figures
    figures = [found.flops / 1e9, found.bytes / 1e6, found.memory / 1e6, found.latency * 1e6]
    values = [_as_setting(value) for value in trial.values.values()]
    shown = cells(trial) if learned else []
    return [label, *values, *shown, f"{found.params:,}", *(f"{x:.4g}" for x in figures)]


def how_found(result: SearchResult, plan: Plan) -> list[str]:
    """What was searched for, how much of the space was seen, and what figures stand on."""
    objective = (JUDGED_OBJECTIVES if result.rungs else OBJECTIVES)[plan.objective]
    wanted = f"least {objective.figures[0]}"
    if objective.is_several:
        wanted = f"the knee of {', '.join(objective.figures[:-1])} and {objective.figures[-1]}"
    covered = "all" if result.exhaustive else f"{len(result.trials)}"
    points = "points" if result.space_size is None else f"{result.space_size} points"
    counts = f"{result.infeasible} infeasible, {result.invalid} invalid, {result.duplicates} duplicates"
    ends = {
        Stop.CANCELLED: "interrupted: this is the best so far",
        Stop.PATIENCE: f"ended early, after {plan.patience} candidates without improvement (--patience)",
        Stop.TIME: f"ended after {plan.seconds:g} s (--time-limit)" if plan.seconds is not None else "",
        Stop.TRIALS: "" if result.exhaustive else "more may be found with more --trials",
    }
    return [
        f"{wanted} of {covered} of {points}: {counts}",
        *filter(None, [ends.get(result.stopped, "")]),
        f"an estimate by the roofline of {result.device}; "
        + ("of costs nothing was measured" if result.rungs else "nothing was measured"),
    ]


def _planned(exact: ExactMemory | None) -> list[str]:
    """What the planned programs of the best allocate, which is counted and no estimate."""
    if exact is None:
        return []
    saved, forward, backward = (
        f"{size / 1e6:.4g}" for size in (exact.saved, exact.forward_arena, exact.backward_arena)
    )
    return [
        f"as planned the best keeps {saved} MB for backward and works in {forward} MB forward,"
        f" {backward} MB backward"
    ]


def _capacity(result: SearchResult) -> list[str]:
    """Where nothing was asked of a blueprint but to be cheap: small ones are so by nature."""
    sizes = sorted(trial.figures.params for trial in result.trials if trial.is_feasible)
    is_bounded = any(bound.constraint.comparison.startswith(">") for bound in result.best.bounds)
    middle = sizes[len(sizes) // 2]
    if is_bounded or result.best.figures.params >= middle:
        return []
    return [f"what is small is cheap; to ask for more of it, add --constraint 'params>={middle}'"]


def next_steps(
    result: SearchResult, request: Request, output: Path | None, training: Training | None = None
) -> list[str]:
    if output is not None:
        planted = [] if training is None else [f"grow the host with it: {training.slot.planting(output)}"]
        return [*planted, f"compile it: esperc compile {shlex.quote(str(output))}"]
    chosen = result.best.values if training is None else {**training.slot.params, **result.best.values}
    settings = [f"--set {name}={_as_setting(value)}" for name, value in chosen.items()]
    given = [shlex.quote(word) for word in (request.file, *request.arguments())]
    return [
        f"compile the best: esperc compile {' '.join([*given, *settings])}",
        "or write it as a blueprint with these defaults: search again with -o best.esp",
    ]


def _as_setting(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
