"""Python statements laid out as ruff's formatter would: on one line, or with the outermost call opened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH = 110
INDENT = "    "


@dataclass(frozen=True, slots=True)
class Call:
    """`function(arguments)suffix`, such as `torch.lstm(x, y)[0]`."""

    function: str
    arguments: tuple[str, ...]
    suffix: str = ""

    def __str__(self) -> str:
        return f"{self.function}({', '.join(self.arguments)}){self.suffix}"


Expression = str | Call


def statement(head: str, expression: Expression, depth: int) -> list[str]:
    """`head` and `expression`, such as `h = ` and a call, in lines at `depth`."""
    margin, inner = INDENT * depth, INDENT * (depth + 1)
    line = f"{margin}{head}{expression}"
    if len(line) <= WIDTH or isinstance(expression, str):
        return [line]
    opened, closed = f"{margin}{head}{expression.function}(", f"{margin}){expression.suffix}"
    joined = inner + ", ".join(expression.arguments)
    if len(joined) <= WIDTH:
        return [opened, joined, closed]
    return [opened, *(f"{inner}{argument}," for argument in expression.arguments), closed]


def docstring(paragraphs: Sequence[str], depth: int) -> list[str]:
    """A docstring of `paragraphs`, whose lines stay as they are."""
    margin = INDENT * depth
    text = "\n\n".join(paragraphs).replace("\\", "\\\\").replace('"""', "'''")
    lines = [f"{margin}{line}".rstrip() for line in text.split("\n")]
    lines[0] = f'{margin}"""{text.partition(chr(10))[0].rstrip()}'
    if len(lines) == 1:
        return [f'{lines[0]}"""']
    return [*lines, f'{margin}"""']
