"""`esperc analyze`: what a blueprint costs by its plan, its bottleneck, and what would relieve it."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING

import click

from esper.cli.blueprint import Request, blueprint_options
from esper.cli.graphs import graph_of, is_graph
from esper.cli.program import note
from esper.cli.reproduction import reproducible

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from esper.ir.graph import BlueprintIR
    from esper.lang import SizeValue
    from esper.tezzeret.prediction import Prediction


@click.command(
    epilog="""\b
Examples:
  esperc analyze mlp_block --set features=64 --size N=128
  esperc analyze block.ir --target sm_90 --json
"""
)
@blueprint_options
@click.option(
    "--target",
    default="sm_80",
    show_default=True,
    help="The GPU whose datasheet gives the rates: sm_80 or sm_90.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def analyze(request: Request, target: str, as_json: bool) -> None:
    """Tell what a training step of FILE takes: a blueprint, the name of one, or a graph (.ir, .json).

    FLOPs, bytes, depth, width, memory over time, latency, the bottleneck, and changes that would relieve it,
    each tried by planning it. Everything is counted from the planned kernels; latency is an estimate by a
    GPU's datasheet. Nothing is measured. Where `esperc calibrate` has measured this machine's processor, the
    latency there is told, too, with an interval.
    """
    from esper.cli.analyze_view import document, page
    from esper.tezzeret.analysis import analyze as analysis_of
    from esper.tezzeret.analysis import reliefs

    with reproducible("analyze", request, "--target", target) as case:
        ir = case.graph = graph_of(request)
        sizes = request.size_values()
        found = analysis_of(ir, sizes, target)
        relief = reliefs(found, sizes, variants(request))
        predicted = _predicted(ir, sizes)
    if as_json:
        click.echo(json.dumps(document(found, relief, predicted), indent=2))
    else:
        click.echo(page(found, relief, predicted))


def _predicted(ir: BlueprintIR, sizes: Mapping[str, SizeValue]) -> Prediction | None:
    """The latency on this machine's processor; None where it was not calibrated, or not for such a graph."""
    from esper.cli.measured import Place

    place = Place.of(None)
    if not place.predictor.exists():
        return None
    from esper.tezzeret.prediction.errors import UnmeasuredType

    predictor = place.read_predictor()
    if predictor is None:
        note(f"{place.predictor} is of another processor or another torch: calibrate again for this one")
        return None
    try:
        return predictor(ir, sizes)
    except UnmeasuredType as error:
        note(f"no latency on this processor: {error}")
        return None


def variants(request: Request) -> dict[str, Callable[[], BlueprintIR]]:
    """The blueprint with other values of its parameters, by the option that sets each."""
    from esper import lang
    from esper.tezzeret.analysis import smaller_parameters

    if is_graph(request.file):
        return {}
    given = lang.parse_settings(request.signature, request.settings)
    made: dict[str, Callable[[], BlueprintIR]] = {}
    for name, value in smaller_parameters(request.signature, given):
        text = str(value).lower() if isinstance(value, bool) else str(value)
        settings = tuple(one for one in request.settings if one.split("=", 1)[0].strip() != name)
        other = Request(
            request.file, request.blueprint, (*settings, f"{name}={text}"), request.sizes, request.precision
        )
        made[f"--set {name}={text}"] = partial(other.lower)
    return made
