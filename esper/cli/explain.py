"""`esperc explain`: what a code means, or why a blueprint runs as the kernels that it runs as."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import click

from esper.cli.blueprint import Request, blueprint_options

if TYPE_CHECKING:
    from esper.urza.compiler import Programs
    from esper.urza.program import Program

SCHEMA_VERSION = 1

_CODE = re.compile(r"[EeWw]\d+|\d+", re.ASCII)
"""A code; its letter is asked for where it is missing."""


@click.command(
    epilog="""\b
Examples:
  esperc explain E0202
  esperc explain attention --set heads=8 --size N=64
"""
)
@blueprint_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def explain(request: Request, as_json: bool) -> None:
    """Explain FILE: the code of an error or a warning, or a blueprint.

    Of a code: what it means, an example of the mistake, and the example repaired. Of a blueprint, a file
    or the name of one in the library: which kernels it becomes, why they are split where they are, and
    what the backward pass keeps from the forward pass.
    """
    if _CODE.fullmatch(request.file):
        if request.arguments():
            raise click.UsageError(
                f"{request.arguments()[0]} is for a blueprint, and {request.file} is a code"
            )
        _code(request.file.upper(), as_json)
    else:
        _blueprint(request, as_json)


def _code(code: str, as_json: bool) -> None:
    from esper.cli.codes import explanation

    found = explanation(code)
    if as_json:
        document = {"schema_version": SCHEMA_VERSION, "code": code, "title": found.title, "text": found.text}
        click.echo(json.dumps(document, indent=2))
    else:
        click.echo(found.text, nl=False)


def _blueprint(request: Request, as_json: bool) -> None:
    from esper.cli.graphs import graph_of
    from esper.cli.reproduction import reproducible
    from esper.lang import size_values
    from esper.urza.compiler import make_programs

    with reproducible("explain", request) as case:
        ir = case.graph = graph_of(request)
        sizes = size_values(ir, request.size_values())
        programs = make_programs(ir)
        saved = _saved(programs, sizes)
    if as_json:
        document = {
            "schema_version": SCHEMA_VERSION,
            "blueprint": ir.name,
            "sizes": sizes,
            "groups": [group for program in programs.both for group in _groups(program)],
            "refusals": [refusal for program in programs.both for refusal in _refusals(program)],
            "saved": saved,
        }
        click.echo(json.dumps(document, indent=2))
        return
    click.echo(programs.stage("plan"))
    at = ", ".join(f"{name} = {value}" for name, value in sizes.items())
    total = sum(value["bytes"] for value in saved)
    click.echo(f"saved for backward: {total:,} bytes{f' at {at}' if at else ''}")
    for value in saved:
        click.echo(f"  {value['value']}: {value['type']}, {value['bytes']:,} bytes, {value['reason']}")


def _groups(program: Program) -> list[dict[str, Any]]:
    plan = program.plan
    return [
        {
            "direction": program.direction,
            "name": group.name,
            "shape": [str(size) for size in group.space.shape],
            "nodes": [
                {
                    "name": node.name,
                    "op": node.op,
                    "stored": any(value in plan.stored for value in node.results),
                }
                for part in group.parts
                for node in [*part.nodes, *part.sums]
            ],
        }
        for group in plan.groups
    ]


def _refusals(program: Program) -> list[dict[str, str]]:
    return [
        {
            "direction": program.direction,
            "node": refusal.node,
            "group": refusal.group,
            "reason": refusal.reason,
        }
        for refusal in program.plan.refusals
    ]


def _saved(programs: Programs, sizes: dict[str, int]) -> list[dict[str, Any]]:
    from esper.ir import evaluate_size

    return [
        {
            "value": str(saved.value),
            "type": str(saved.type),
            "bytes": evaluate_size(saved.type.bytes, sizes),
            "reason": saved.reason.value,
        }
        for saved in programs.parts.saved
    ]
