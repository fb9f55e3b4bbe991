"""`esperc inspect`: what a compiled seed holds, without running any of it."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(
    epilog="""\b
Example:
  esperc inspect mlp.seed
"""
)
@click.argument("seed", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as one JSON document.")
def inspect(seed: Path, as_json: bool) -> None:
    """Show what SEED holds. Every digest is checked; nothing in the file runs."""
    from esper.urza.artifact import manifest_of, manifest_text, read_artifact

    manifest = manifest_of(read_artifact(seed))
    click.echo(manifest.model_dump_json(indent=2) if as_json else manifest_text(manifest))
