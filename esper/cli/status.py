"""`esper status`: where a run stands."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command(
    epilog="""\b
Example:
  esper status runs/mnist1d-0-1
"""
)
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--last", type=click.IntRange(min=0), default=8, show_default=True, help="Events to show.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def status(run: Path, last: int, as_json: bool) -> None:
    """Show slots, stages, tiers and the last events of RUN."""
    from esper.nissa.status import run_status, status_text
    from esper.nissa.stream import read_stream

    found = run_status(read_stream(run), last)
    click.echo(json.dumps(found.to_json(), indent=2) if as_json else status_text(found))
