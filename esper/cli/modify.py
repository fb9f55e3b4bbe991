"""`esperc modify`: typed edits of a graph, each checked; the graph that they give, and its hash."""

from __future__ import annotations

import json
from pathlib import Path

import click

from esper.cli.blueprint import Request, blueprint_options
from esper.cli.graphs import WRITTEN, graph_of
from esper.cli.program import note
from esper.cli.reproduction import reproducible
from esper.errors import EsperError
from esper.files import write_whole

SCHEMA_VERSION = 1


class NoSource(EsperError):
    """A graph has sizes where its blueprint had parameters, so no source says what it is."""

    code = "E1065"
    message = "`{path}` would be a blueprint's source, and an edited graph has none"
    help = "name a file that ends in .ir or .json: commands read it as they read a blueprint"


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
  esperc modify mlp_block replace:gelu=relu resize:linear=512 -o small.ir
  esperc modify small.ir 'add:dropout(0.1) after gelu' 'constrain:params<=300000' --json
"""
)
@blueprint_options
@click.argument("edits", metavar="EDIT...", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    metavar="OUT.ir",
    type=click.Path(path_type=Path),
    help="Write the graph there, as JSON if the name ends in .json.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def modify(request: Request, edits: tuple[str, ...], output: Path | None, as_json: bool) -> None:
    """Edit the graph of FILE: of a blueprint, of the name of one, or a graph (.ir, .json).

    Each edit gives a verified graph, or an error that says what does not fit. Prints the graph, or with -o
    the hash of what was written.
    """
    from esper.lang import size_values
    from esper.tezzeret.edits import parse_edit

    if output is not None and output.suffix not in WRITTEN:
        raise NoSource(path=output)
    sizes = request.size_values()
    parsed = [parse_edit(text, sizes) for text in edits]
    with reproducible("modify", request, *edits) as case:
        given = case.graph = graph_of(request)
        size_values(given, sizes)  # refuses what the graph has not, whether or not a constraint reads it
        ir = given
        for edit in parsed:
            ir = edit.apply(ir)
    if output is not None:
        write_whole(output, f"{ir.to_json() if output.suffix == '.json' else ir}\n")
        note(f"wrote {output}")
    if as_json:
        document = {
            "schema_version": SCHEMA_VERSION,
            "blueprint": ir.name,
            "edits": [str(edit) for edit in parsed],
            "ir_hash_before": given.hash,
            "ir_hash": ir.hash,
            "ir": str(ir),
        }
        click.echo(json.dumps(document, indent=2))
    elif output is None:
        click.echo(str(ir))
        note(f"hash {ir.hash}")
    else:
        click.echo(ir.hash)
