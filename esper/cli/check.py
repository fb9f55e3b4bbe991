"""`esperc check`: everything that is wrong with blueprint files, in one run."""

from __future__ import annotations

from pathlib import Path

import click

from esper import __version__
from esper.cli.program import note

FORMATS = ("text", "json", "sarif", "github")


@click.command(
    epilog="""\b
Example:
  esperc check blueprints/*.esp
"""
)
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--output-format", type=click.Choice(FORMATS), default="text", show_default=True, help="How to print."
)
@click.option("--json", "as_json", is_flag=True, help="Short for --output-format json.")
@click.pass_context
def check(context: click.Context, files: tuple[Path, ...], output_format: str, as_json: bool) -> None:
    """Report all errors and warnings of each FILE. The exit code is 1 if there is an error."""
    from esper import lang

    report = lang.check_files(files)
    if as_json or output_format == "json":
        text = lang.as_json(report.diagnostics)
    elif output_format == "sarif":
        text = lang.as_sarif(report.diagnostics, __version__)
    elif output_format == "github":
        text = lang.as_github(report.diagnostics)
    else:
        text = lang.as_text(report.diagnostics, report.sources)
    click.echo(text, nl=False)
    errors = sum(diagnostic.is_error for diagnostic in report.diagnostics)
    warnings = len(report.diagnostics) - errors
    note(f"{_count(len(files), 'file')}: {_count(errors, 'error')}, {_count(warnings, 'warning')}")
    context.exit(1 if errors else 0)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
