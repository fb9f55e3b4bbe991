"""`esperc lsp`: the language server, which editors start and speak to."""

from __future__ import annotations

import click

from esper.errors import MissingPackage

PACKAGES = ("pygls", "lsprotocol")


@click.command(
    epilog="""\b
Example:
  esperc lsp
"""
)
@click.option("--stdio", is_flag=True, help="What is done anyway; some editors pass it.")
@click.pass_context
def lsp(context: click.Context, stdio: bool) -> None:
    """Serve editors over stdin and stdout: mistakes, hovers, completion, definitions, layout."""
    try:
        from esper.editors.server import serve
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in PACKAGES:
            raise
        raise MissingPackage(package="pygls", purpose="the language server", extra="editors") from None
    context.exit(serve())
