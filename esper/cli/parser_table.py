"""`python -m esper.cli.parser_table -o grammar/blueprint.json`: the tables of the parser of blueprints.

`make docs` runs this.
"""

from __future__ import annotations

from esper.generated import generator_command
from esper.lang.grammar_table import GRAMMAR, made, table_of
from esper.resources import grammar_text


def table() -> str:
    """The tables as text."""
    text = grammar_text(GRAMMAR)
    return table_of(made(text), text)


main = generator_command(table, "the tables of the parser as JSON")

if __name__ == "__main__":
    main()
