"""`python -m esper.editors.textmate -o FILE`: the TextMate grammar for blueprints, which `make docs` writes.

VS Code, Sublime Text, JetBrains and GitHub paint by such grammars. This one has one `match` for each rule of
`esper.editors.tokens`, in the same order, so that they paint what the Pygments lexer paints.
"""

from __future__ import annotations

import json
from pathlib import Path

import click

from esper.editors.tokens import rules
from esper.files import write_whole


def textmate_grammar() -> str:
    """The grammar, as JSON."""
    document = {
        "name": "Esper blueprint",
        "scopeName": "source.esper",
        "fileTypes": ["esp"],
        "patterns": [{"name": rule.part.scope, "match": rule.pattern} for rule in rules()],
    }
    return json.dumps(document, indent=2) + "\n"


@click.command()
@click.option("-o", "--output", type=click.Path(path_type=Path), help="In place of stdout.")
def main(output: Path | None) -> None:
    """Write the TextMate grammar."""
    if output is None:
        click.echo(textmate_grammar(), nl=False)
    else:
        write_whole(output, textmate_grammar())


if __name__ == "__main__":
    main()
