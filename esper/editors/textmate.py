"""`python -m esper.editors.textmate -o FILE`: the TextMate grammar for blueprints, which `make docs` writes.

VS Code, Sublime Text, JetBrains and GitHub paint by such grammars. This one has one `match` for each rule of
`esper.editors.tokens`, in the same order, so that they paint what the Pygments lexer paints.
"""

from __future__ import annotations

import json

from esper.editors.tokens import rules
from esper.generated import generator_command


def textmate_grammar() -> str:
    """The grammar, as JSON."""
    document = {
        "name": "Esper blueprint",
        "scopeName": "source.esper",
        "fileTypes": ["esp"],
        "patterns": [{"name": rule.part.scope, "match": rule.pattern} for rule in rules()],
    }
    return json.dumps(document, indent=2) + "\n"


main = generator_command(textmate_grammar, "the TextMate grammar")

if __name__ == "__main__":
    main()
