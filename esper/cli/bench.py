"""`esperc bench`: how long a blueprint's training step takes, beside eager PyTorch and `torch.compile`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from esper.cli.blueprint import Request, blueprint_options, is_artifact
from esper.cli.graphs import graph_or_seed_of, is_graph
from esper.cli.program import detail, note
from esper.cli.reproduction import reproducible

if TYPE_CHECKING:
    from collections.abc import Mapping

    from esper.cli.measured import Place
    from esper.ir.graph import BlueprintIR
    from esper.tezzeret.prediction.bench import Bench
    from esper.tezzeret.registry import Blueprint

CONTENDERS = ("eager", "torch.compile")


@click.command(
    epilog="""\b
Examples:
  esperc bench mlp_block --set features=64 --size N=8 --size S=16,16
  esperc bench conv_block --without torch.compile --record
  esperc bench block.seed --device cuda --json
"""
)
@blueprint_options
@click.option(
    "--device",
    type=click.Choice(("cpu", "cuda")),
    default="cpu",
    show_default=True,
    help="cpu: one thread, processor time. cuda: the GPU here.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0, min_open=True),
    default=1.0,
    show_default=True,
    help="How long each contender is timed.",
)
@click.option(
    "--without", type=click.Choice(CONTENDERS), multiple=True, help="Leave this one out; may be repeated."
)
@click.option("--record", is_flag=True, help="Keep the seed's times, for `esperc analyze` to predict by.")
@click.option(
    "--registry",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Where --record keeps them.  [registry.sqlite in the user's data folder]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def bench(
    request: Request,
    device: Literal["cpu", "cuda"],
    seconds: float,
    without: tuple[str, ...],
    record: bool,
    registry: Path | None,
    as_json: bool,
) -> None:
    """Time a training step of FILE: a blueprint, the name of one, a graph (.ir, .json) or a compiled seed.

    Forward and backward, float inputs and weights asking for gradients, beside the module that
    `esperc compile --emit torch` writes, eager and under `torch.compile`. The contenders take turns.
    least: the least of all rounds, which is what the code itself takes; median: with the interval that holds
    it in 95 % of runs; repeats: how far two halves of the turns lie apart.
    """
    from esper.cli.bench_view import document, page
    from esper.cli.measured import Place
    from esper.lang import size_values
    from esper.tezzeret.prediction.bench import bench as bench_of
    from esper.tezzeret.prediction.device import cpu_name
    from esper.tezzeret.prediction.timing import keep_freed_memory

    if registry is not None and not record:
        raise click.UsageError("--registry says where --record keeps the times: give both")
    with reproducible("bench", request) as case:
        ir = case.graph = graph_or_seed_of(request)
        sizes = size_values(ir, request.size_values())
        keep_freed_memory()
        detail(f"{ir.name}: {len(ir.nodes)} nodes, {seconds:g} s for each contender")
        found = bench_of(ir, sizes, device=device, device_name=cpu_name(), seconds=seconds, without=without)
    click.echo(json.dumps(document(ir, sizes, found), indent=2) if as_json else page(ir, sizes, found))
    if record:
        _record(Place.of(registry), _kept(request, ir), sizes, found)


def _kept(request: Request, ir: BlueprintIR) -> Blueprint:
    """The blueprint as a registry keeps it: by its source if that stands alone, else by its graph."""
    from esper.lang import parse_settings
    from esper.tezzeret.registry import Blueprint

    if is_graph(request.file) or is_artifact(request.file) or not request.stands_alone:
        return Blueprint(ir.hash, ir.name, str(ir))
    values = parse_settings(request.signature, request.settings)
    return Blueprint(ir.hash, ir.name, request.source(), values, request.size_values(), request.precision)


def _record(place: Place, blueprint: Blueprint, sizes: Mapping[str, int], found: Bench) -> None:
    from esper.tezzeret.prediction.bench import SEED
    from esper.tezzeret.prediction.device import torch_version
    from esper.tezzeret.prediction.predictor import QUANTITIES
    from esper.tezzeret.prediction.recorded import keep

    rows = {quantity: found.row(SEED, quantity) for quantity in QUANTITIES}
    times = {quantity: (row.least, row.error) for quantity, row in rows.items() if row is not None}
    with place.open() as registry:
        regressions = keep(
            registry,
            blueprint,
            found.device,
            times,
            tier=found.tier,
            sizes=sizes,
            torch=torch_version(),
        )
        note(f"recorded {', '.join(times)} in {place.registry}")
        for one in regressions:
            note(
                f"slower than it was: {one.found.conditions['of']} took {one.best.value:.4g} ms, "
                f"and {one.share:.0%} more this time"
            )
        profile = place.read_profile() if found.tier == "torch" else None
        if profile is not None:
            place.fit(registry, profile, place.read_predictor())
            note(f"fitted {place.predictor} again")
