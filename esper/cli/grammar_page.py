"""`python -m esper.cli.grammar_page -o docs/grammar.md`: the grammar of the language as a page.

Made from `grammar/blueprint.lark`, which the parser reads too; `make docs` runs this.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from esper.generated import generator_command
from esper.lang.keywords import KEYWORDS
from esper.resources import grammar_text

HEAD = """# The grammar

What the parser reads, rule by rule, from `grammar/blueprint.lark`. This page is generated: `make docs` writes
it. Literals stand in quotes, `?` makes what is before it optional, `|` parts alternatives; a rule that begins
with itself is a list. White space and comments, from `#` to the end of the line, may stand between tokens.
"""

_DEFINITION = re.compile(r"^[!?]?(\w+)(?:\.\d+)?: ?(.*(?:\n +\|.*|\n +\S.*)*)", re.MULTILINE)
_ALIAS = re.compile(r" *-> \w+")


def page() -> str:
    """The page as text."""
    text = re.sub(r"^(//|%).*\n", "", grammar_text("blueprint.lark"), flags=re.MULTILINE)
    found = {match[1]: " ".join(_ALIAS.sub("", match[2]).split()) for match in _DEFINITION.finditer(text)}
    words = {name: body for name, body in found.items() if name.isupper()}
    rules = {name: body for name, body in found.items() if not name.isupper()}
    return "\n".join(
        [
            HEAD,
            "## Rules",
            "",
            "```text",
            *(line for name, body in rules.items() for line in _rule(name, body)),
            "```",
            "",
            "## Tokens",
            "",
            "| token | is |",
            "| --- | --- |",
            *(f"| `{name}` | {_token(body)} |" for name, body in words.items()),
            "",
            "## Keywords",
            "",
            ", ".join(f"`{name.lower()}`" for name in sorted(KEYWORDS)),
            "are reserved, but for the names of arguments.",
            "",
        ]
    )


def _rule(name: str, body: str) -> Iterator[str]:
    """A line for each alternative."""
    first, *others = re.split(r" \| (?![^()]*\))", body)
    yield f"{name} = {first}"
    yield from (f"{'':{len(name)}} | {other}" for other in others)


def _token(body: str) -> str:
    if body.startswith("/"):
        return f"the pattern `{body[1:-1]}`".replace("|", "\\|")
    return " or ".join(f"`{literal}`".replace("|", "\\|") for literal in re.findall(r'"([^"]+)"', body))


main = generator_command(page, "the page of the grammar")

if __name__ == "__main__":
    main()
