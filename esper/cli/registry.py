"""`esperc registry`: which blueprints were chosen, when, how and for what, and what has become worse."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from esper.cli.program import note, with_shared_options
from esper.files import write_whole

if TYPE_CHECKING:
    from esper.tezzeret.recount import Recount
    from esper.tezzeret.registry import Blueprint, Measurement, Registry, Regression, Version

SCHEMA_VERSION = 1
COST_MODEL = "cost model"
"""Who found a figure that was counted, as its conditions say."""

_file = click.argument("file", metavar="REGISTRY", type=click.Path(path_type=Path))
_number = click.argument("number", metavar="NUMBER", type=click.IntRange(1))
_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


class _Group(click.Group):
    """Its commands take what every command takes."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        found = super().get_command(ctx, cmd_name)
        return None if found is None else with_shared_options(found, cmd_name)


@click.group(
    cls=_Group,
    epilog="""\b
Examples:
  esperc search mlp_block --set features=64 --registry chosen.db
  esperc registry ls chosen.db mlp_block
  esperc registry show chosen.db 3 -o third.esp
  esperc registry recount chosen.db
""",
)
def registry() -> None:
    """Look at a registry: a file in which `esperc search --registry` keeps what it chose, and why."""


@registry.command(
    epilog="""\b
Examples:
  esperc registry ls chosen.db
  esperc registry ls chosen.db blocks.0
"""
)
@_file
@click.argument("text", required=False)
@_json
def ls(file: Path, text: str | None, as_json: bool) -> None:
    """List the versions in REGISTRY.

    The last made stands last. With TEXT, only those that have it in their line.
    """
    with _opened(file) as found:
        worse = _by_hash(found.measurements.regressions())
        versions = [(one, _line(one, found)) for one in found.versions.all()]
        chosen = [(one, cells) for one, cells in versions if text is None or text in "  ".join(cells)]
        if as_json:
            records = [_record(one, found) for one, _ in chosen]
            click.echo(json.dumps({"schema_version": SCHEMA_VERSION, "versions": records}, indent=2))
            return
        if not chosen:
            note(f"{file} has {len(versions)} versions" + ("" if text is None else f", none with {text!r}"))
            return
        heads = ["", "blueprint", "made", "values", "us", "MB", "how"]
        rows = [[*cells, *_worse(worse.get(one.blueprint.ir_hash, []))] for one, cells in chosen]
        click.echo("\n".join(_table([heads, *rows])))


@registry.command(
    epilog="""\b
Examples:
  esperc registry show chosen.db 3
  esperc registry show chosen.db 3 -o third.esp
"""
)
@_file
@_number
@click.option(
    "-o",
    "--output",
    metavar="OUT.esp",
    type=click.Path(path_type=Path),
    help="Write its source there, with its values as defaults.",
)
@_json
def show(file: Path, number: int, output: Path | None, as_json: bool) -> None:
    """Tell all of version NUMBER.

    Its values, how it was found or what it was made from, and what was counted and measured of it.
    """
    with _opened(file) as found:
        version = found.versions[number]
        if output is not None:
            write_whole(output, _source(version.blueprint))
            note(f"wrote {output}")
        if as_json:
            document = {"schema_version": SCHEMA_VERSION, **_record(version, found)}
            click.echo(json.dumps(document, indent=2))
        else:
            click.echo("\n".join(_page(version, found)))


@registry.command(
    epilog="""\b
Example:
  esperc registry recount chosen.db
"""
)
@_file
@_json
@click.pass_context
def recount(context: click.Context, file: Path, as_json: bool) -> None:
    """Count anew what the blueprints cost.

    Each in REGISTRY is lowered, and what is counted of it is kept as a measurement. Exits 1 where one costs
    more than it did, or is not what it was: after another version of Esper, say.
    """
    from esper.tezzeret.recount import recount as counted_again

    with _opened(file) as found:
        last = {version.blueprint.ir_hash: version for version in found.versions.all()}
        counted = [counted_again(found, version) for version in last.values()]
    if as_json:
        records = [_recounted(one) for one in counted]
        click.echo(json.dumps({"schema_version": SCHEMA_VERSION, "blueprints": records}, indent=2))
    else:
        for one in counted:
            told = [one.problem] if one.problem else _worse(one.regressions) or ["as it was"]
            click.echo(f"{one.version.number}  {one.version.blueprint.name}: {', '.join(told)}")
    if any(one.problem or one.regressions for one in counted):
        context.exit(1)


def _opened(file: Path) -> Registry:
    """The registry, which is not begun by looking for it. Raises `RegistryForeign`, `RegistryInUse`."""
    from esper.tezzeret.registry import open_registry
    from esper.tezzeret.registry.errors import RegistryForeign

    if not file.exists():
        raise RegistryForeign(path=file, reason="there is no such file")
    return open_registry(file)


def _source(blueprint: Blueprint) -> str:
    """The blueprint with the values that were chosen as defaults. Raises `NotInLanguage` for some graphs."""
    from esper import lang
    from esper.lang.from_graph import write_source
    from esper.tezzeret.recount import graph_of, holds_graph

    if holds_graph(blueprint):
        return write_source(graph_of(blueprint)).text
    return lang.rewrite_defaults(
        blueprint.source, blueprint.values, name=blueprint.name, precision=blueprint.precision
    )


def _line(version: Version, registry: Registry) -> list[str]:
    made = version.blueprint
    figures = {one.quantity: one.value for one in registry.measurements.of(made.ir_hash)}
    shown = [f"{figures[name] * scale:.4g}" if name in figures else "-" for name, scale in _FIGURES.items()]
    how = version.edit or version.provenance.algorithm
    return [str(version.number), made.name, _moment(version.time), _values(version), *shown, how]


_FIGURES = {"latency_ms": 1e3, "memory_mb": 2**20 / 1e6}
"""Figures of a line, and what they are multiplied by to be in microseconds and MB."""


def _values(version: Version) -> str:
    return " ".join(f"{name}={_shown(value)}" for name, value in version.blueprint.values.items()) or "-"


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _table(rows: list[list[str]]) -> list[str]:
    """The last columns are of any number and width."""
    fixed = len(rows[0])
    widths = [max(len(row[column]) for row in rows) for column in range(fixed - 1)]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        lines.append("  ".join([*cells, row[fixed - 1], *row[fixed:]]).rstrip())
    return lines


def _by_hash(regressions: list[Regression]) -> dict[str, list[Regression]]:
    found: dict[str, list[Regression]] = {}
    for one in regressions:
        found.setdefault(one.found.ir_hash, []).append(one)
    return found


def _worse(regressions: list[Regression] | tuple[Regression, ...]) -> list[str]:
    return [
        f"{one.found.quantity} {one.found.value:.4g}, worse than {one.best.value:.4g}"
        f" by {100 * one.share:.3g} %"
        for one in regressions
    ]


def _page(version: Version, registry: Registry) -> list[str]:
    made, how = version.blueprint, version.provenance
    worse = [one for one in registry.measurements.regressions() if one.found.ir_hash == made.ir_hash]
    lines = [
        f"version {version.number} of {made.name}, {_moment(version.time)}",
        f"hash     {made.ir_hash}",
        f"values   {_values(version)}",
        *([f"sizes    {json.dumps(dict(made.sizes))}"] if made.sizes else []),
        *([f"dtype    {made.precision}"] if made.precision else []),
        f"by       {how.synthesizer}",
        f"how      {how.algorithm}",
        *([f"for      {how.requirements.text}"] if how.requirements is not None else []),
    ]
    line = registry.versions.lineage(version.number)
    if len(line) > 1:
        lines += [f"from     version {before.number}, {after.edit}" for before, after in pairwise(line)]
    lines += _measured(registry.measurements.of(made.ir_hash))
    return [*lines, *(f"worse    {told}" for told in _worse(worse))]


def _measured(measurements: list[Measurement]) -> list[str]:
    """The last of each kind; those that differ in their conditions are of different kinds."""
    last: dict[tuple[str, str, str], Measurement] = {}
    for one in measurements:
        last[one.quantity, one.device, json.dumps(dict(one.conditions), sort_keys=True)] = one
    lines = []
    for (quantity, device, _), one in last.items():
        error = f" ± {one.standard_error:.2g}" if one.standard_error else ""
        under = {name: value for name, value in one.conditions.items() if name != "by" and value}
        verb = "counted " if one.conditions.get("by") == COST_MODEL else "measured"
        of = f" {json.dumps(under)}" if under else ""
        lines.append(f"{verb} {quantity} {one.value:.6g}{error} on {device}{of}, {_moment(one.time)}")
    return lines


def _record(version: Version, registry: Registry) -> dict[str, Any]:
    made, how = version.blueprint, version.provenance
    asked = None if how.requirements is None else how.requirements.model_dump(mode="json", exclude_none=True)
    worse = [one for one in registry.measurements.regressions() if one.found.ir_hash == made.ir_hash]
    return {
        "number": version.number,
        "blueprint": made.name,
        "ir_hash": made.ir_hash,
        "values": dict(made.values),
        "sizes": dict(made.sizes),
        "precision": made.precision,
        "made": _moment(version.time),
        "synthesizer": how.synthesizer,
        "algorithm": how.algorithm,
        "requirements": asked,
        "parent": version.parent,
        "edit": version.edit,
        "measurements": [
            {
                "quantity": one.quantity,
                "value": one.value,
                "standard_error": one.standard_error,
                "device": one.device,
                "conditions": dict(one.conditions),
                "time": _moment(one.time),
            }
            for one in registry.measurements.of(made.ir_hash)
        ],
        "regressions": [_regression(one) for one in worse],
    }


def _recounted(one: Recount) -> dict[str, Any]:
    return {
        "number": one.version.number,
        "blueprint": one.version.blueprint.name,
        "ir_hash": one.version.blueprint.ir_hash,
        "regressions": [_regression(found) for found in one.regressions],
        "problem": one.problem or None,
    }


def _regression(one: Regression) -> dict[str, Any]:
    return {
        "quantity": one.found.quantity,
        "best": one.best.value,
        "found": one.found.value,
        "device": one.found.device,
        "since": _moment(one.best.time),
    }


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
