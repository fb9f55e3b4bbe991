"""`esperc calibrate`: measures this machine's processor, so that latency on it can be predicted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from esper.cli.program import note

if TYPE_CHECKING:
    from esper.tezzeret.prediction.profile import Both
    from esper.tezzeret.prediction.sweep import Use

SCHEMA_VERSION = 1
SECONDS = 0.012
"""How long a use is timed in a pass, at least."""

TOLD_EVERY = 200


@click.command(
    epilog="""\b
Examples:
  esperc calibrate
  esperc calibrate --passes 1 --share 0.3 --json
"""
)
@click.option(
    "--passes",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    help="How often each use is timed; the least counts.",
)
@click.option(
    "--share",
    type=click.FloatRange(0, 4, min_open=True),
    default=1.0,
    show_default=True,
    help="How many uses of each operator, as a share of the usual number.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the sizes that are drawn.")
@click.option(
    "--registry",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Keep the profile beside FILE.  [registry.sqlite in the user's data folder]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def calibrate(passes: int, share: float, seed: int, registry: Path | None, as_json: bool) -> None:
    """Time operators alone on this processor, and fit what predicts blueprints from them.

    Operators run at random sizes, float32, forward and backward, on one thread, in processor time: some
    minutes in all. The profile and the predictor are kept in the user's data folder; `esperc analyze` then
    tells latencies on this processor, and each blueprint that `esperc bench --record` measures makes them
    better. With nine families of blueprints they come with 90 % intervals.
    """
    from esper.cli.measured import Place
    from esper.files import write_whole
    from esper.tezzeret.prediction.device import cpu_name, measured_rates, torch_version
    from esper.tezzeret.prediction.profile import profile_of
    from esper.tezzeret.prediction.timing import keep_freed_memory

    keep_freed_memory()
    place = Place.of(registry)
    rates = measured_rates()
    times = _measured(passes, share, seed)
    profile = profile_of(cpu_name(), torch_version(), rates, times)
    with place.open() as opened:
        write_whole(place.profile, profile.model_dump_json() + "\n")
        found = place.fit(opened, profile, None)
    families = len({family for family, _ in found.scores["step"]})
    if as_json:
        document = {
            "schema_version": SCHEMA_VERSION,
            "device": profile.device,
            "torch": profile.torch,
            "flops_per_second": profile.flops_per_second,
            "bytes_per_second": profile.bytes_per_second,
            "uses": len(profile.uses),
            "operators": sorted(found.operators.models),
            "families": families,
            "profile": str(place.profile),
            "predictor": str(place.predictor),
        }
        click.echo(json.dumps(document, indent=2))
        return
    click.echo(
        f"{profile.device}, one thread, torch {profile.torch}\n"
        f"products {profile.flops_per_second / 1e9:.3g} GFLOP/s, copies {profile.bytes_per_second / 1e9:.3g} "
        f"GB/s, an operator {profile.operator('forward') * 1e6:.2g} us of the host\n"
        f"{len(profile.uses)} uses of {len(found.operators.models)} operators, "
        f"{families} families of blueprints\n"
        f"wrote {place.profile} and {place.predictor}"
    )


def _measured(passes: int, share: float, seed: int) -> dict[Use, Both]:
    from esper.tezzeret.prediction.profile import Both, Sweep, merged
    from esper.tezzeret.prediction.sweep import uses
    from esper.tezzeret.prediction.timing import least_seconds

    def measure(use: Use, seconds: float) -> Both:
        forward, backward = least_seconds(use.lower(), {}, seconds)
        return Both(forward=forward, backward=backward)

    times: dict[Use, Both] = {}
    for number in range(passes):
        sweep = Sweep.shuffled(uses(seed, share), number)
        for count, (use, found) in enumerate(sweep.measured(SECONDS, measure), start=1):
            merged(times, use, found)
            if count % TOLD_EVERY == 0:
                note(f"pass {number + 1} of {passes}: {count} of {len(sweep.uses)} uses")
    return times
