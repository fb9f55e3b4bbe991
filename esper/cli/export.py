"""`esper export`: what a run has grown, as an ordinary module."""

from __future__ import annotations

import json
from pathlib import Path

import click

from esper.cli.program import Settings

JSON_SCHEMA_VERSION = 1


@click.command(
    epilog="""\b
Example:
  esper export runs/mnist1d-0-1 -o grown
  python -c "from grown.model import apply; model = apply(host)"
"""
)
@click.argument("run", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The folder to write.")
@click.option("--host", metavar="NAME", help="package.module:function again, for a run of such a host.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_obj
def export(settings: Settings, /, run: Path, output: Path, host: str | None, as_json: bool) -> None:
    """Write the network that RUN has grown as files that need torch alone.

    model.py defines apply(host), which turns the host as it was into the grown network with the weights of
    weights.safetensors; program.pt2 is for torch.export.load, where torch can export the host.
    """
    from esper.simic.export import export_run

    written = export_run(run, output, host)
    if as_json:
        document = {
            "schema_version": JSON_SCHEMA_VERSION,
            "files": [str(path) for path in written.files],
            "program_refused": written.refusal,
        }
        click.echo(json.dumps(document, indent=2))
        return
    for path in written.files:
        click.echo(path)
    if written.refusal is not None and not settings.quiet:
        click.echo(f"no program: {written.refusal}", err=True)
