"""`esperc search`: the best values of a blueprint's `in` domains, within limits."""

from __future__ import annotations

import math
import time
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from esper.cli.blueprint import Request, blueprint_options
from esper.cli.program import Settings, note
from esper.cli.search_slot import STEPS, Training, searched_slot
from esper.cli.train import HostName, TaskName
from esper.errors import EsperError
from esper.files import write_whole

if TYPE_CHECKING:
    from collections.abc import Callable

    from esper.cli.search_view import ProgressLine
    from esper.lang import ParameterValue
    from esper.tezzeret import Evaluator, Ladder, Learned, Plan, SearchResult, Store
    from esper.tezzeret.costs.exact import ExactMemory

PATIENCE = 200
MOST_WORKERS = 256


@click.command(
    epilog="""\b
Examples:
  esperc search mlp_block --set features=64 --constraint 'params<=20000' -o best.esp
  esperc search mobilenet_block --objective balanced --trials 5000 --storage trials.db
  esperc search mobilenet_block --objective balanced --trials 9000 --storage trials.db --resume
  esperc search conv_enhance --task mnist1d --slot blocks.0 --objective accuracy -o best.esp
"""
)
@blueprint_options
@click.option(
    "--objective",
    type=click.Choice(("latency", "memory", "balanced", "accuracy")),
    default="latency",
    show_default=True,
    metavar="latency|memory|accuracy|balanced",
    help="What to make small by the cost model, or to make the most of on --task. balanced: the knee of "
    "latency and memory, and with --task of error, too.",
)
@click.option(
    "--constraint",
    "constraints",
    metavar="'Q<=V'",
    multiple=True,
    help="A bound on params, flops, bytes, memory, memory_mb or latency_ms; may be repeated.",
)
@click.option(
    "--algorithm",
    type=click.Choice(("evolutionary", "random", "bayesian", "local")),
    default="evolutionary",
    show_default=True,
    help="How to choose points. bayesian needs esper-toolchain[search].",
)
@click.option(
    "--requirements",
    metavar="FILE.yaml",
    type=click.Path(path_type=Path),
    help="Shapes, dtype, limits and objective from a file, in place of --size and --precision.",
)
@click.option("--trials", type=click.IntRange(1), default=100, show_default=True, help="Candidates to try.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the random choices.")
@click.option(
    "--patience",
    type=click.IntRange(0),
    default=PATIENCE,
    show_default=True,
    help="End after so many candidates without improvement; 0: never.",
)
@click.option(
    "--time-limit", metavar="SECONDS", type=click.FloatRange(0, min_open=True), help="End after so long."
)
@click.option(
    "--storage",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Keep every evaluation in FILE (SQLite), whatever happens.",
)
@click.option("--resume", is_flag=True, help="Go on with the search in --storage.")
@click.option(
    "--workers",
    type=click.IntRange(1, MOST_WORKERS),
    default=1,
    show_default=True,
    help="Processes that evaluate. Equal numbers give equal results; others ask other points.",
)
@click.option("--task", type=TaskName(), help="Search for a slot of a host that learns this task.")
@click.option("--host", type=HostName(), help="As in `esper train`.  [the first that takes the task]")
@click.option("--slot", metavar="MODULE", help="Where in the host.  [its first slot]")
@click.option(
    "--steps", type=click.IntRange(1), help=f"Of a full training; most candidates have fewer.  [{STEPS}]"
)
@click.option(
    "-o",
    "--output",
    metavar="OUT.esp",
    type=click.Path(path_type=Path),
    help="The source with the best values.",
)
@click.option(
    "--report",
    metavar="OUT.html",
    type=click.Path(path_type=Path),
    help="One HTML file: the front as a plot, the best, what bounds cut.",
)
@click.option(
    "--registry",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Keep the best and how it was found in FILE, which `esperc registry` reads.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def search(
    context: click.Context,
    /,
    request: Request,
    objective: str,
    constraints: tuple[str, ...],
    algorithm: str,
    requirements: Path | None,
    trials: int,
    seed: int,
    patience: int,
    time_limit: float | None,
    storage: Path | None,
    resume: bool,
    workers: int,
    task: str | None,
    host: str | None,
    slot: str | None,
    steps: int | None,
    output: Path | None,
    report: Path | None,
    registry: Path | None,
    as_json: bool,
) -> None:
    """Choose the values of the `in` domains of FILE that are not fixed by --set.

    Figures are counted from the graph, for one training step; latency is the roofline of a reference GPU by
    its datasheet. With --task the slot's tensor gives the blueprint its dims and sizes, and for accuracy and
    balanced candidates are trained there: many for a few steps, the best of them for --steps. Ctrl-C ends the
    search with the best so far.
    """
    from esper import lang, tezzeret
    from esper.cli.search_registry import earlier_answer, register, slot_asked
    from esper.cli.search_report import report as report_of
    from esper.cli.search_requirements import as_request, read_requirements
    from esper.cli.search_view import document, how_found, next_steps, page, watching
    from esper.cli.search_workers import workers as worker_processes
    from esper.tezzeret.errors import AccuracyUnjudged

    start = time.monotonic()
    asked = None
    if requirements is not None:
        if task is not None:
            raise click.UsageError("--task settles the shapes, and so do --requirements: give one of them")
        asked = read_requirements(requirements)
        request = as_request(asked, request)
        if context.get_parameter_source("objective") is ParameterSource.DEFAULT:
            objective = asked.optimization_target
        if registry is not None and (known := earlier_answer(registry, asked)) is not None:
            note(f"{registry} has an answer to this, version {known.number}")
    if objective not in tezzeret.OBJECTIVES and task is None:
        raise AccuracyUnjudged()
    if resume and storage is None:
        raise click.UsageError("--resume goes on with what --storage FILE holds: name the file")
    bounds = tuple(tezzeret.parse_constraint(text) for text in constraints)
    bounds += () if asked is None else tuple(asked.bounds())
    fixed = lang.parse_settings(request.signature, request.settings)
    if output is not None:
        request.require_other(output)
    place = searched_slot(task, host, slot, steps, seed, request, fixed)
    is_judged = place is not None and objective in tezzeret.JUDGED_OBJECTIVES
    ladder = place.ladder(steps or STEPS, seed) if place is not None and is_judged else None
    sizes = request.size_values() if place is None else place.sizes
    fixed = fixed if place is None else {**place.params, **fixed}
    evaluator = tezzeret.Evaluator(request.file, request.blueprint, fixed, sizes, request.precision, bounds)
    plan = tezzeret.Plan(objective, algorithm, trials, seed, patience or None, time_limit, workers)
    settings = context.find_object(Settings) or Settings()
    with (
        nullcontext() if storage is None else _opened(storage, evaluator, plan, ladder, resume) as store,
        watching(settings.quiet) as (interrupts, line),
        worker_processes(workers) as executor,
    ):
        try:
            run = partial(
                tezzeret.run_search,
                evaluator,
                ladder=ladder,
                executor=executor,
                store=store,
                watch=line.show,
                is_cancelled=interrupts.has_come,
            )
            result = _searched(run, evaluator, plan, store, line, interrupts.has_come)
        except EsperError:
            if interrupts.has_come():
                note("interrupted before anything was found")
                context.exit(interrupts.exit_code)
            raise
    if output is not None:
        _write(output, request, {**fixed, **result.best.values})
    exact = _exact(evaluator, result)
    training = None if place is None else Training(place, result, _alone(ladder, result))
    if registry is not None:
        about = None if place is None else place.about
        asked = asked if place is None else slot_asked(place.place.probe, plan, result)
        version = register(registry, evaluator, plan, result, asked, about)
        note(f"kept in {registry} as version {version.number}")
    if report is not None:
        notes = [*how_found(result, plan), *([] if training is None else training.story())]
        onward = next_steps(result, request, output, training)
        title = evaluator.loaded.blueprint.name.text
        write_whole(report, report_of(title, result, plan, exact, notes, onward))
        note(f"wrote {report}")
    if as_json:
        click.echo(document(result, plan, round(time.monotonic() - start, 3), exact, training))
    else:
        click.echo(page(result, plan, request, output, exact, training))
    if result.stopped == tezzeret.Stop.CANCELLED:
        context.exit(interrupts.exit_code)


def _searched(
    run: Callable[..., SearchResult],
    evaluator: Evaluator,
    plan: Plan,
    store: Store | None,
    line: ProgressLine,
    is_cancelled: Callable[[], bool],
) -> SearchResult:
    """What `run` finds; where it meets no constraints, what it finds from where the solver meets them.

    Raises as `run_search` and `enforce` do.
    """
    from esper.tezzeret.errors import NothingMeetsConstraints
    from esper.tezzeret.solver import enforce

    ends = math.inf if plan.seconds is None else time.monotonic() + plan.seconds
    try:
        return run(plan, start=() if store is None else store.starts)
    except NothingMeetsConstraints as error:
        nothing = error

    def go_on() -> None:
        if nothing.is_of_all or is_cancelled() or time.monotonic() >= ends:
            raise nothing

    go_on()
    line.clear()
    note(f"none of {nothing.details['trials']} candidates meets the constraints: the solver looks for one")
    first = enforce(evaluator, seed=plan.seed, watch=go_on).candidate.values
    if store is not None:
        store.start_at(first)
    left = None if plan.seconds is None else max(ends - time.monotonic(), 0.0)
    return run(replace(plan, seconds=left), start=[first])


def _alone(ladder: Ladder | None, result: SearchResult) -> Learned | None:
    """What the host learns without a candidate, where any was trained for as long as it is."""
    if ladder is None or not result.trained[-1] or result.stopped == "cancelled":
        return None
    return ladder.alone()


def _exact(evaluator: Evaluator, result: SearchResult) -> ExactMemory | None:
    """Of the best; None for a graph that no program is planned for."""
    from esper.urza.errors import UnsupportedElementType

    try:
        return evaluator.exact(result.best.values)
    except UnsupportedElementType:
        return None


def _opened(storage: Path, evaluator: Evaluator, plan: Plan, ladder: Ladder | None, resume: bool) -> Store:
    from esper import tezzeret

    question = tezzeret.question(evaluator, plan, ladder)
    store = tezzeret.open_store(storage, question, evaluator.space, resume=resume)
    note(f"{len(store)} evaluations are in {storage}" if len(store) else f"evaluations are kept in {storage}")
    return store


def _write(output: Path, request: Request, values: dict[str, ParameterValue]) -> None:
    from esper import lang

    source = lang.rewrite_defaults(
        request.source(), values, name=request.blueprint, precision=request.precision
    )
    write_whole(output, source)
    note(f"wrote {output}")
