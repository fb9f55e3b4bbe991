"""`esperc search`: the best values of a blueprint's `in` domains, within limits."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from esper.cli.blueprint import Request, blueprint_options
from esper.cli.program import note
from esper.files import write_whole

if TYPE_CHECKING:
    from esper.tezzeret import Candidate, SearchResult

SCHEMA_VERSION = 1


@click.command(
    epilog="""\b
Example:
  esperc search mlp_block --set features=64 --constraint 'params<=20000' -o best.esp
"""
)
@blueprint_options
@click.option(
    "--objective",
    type=click.Choice(("latency", "memory", "balanced")),
    default="latency",
    show_default=True,
    help="What to make small, by the analytic cost model.",
)
@click.option(
    "--constraint",
    "constraints",
    metavar="'Q<=V'",
    multiple=True,
    help="A bound on params, flops, bytes or memory; may be repeated.",
)
@click.option("--algorithm", type=click.Choice(("random",)), default="random", show_default=True)
@click.option("--trials", type=click.IntRange(1), default=100, show_default=True, help="Points to try.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the random points.")
@click.option(
    "-o",
    "--output",
    metavar="OUT.esp",
    type=click.Path(path_type=Path),
    help="The source with the best values.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def search(
    request: Request,
    objective: str,
    constraints: tuple[str, ...],
    algorithm: str,
    trials: int,
    seed: int,
    output: Path | None,
    as_json: bool,
) -> None:
    """Choose the values of the `in` domains of FILE that are not fixed by --set.

    Figures are counted from the graph, for one training step; latency is the roofline of a reference GPU by
    its datasheet. Nothing is measured.
    """
    from esper import lang, tezzeret

    start = time.perf_counter()
    bounds = [tezzeret.parse_constraint(text) for text in constraints]
    fixed = lang.parse_settings(request.signature, request.settings)
    if output is not None:
        _refuse_source(output, request)
    result = tezzeret.random_search(
        request.file,
        name=request.blueprint,
        fixed=fixed,
        sizes=request.size_values(),
        precision=request.precision,
        objective=objective,
        constraints=bounds,
        trials=trials,
        seed=seed,
    )
    if output is not None:
        values = {**fixed, **result.best.values}
        source = lang.rewrite_defaults(
            request.source(), values, name=request.blueprint, precision=request.precision
        )
        write_whole(output, source)
        note(f"wrote {output}")
    if as_json:
        seconds = round(time.perf_counter() - start, 3)
        click.echo(json.dumps(_document(result, algorithm, objective, seconds), indent=2))
    else:
        click.echo(_page(result, objective))


def _refuse_source(output: Path, request: Request) -> None:
    from esper.lang.library import load
    from esper.tezzeret.errors import OverwritesSource

    source = Path(load(request.file, request.blueprint).source.file)
    if output.exists() and source.exists() and output.samefile(source):
        raise OverwritesSource(path=output)


def _document(result: SearchResult, algorithm: str, objective: str, seconds: float) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "best": _record(result.best),
        "front": [_record(trial) for trial in result.front],
        "trials": len(result.trials),
        "infeasible": result.infeasible,
        "invalid": result.invalid,
        "duplicates": result.duplicates,
        "space_size": result.space_size,
        "exhaustive": result.exhaustive,
        "algorithm": algorithm,
        "objective": objective,
        "device": result.device,
        "measured": False,
        "seconds": seconds,
    }


def _record(trial: Candidate) -> dict[str, Any]:
    found = trial.figures
    return {
        "values": dict(trial.values),
        "objectives": {
            "latency": found.latency,
            "memory": found.memory,
            "balanced": found.balanced,
            "params": found.params,
            "flops": found.flops,
            "bytes": found.bytes,
        },
        "ir_hash": trial.ir_hash,
    }


def _page(result: SearchResult, objective: str) -> str:
    names = list(result.best.values)
    rows = [["", *names, "params", "GFLOP", "MB moved", "MB kept", "roofline us"]]
    rows += [_row("best", result.best)]
    rows += [_row("front", trial) for trial in result.front if trial is not result.best]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    table = [
        "  ".join(
            cell.ljust(width) if column <= len(names) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    covered = "all" if result.exhaustive else f"{len(result.trials)}"
    points = "points" if result.space_size is None else f"{result.space_size} points"
    summary = (
        f"least {objective} of {covered} of {points}: {result.infeasible} infeasible, "
        f"{result.invalid} invalid, {result.duplicates} duplicates\n"
        f"an estimate by the roofline of {result.device}; nothing was measured"
    )
    return "\n".join([*table, "", summary])


def _row(label: str, trial: Candidate) -> list[str]:
    found = trial.figures
    figures = [found.flops / 1e9, found.bytes / 1e6, found.memory / 1e6, found.latency * 1e6]
    return [label, *map(str, trial.values.values()), f"{found.params:,}", *(f"{x:.4g}" for x in figures)]
