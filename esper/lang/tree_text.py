"""A syntax tree as text: one node a line with its place, its parts indented below."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from esper.errors import Span
from esper.lang.ast import Blueprint, Integer, Name, Real, Text, Truth

LEAVES = (Name, Integer, Real, Text, Truth)


def tree_text(blueprint: Blueprint) -> str:
    """`Let 9:5`, then `name: hidden` and `value: Binary 9:18`, and so on; what is empty is left out."""
    lines = []
    pending: list[tuple[int, str, object]] = [(0, "", blueprint)]
    while pending:
        indent, label, part = pending.pop()
        head, parts = _shown(part)
        lines.append(f"{'  ' * indent}{label}{head}".rstrip())
        pending += [(indent + 1, name, value) for name, value in reversed(parts)]
    return "\n".join(lines) + "\n"


def _shown(part: object) -> tuple[str, list[tuple[str, object]]]:
    """The text of a part itself, and what it is made of."""
    if isinstance(part, LEAVES):
        return (part.text if isinstance(part, Name) else repr(part.value)), []
    if isinstance(part, tuple):
        return "", [("", one) for one in part]
    span = getattr(part, "span", None)
    if not isinstance(span, Span):
        return repr(part), []
    return f"{type(part).__name__} {span.line}:{span.column}", list(_parts(part))


def _parts(node: object) -> Iterator[tuple[str, object]]:
    for one in fields(node):  # type: ignore[arg-type]
        value = getattr(node, one.name)
        if one.compare and not isinstance(value, Span) and value not in (None, (), "", frozenset()):
            yield f"{one.name}: ", value
