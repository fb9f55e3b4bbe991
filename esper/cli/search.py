"""`esperc search`: the best values of a blueprint's `in` domains, within limits."""

from __future__ import annotations

import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from esper.cli.blueprint import Request, blueprint_options
from esper.cli.program import Settings, note
from esper.errors import EsperError
from esper.files import write_whole

if TYPE_CHECKING:
    from esper.lang import ParameterValue
    from esper.tezzeret import Evaluator, Plan, Store

PATIENCE = 200


class AccuracyUnsearchable(EsperError):
    """Searches go by what is counted from a blueprint's graph, which says nothing of how well it learns."""

    code = "E0990"
    message = "`{option}` asks for accuracy on a task, which a search cannot judge blueprints by"
    help = (
        "search by latency, memory or balanced; `esper train --blueprints` tells how well a blueprint learns"
    )


@click.command(
    epilog="""\b
Examples:
  esperc search mlp_block --set features=64 --constraint 'params<=20000' -o best.esp
  esperc search mobilenet_block --objective balanced --trials 5000 --storage trials.db
  esperc search mobilenet_block --objective balanced --trials 9000 --storage trials.db --resume
"""
)
@blueprint_options
@click.option(
    "--objective",
    type=click.Choice(("latency", "memory", "balanced", "accuracy")),
    default="latency",
    show_default=True,
    metavar="latency|memory|balanced",
    help="What to make small, by the cost model; balanced: the knee of latency and memory.",
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
@click.option("--task", hidden=True)
@click.option("--host", hidden=True)
@click.option("--slot", hidden=True)
@click.option(
    "-o",
    "--output",
    metavar="OUT.esp",
    type=click.Path(path_type=Path),
    help="The source with the best values.",
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
    trials: int,
    seed: int,
    patience: int,
    time_limit: float | None,
    storage: Path | None,
    resume: bool,
    task: str | None,
    host: str | None,
    slot: str | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Choose the values of the `in` domains of FILE that are not fixed by --set.

    Figures are counted from the graph, for one training step; latency is the roofline of a reference GPU by
    its datasheet. Nothing is measured. Ctrl-C ends the search with the best so far.
    """
    from esper import lang, tezzeret
    from esper.cli.search_view import document, page, watching

    start = time.perf_counter()
    asked = {"--objective accuracy": objective == "accuracy", "--task": task, "--host": host, "--slot": slot}
    for option, is_given in asked.items():
        if is_given:
            raise AccuracyUnsearchable(option=option)
    if resume and storage is None:
        raise click.UsageError("--resume goes on with what --storage FILE holds: name the file")
    bounds = tuple(tezzeret.parse_constraint(text) for text in constraints)
    fixed = lang.parse_settings(request.signature, request.settings)
    if output is not None:
        _refuse_source(output, request)
    evaluator = tezzeret.Evaluator(
        request.file, request.blueprint, fixed, request.size_values(), request.precision, bounds
    )
    plan = tezzeret.Plan(objective, algorithm, trials, seed, patience or None, time_limit)
    settings = context.find_object(Settings) or Settings()
    with (
        nullcontext() if storage is None else _opened(storage, evaluator, plan, resume) as store,
        watching(settings.quiet) as (interrupts, watch),
    ):
        try:
            result = tezzeret.run_search(
                evaluator, plan, store=store, watch=watch, is_cancelled=interrupts.has_come
            )
        except EsperError:
            if interrupts.has_come():
                note("interrupted before anything was found")
                context.exit(interrupts.exit_code)
            raise
    if output is not None:
        _write(output, request, {**fixed, **result.best.values})
    if as_json:
        click.echo(document(result, plan, round(time.perf_counter() - start, 3)))
    else:
        click.echo(page(result, plan, request, output))
    if result.stopped == tezzeret.Stop.CANCELLED:
        context.exit(interrupts.exit_code)


def _opened(storage: Path, evaluator: Evaluator, plan: Plan, resume: bool) -> Store:
    from esper import tezzeret

    question = tezzeret.question(evaluator, plan)
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


def _refuse_source(output: Path, request: Request) -> None:
    from esper.lang.library import load
    from esper.tezzeret.errors import OverwritesSource

    source = Path(load(request.file, request.blueprint).source.file)
    if output.exists() and source.exists() and output.samefile(source):
        raise OverwritesSource(path=output)
