"""`esperc cache`: what the kernel cache holds, where it lies, and how it is kept small."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from esper.urza.builder.cache import Entry, KernelCache

SCHEMA_VERSION = 1
_UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3}


class _Bytes(click.ParamType[int]):
    """A number of bytes: `0`, `4096`, `500M`, `2G`."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        match = re.fullmatch(r"(\d{1,15})([KMG]?)", str(value))
        if match is None:
            self.fail(f"`{value}` is no size; write a number of bytes such as 4096, 500M or 2G", param, ctx)
        return int(match[1]) * _UNITS[match[2]]


@click.command(
    epilog="""\b
Examples:
  esperc cache ls
  esperc cache prune --limit 200M
  esperc cache path
"""
)
@click.argument("action", type=click.Choice(["ls", "prune", "path"]))
@click.option(
    "--limit", type=_Bytes(), metavar="SIZE", help="What prune leaves, such as 500M; 0 removes all.  [1G]"
)
@click.option("--json", "as_json", is_flag=True, help="Print folder and entries as one JSON document.")
def cache(action: str, limit: int | None, as_json: bool) -> None:
    """Show or shrink the cache of built kernels, and of records: what a whole compilation made of them.

    ls lists what is there, latest use first; prune removes what was used longest ago; path prints the
    folder, which ESPER_CACHE_DIR chooses. Removing an entry costs no more than making it again.
    """
    from esper.urza.builder.cache import LIMIT_BYTES, KernelCache

    if limit is not None and action != "prune":
        raise click.UsageError("--limit belongs to `esperc cache prune`")
    kernels = KernelCache()
    removed = kernels.prune(LIMIT_BYTES if limit is None else limit) if action == "prune" else ()
    if as_json:
        click.echo(json.dumps(_document(kernels, removed), indent=2))
    elif action == "path":
        click.echo(kernels.folder)
    elif action == "prune":
        click.echo(_removal(removed, _listed(kernels)))
    else:
        click.echo(_table(kernels))


def _listed(kernels: KernelCache) -> list[Entry]:
    return sorted(kernels.entries(), key=lambda entry: (-entry.used_s, entry.key))


def _document(kernels: KernelCache, removed: tuple[Entry, ...]) -> dict[str, Any]:
    entries = _listed(kernels)
    return {
        "schema_version": SCHEMA_VERSION,
        "folder": str(kernels.folder),
        "bytes": sum(entry.size for entry in entries),
        "entries": [_record(entry) | {"whole": kernels.is_whole(entry.key)} for entry in entries],
        "removed": [_record(entry) for entry in removed],
    }


def _record(entry: Entry) -> dict[str, Any]:
    return {
        "key": entry.key,
        "kind": _kind(entry),
        "kernel": entry.description.get("kernel"),
        "direction": entry.description.get("direction"),
        "target": entry.description.get("target"),
        "bytes": entry.size,
        "used": _moment(entry),
    }


def _kind(entry: Entry) -> str:
    return str(entry.description.get("kind", "kernel"))


def _removal(removed: Sequence[Entry], left: Sequence[Entry]) -> str:
    gone, all_ = (Counter(map(_kind, found)) for found in (removed, [*removed, *left]))
    counts = (f"{gone[kind]} of {all_[kind]} {kind}s" for kind in ("kernel", "record"))
    return f"removed {' and '.join(counts)}, {sum(entry.size for entry in removed)} bytes"


def _table(kernels: KernelCache) -> str:
    entries = _listed(kernels)
    lines = [f"{'key':<14}{'target':<13}{'bytes':>9}  {'last used':<22}{'kind':<8}kernel"]
    for entry in entries:
        state = "" if kernels.is_whole(entry.key) else "  (damaged: will be made again)"
        kernel, target = (str(entry.description.get(name, "?")) for name in ("kernel", "target"))
        used = f"{_moment(entry):<22}{_kind(entry):<8}"
        lines.append(f"{entry.key[:12]:<14}{target:<12} {entry.size:>9}  {used}{kernel}{state}")
    counts = Counter(map(_kind, entries))
    total = (
        f"{counts['kernel']} kernels, {counts['record']} records, "
        f"{sum(entry.size for entry in entries)} bytes in {kernels.folder}"
    )
    return "\n".join([*lines, "", total] if entries else [total])


def _moment(entry: Entry) -> str:
    return datetime.fromtimestamp(entry.used_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
