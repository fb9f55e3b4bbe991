"""The Pygments lexer for blueprints, in pages and in terminals: `pygmentize -l esper block.esp`.

It paints what `esper.editors.tokens` tells apart. Pygments, which nothing else here needs, finds it by the
entry point that `pyproject.toml` declares.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import ClassVar

from pygments.lexer import Lexer
from pygments.token import Whitespace, _TokenType, string_to_tokentype

from esper.editors.tokens import Part, scanner


class BlueprintLexer(Lexer):
    """Blueprints of the Esper toolchain."""

    name = "Esper blueprint"
    aliases: ClassVar[list[str]] = ["esper", "esp"]
    filenames: ClassVar[list[str]] = ["*.esp"]
    mimetypes: ClassVar[list[str]] = ["text/x-esper"]

    def get_tokens_unprocessed(self, text: str) -> Iterator[tuple[int, _TokenType, str]]:
        """Place, token and piece, in order and without gaps; `Error` for what no token starts with."""
        expression, parts = scanner()
        for match in expression.finditer(text):
            group = match.lastgroup
            assert group is not None
            token = Whitespace if group == "space" else _token(parts[int(group[1:])])
            yield match.start(), token, match.group()

    @staticmethod
    def analyse_text(text: str) -> float:
        """How sure it is that `text` is a blueprint, from 0 to 1."""
        return 0.8 if re.search(r"^blueprint [A-Za-z_]\w*\(", text, re.MULTILINE) else 0.0


@cache
def _token(part: Part) -> _TokenType:
    return string_to_tokentype(part.token)
