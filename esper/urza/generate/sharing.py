"""Launches that several groups share: a body for each, and text that chooses by the member's number.

Bodies that differ in nothing but their pointers are one body, which picks these.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from esper.urza.generate.writer import Body, Writer
from esper.urza.plan.groups import Group

_POINTER = re.compile(r"\b\w+_ptr\b")
_TARGET = re.compile(r"^(\w+) = ", re.MULTILINE)


def picked(texts: Sequence[str], first: int = 0) -> str:
    """The text of one member among `texts`, or what all have in common; `first` is the first one's number."""
    index = "member" if first == 0 else f"member - {first}"
    return texts[0] if len(set(texts)) == 1 else f"pick(({', '.join(texts)}), {index})"


def dispatched(writer: Writer, name: str, parameters: str, write: Callable[[Writer], None]) -> Body:
    """The body that does for each member what `write` writes for it."""
    members = writer.launch.members or [writer.launch]
    found = [written(writer, member, write) for member in members]
    if len({form(writer, lines) for lines in found}) == 1:
        writer.lines += united(writer, found)
        return writer.end(name, parameters)
    bodies = []
    for number, lines in enumerate(found):
        writer.lines += lines
        bodies.append(writer.end(f"{name}_{number}", parameters))
    for number, body in enumerate(bodies):
        writer.lines += [
            f"{'elif' if number else 'if'} member == {number}:",
            f"    {body.name}({parameters}, {body.operands_text})",
        ]
    return writer.end(name, parameters)


def written(writer: Writer, member: Group, write: Callable[[Writer], None]) -> list[str]:
    """The lines that `write` writes for a member."""
    writer.begin(member)
    write(writer)
    lines = list(writer.lines)
    writer.lines.clear()
    return lines


def form(writer: Writer, lines: Sequence[str]) -> tuple[str, ...]:
    """What bodies have in common that differ only in pointers: the text without names, element types."""
    text = "\n".join(lines)
    pointers, values = _pointers(lines), dict.fromkeys(_TARGET.findall(text))
    for number, name in enumerate([*pointers, *values]):
        text = re.sub(rf"\b{name}\b", f"{{{number}}}", text)
    dtypes = {argument.name: argument.dtype for argument in writer.pointers.values()}
    return text, *(dtypes[name] for name in pointers)


def united(writer: Writer, bodies: Sequence[Sequence[str]], first: int = 0) -> list[str]:
    """The lines of bodies of one form, of members from number `first` on."""
    text = "\n".join(bodies[0])
    picks = []
    for number, names in enumerate(zip(*map(_pointers, bodies), strict=True)):
        if len(set(names)) > 1:
            name = f"picked_{number}_ptr"
            while any(argument.name == name for argument in writer.pointers.values()):
                name = f"_{name}"
            text = re.sub(rf"\b{names[0]}\b", name, text)
            picks.append(f"{name} = {picked(names, first)}")
    return [*picks, *text.splitlines()]


def _pointers(lines: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(_POINTER.findall("\n".join(lines))))


def write_totals(writer: Writer, texts: Sequence[str]) -> None:
    """What the writer's group makes of its whole sums, given as text."""
    for node, text in zip(writer.group.totals, texts, strict=True):
        writer.names[node.result()] = text
    for node in writer.group.nodes:
        writer.compute(node)
    writer.store_results()
