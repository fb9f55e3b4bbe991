"""A graph as named on the command line: a `.ir` or `.json` file is read, anything else is lowered."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from esper.errors import EsperError, Span

if TYPE_CHECKING:
    from esper.cli.blueprint import Request
    from esper.ir.graph import BlueprintIR

WRITTEN = (".ir", ".json")


class NotText(EsperError):
    code = "E0983"
    message = "`{path}` is not UTF-8 text"


def graph_of(request: Request) -> BlueprintIR:
    """The graph, verified. Raises what reading and `esper.lower` raise; `UsageError` for `--set` on one."""
    path = Path(request.file)
    if path.suffix not in WRITTEN:
        return request.lower()
    given = {"--set": request.settings, "--blueprint": request.blueprint, "--precision": request.precision}
    for option, value in given.items():
        if value:
            raise click.UsageError(f"{option} is for a blueprint's source, and {path} is a graph")
    from esper.ir.errors import MalformedIR
    from esper.passes import BlueprintIR  # which fills the operator table

    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise NotText(path=path) from None
    try:
        return BlueprintIR.from_text(text) if path.suffix == ".ir" else BlueprintIR.from_json(text)
    except EsperError as error:
        place = error.place if isinstance(error, MalformedIR) else None
        if place is None:
            error.file = str(path)
        else:
            line, column = place
            error.span = Span(str(path), line, column, line, column + 1)
        raise
