"""`esperc fmt`: sources in the one layout."""

from __future__ import annotations

import re
from difflib import unified_diff
from pathlib import Path
from typing import TYPE_CHECKING

import click

from esper.cli.program import note
from esper.files import write_whole

if TYPE_CHECKING:
    from esper.lang import Source

STDIN = "-"


@click.command(
    epilog="""\b
Example:
  esperc fmt --check blueprints/mlp_block.esp
"""
)
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--check", is_flag=True, help="Write nothing; exit with 1 if a file would change.")
@click.option("--diff", is_flag=True, help="Write nothing; print what would change.")
@click.pass_context
def fmt(context: click.Context, files: tuple[str, ...], check: bool, diff: bool) -> None:
    """Lay FILEs out in the one way; comments stay. `-` reads from stdin and writes to stdout."""
    from esper import lang

    failed = False
    for name in files:
        try:
            source, formatted = lang.format_file(None if name == STDIN else Path(name))
        except lang.BlueprintRejected as error:
            click.echo(str(error), err=True)
            failed = True
            continue
        is_changed = formatted != source.text
        if diff:
            click.echo(_difference(source, formatted), nl=False)
        if check and is_changed:
            note(f"{source.file} would be laid out differently")
            failed = True
        elif not check and not diff:
            _write(name, formatted, is_changed)
    context.exit(1 if failed else 0)


def _write(name: str, formatted: str, is_changed: bool) -> None:
    if name == STDIN:
        click.echo(formatted, nl=False)
    elif is_changed:
        write_whole(Path(name), formatted)
        note(f"formatted {name}")


def _difference(source: Source, formatted: str) -> str:
    before, after = (re.findall(r"[^\n]*\n|[^\n]+$", text) for text in (source.text, formatted))
    found = unified_diff(before, after, source.file, source.file)
    return "".join(
        line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in found
    )
