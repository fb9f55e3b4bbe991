"""A graph as named on the command line: a `.ir` or `.json` file is read, anything else is lowered."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from esper.cli.blueprint import is_artifact
from esper.errors import EsperError, Span

if TYPE_CHECKING:
    from esper.cli.blueprint import Request
    from esper.ir.graph import BlueprintIR

WRITTEN = (".ir", ".json")


class NotText(EsperError):
    code = "E0983"
    message = "`{path}` is not UTF-8 text"


def is_graph(file: str) -> bool:
    """Whether FILE is a written graph and no source."""
    return Path(file).suffix in WRITTEN


def graph_or_seed_of(request: Request) -> BlueprintIR:
    """As `graph_of`, or the graph in a compiled seed. Raises what `read_artifact` raises, too."""
    if not is_artifact(request.file):
        return graph_of(request)
    from esper.passes import BlueprintIR
    from esper.urza.artifact import read_artifact

    if request.settings or request.precision or request.blueprint:
        raise click.UsageError(
            "a compiled seed has its values: --set, --blueprint and --precision are for a source"
        )
    return BlueprintIR.from_json(read_artifact(Path(request.file)).ir_json)


def graph_of(request: Request) -> BlueprintIR:
    """The graph, verified. Raises what reading and `esper.lower` raise; `UsageError` for `--set` on one."""
    if not is_graph(request.file):
        return request.lower()
    path = Path(request.file)
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
