"""The command of a module that generates a file of `docs/`: to stdout, or to `-o FILE`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from esper.files import write_whole


def generator_command(text: Callable[[], str], what: str) -> click.Command:
    """Writes what `text` returns; `what` it is stands in the command's help."""

    @click.command(help=f"Write {what}.")
    @click.option("-o", "--output", type=click.Path(path_type=Path), help="In place of stdout.")
    def main(output: Path | None) -> None:
        if output is None:
            click.echo(text(), nl=False)
        else:
            write_whole(output, text())

    return main
