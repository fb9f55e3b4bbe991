"""`esperc modify`: typed edits of a graph, each checked; the graph that they give, and its hash."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

import esper
from esper.cli.blueprint import Request, blueprint_options
from esper.cli.graphs import WRITTEN, graph_of, is_graph
from esper.cli.program import note
from esper.cli.reproduction import reproducible
from esper.files import write_whole

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from esper.ir.graph import BlueprintIR
    from esper.lang import Bound, SizeValue
    from esper.lang.from_graph import Written
    from esper.tezzeret.edits import Edit

SCHEMA_VERSION = 1
SOURCE = ".esp"
LISTED = 6
"""Renamed weights that a note lists, at most."""


@click.command(
    epilog="""\b
Edits, applied in order:
  add:[NAME=]CALL after VALUE   add:rms_norm() after gelu
  remove:NODE                   remove:layer_norm
  replace:NODE=CALL             replace:gelu=relu
  rewire:NODE.OPERAND=VALUE     rewire:add.0=linear_2, or an output's name for NODE
  resize:NODE[.ARGUMENT]=SIZE   resize:linear=128, and what reads it follows
  constrain:QUANTITY<=BOUND     constrain:params<=20000, checked where it stands
CALL is written as in a blueprint, without the operands that are there. NODE and VALUE are names of
`esperc compile FILE --emit ir`; VALUE#1 is a node's second result.

\b
Examples:
  esperc modify mlp_block replace:gelu=relu resize:linear=512 -o small.esp
  esperc modify small.esp 'add:dropout(0.1) after relu' 'constrain:params<=300000' --json
"""
)
@blueprint_options
@click.argument("edits", metavar="EDIT...", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    metavar="OUT.esp",
    type=click.Path(path_type=Path),
    help="Write a blueprint's source there, or the graph if the name ends in .ir or .json.",
)
@click.option(
    "--registry",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Keep the source and what it was made from in FILE, which `esperc registry` reads.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def modify(
    request: Request, edits: tuple[str, ...], output: Path | None, registry: Path | None, as_json: bool
) -> None:
    """Edit the graph of FILE: of a blueprint, of the name of one, or a graph (.ir, .json).

    Each edit gives a verified graph, or an error that says what does not fit. Prints the graph, or with -o
    the hash of what was written. A source is written from the graph: sizes stand in it where the blueprint
    had parameters.
    """
    from esper.lang import size_values
    from esper.tezzeret.edits import parse_edit

    if output is not None and output.suffix not in (SOURCE, *WRITTEN):
        raise click.UsageError(f"-o takes a name that ends in .esp, .ir or .json, found {output}")
    sizes = request.size_values()
    parsed = [parse_edit(text, sizes) for text in edits]
    written = None
    with reproducible("modify", request, *edits) as case:
        given = case.graph = graph_of(request)
        size_values(given, sizes)  # refuses what the graph has not, whether or not a constraint reads it
        ir = given
        for edit in parsed:
            ir = edit.apply(ir)
        if registry is not None or (output is not None and output.suffix == SOURCE):
            written = _written(ir, request, parsed, output)
            ir = written.ir
    if output is not None:
        graph = ir.to_json() if output.suffix == ".json" else str(ir)
        is_source = written is not None and output.suffix == SOURCE
        write_whole(output, written.text if written is not None and is_source else f"{graph}\n")
        note(f"wrote {output}")
    if written is not None and registry is not None:
        _register(registry, given, written, parsed, sizes)
    if written is not None and written.renamed:
        note(_renamed(written))
    if as_json:
        document = {
            "schema_version": SCHEMA_VERSION,
            "blueprint": ir.name,
            "edits": [str(edit) for edit in parsed],
            "ir_hash_before": given.hash,
            "ir_hash": ir.hash,
            "ir": str(ir),
            "renamed": {} if written is None else dict(written.renamed),
        }
        click.echo(json.dumps(document, indent=2))
    elif output is None:
        click.echo(str(ir))
        note(f"hash {ir.hash}")
    else:
        click.echo(ir.hash)


def _written(ir: BlueprintIR, request: Request, edits: Sequence[Edit], output: Path | None) -> Written:
    """The source: it says what it was made from, and keeps constraints that were stated or asked for."""
    from esper import lang
    from esper.lang.from_graph import write_source
    from esper.tezzeret.edits import Constrain

    stated: Sequence[Bound] = ()
    if not is_graph(request.file):
        if output is not None:
            request.require_other(output)
        stated = request.lower_bounded()[1]
    asked = [edit.constraint for edit in edits if isinstance(edit, Constrain)]
    bounds = [lang.Bound(one.quantity, one.comparison, one.bound, one.target) for one in asked]
    made_from = shlex.join([Path(request.file).name, *request.arguments()])
    doc = [f"`{ir.name}` by `esperc modify {made_from}` with", *(f"  {shlex.quote(str(e))}" for e in edits)]
    return write_source(ir, doc, dict.fromkeys([*stated, *bounds]))


def _register(
    path: Path, given: BlueprintIR, written: Written, edits: Sequence[Edit], sizes: Mapping[str, SizeValue]
) -> None:
    """Keeps a version made from the last one of `given`, if the registry has one, and counted at its sizes.

    sizes: others, if any were asked for.
    """
    from esper.tezzeret.recount import count
    from esper.tezzeret.registry import Blueprint, Provenance, open_registry

    edit = "; ".join(map(str, edits))
    with open_registry(path) as registry:
        known = registry.versions.of(given.hash)
        same = known[-1].blueprint.sizes if known else {}
        blueprint = Blueprint(written.ir.hash, written.ir.name, written.text, {}, sizes or same)
        version = registry.versions.add(
            blueprint,
            Provenance(f"esperc modify {esper.__version__}", "edits"),
            parent=known[-1].number if known else None,
            edit=edit,
        )
        count(registry, blueprint, written.ir)
    note(f"kept in {path} as version {version.number}")


def _renamed(written: Written) -> str:
    pairs = [f"{name} -> {twin}" for name, twin in written.renamed.items()]
    rest = f" and {len(pairs) - LISTED} more" if len(pairs) > LISTED else ""
    return f"names in the source differ: {', '.join(pairs[:LISTED])}{rest}"
