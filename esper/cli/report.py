"""`esper report`: one self-contained HTML file of a run."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(
    epilog="""\b
Example:
  esper report runs/mnist1d-0-1 -o report.html
"""
)
@click.argument("run", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The file.  [RUN/report.html]")
def report(run: Path, output: Path | None) -> None:
    """Write the report of RUN, a folder that `esper train` made."""
    from esper.nissa.report import write_report
    from esper.simic.reporting import run_report

    path = run / "report.html" if output is None else output
    write_report(path, run_report(run))
    click.echo(path)
