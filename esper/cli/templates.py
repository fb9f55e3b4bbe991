"""`esperc templates`: the blueprints that come with Esper."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from esper.lang import LibraryEntry, ParameterInfo

SCHEMA_VERSION = 1


@click.command(
    epilog="""\b
Example:
  esperc templates mlp_block
"""
)
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def templates(name: str | None, as_json: bool) -> None:
    """List the library, or show one blueprint, NAME, with its parameters and documentation."""
    from esper import lang

    entries = lang.library() if name is None else [lang.library_entry(name)]
    if as_json:
        document = {"schema_version": SCHEMA_VERSION, "templates": [_record(entry) for entry in entries]}
        click.echo(json.dumps(document, indent=2))
    elif name is None:
        width = max((len(entry.name) for entry in entries), default=0)
        for entry in entries:
            click.echo(f"{entry.name:<{width}}  {entry.summary}")
    else:
        click.echo(_page(entries[0]))


def _record(entry: LibraryEntry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "summary": entry.summary,
        "doc": entry.signature.doc,
        "parameters": [asdict(parameter) for parameter in entry.signature.parameters],
        "file": entry.file,
    }


def _page(entry: LibraryEntry) -> str:
    lines = [entry.name, "", *entry.signature.doc.split("\n"), "", "Parameters:"]
    for parameter in entry.signature.parameters:
        lines.append(f"  {_declaration(parameter)}")
        if parameter.doc:
            lines.append(f"      {parameter.doc}")
    return "\n".join([*lines, "", f"File: {entry.file}"])


def _declaration(parameter: ParameterInfo) -> str:
    text = f"{parameter.name}: {parameter.kind}"
    if parameter.default is not None:
        text += f" = {_spelled(parameter.default)}"
    if parameter.domain is not None:
        domain = parameter.domain
        text += " in "
        text += f"{{{', '.join(map(_spelled, domain))}}}" if isinstance(domain, tuple) else str(domain)
    return text


def _spelled(value: bool | int | float | str) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
