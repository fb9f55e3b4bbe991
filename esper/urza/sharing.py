"""Launches that several groups share: a body for each, and text that chooses by the member's number."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from esper.urza.generate import Writer
from esper.urza.groups import Group


def numbered(name: str, number: int, members: Sequence[Group]) -> str:
    """`name` as one of several, where there are several."""
    return name if len(members) == 1 else f"{name}_{number}"


def choice(statements: Sequence[str]) -> list[str]:
    """The lines of a statement for each member."""
    words = ["if", *["elif"] * (len(statements) - 1)]
    pairs = enumerate(zip(words, statements, strict=True))
    return [line for number, (word, one) in pairs for line in (f"{word} member == {number}:", f"    {one}")]


def picked(texts: Sequence[str]) -> str:
    """The text of one member among `texts`, or what all have in common."""
    return texts[0] if len(set(texts)) == 1 else f"pick(({', '.join(texts)}), member)"


def dispatched(writer: Writer, name: str, parameters: str, write: Callable[[Writer], None]) -> str:
    """The name of the body that calls each member's own, or of the only member's body."""
    members = writer.launch.members or [writer.launch]
    bodies = []
    for number, member in enumerate(members):
        writer.begin(member)
        write(writer)
        bodies.append(writer.end(numbered(name, number, members), parameters))
    if len(bodies) == 1:
        return bodies[0]
    writer.lines += choice([f"{body}({parameters}, operands)" for body in bodies])
    return writer.end(name, parameters)


def write_totals(writer: Writer, texts: Sequence[str]) -> None:
    """What the writer's group makes of its whole sums, given as text."""
    for node, text in zip(writer.group.totals, texts, strict=True):
        writer.names[node.result()] = text
    for node in writer.group.nodes:
        writer.compute(node)
    writer.store_results()
