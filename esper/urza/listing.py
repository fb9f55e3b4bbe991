"""A program for people: its kernels as one module, imports once and functions in order; its plan as text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import PurePath

from esper.errors import Span
from esper.ir.graph import Node
from esper.urza.eager.module_layout import INDENT, WIDTH, Call, statement
from esper.urza.generate.writer import Launch
from esper.urza.grid import to_text
from esper.urza.kernel import KernelSource
from esper.urza.plan.groups import Group
from esper.urza.program import Program

_GAP = "\n\n\n"
_LAST_COMMA = re.compile(r"(\([^()]*, [^()]*),\)")
_CALL = re.compile(r"(\s*)((?:def |return |[\w.]+(?:, [\w.]+)* = )?[\w.]*)\((.*)\)(:|,| = operands|)")


def listing(
    launches: Iterable[tuple[Launch, KernelSource]], blueprint: str, sources: Mapping[str, str] | None = None
) -> str:
    """The text of all kernels, in order, each under comments that say how it is launched and what it is of.

    sources: the texts of the files that the graph's spans point into, by path, for the blueprint's own words.
    """
    imports: dict[str, set[str]] = {}
    parts = []
    for launch, kernel in launches:
        head, _, body = kernel.source.partition(_GAP)
        for line in head.splitlines():
            module, _, names = line.removeprefix("from ").partition(" import ")
            if line:
                imports.setdefault(module if names else line, set()).update(
                    names.split(", ") if names else ()
                )
        words = _words(launch.group, sources or {})
        text = "\n".join(part for line in body.strip().splitlines() for part in _wrapped(line))
        parts.append("\n".join([_comment(kernel), *words, text]))
    plain = sorted(line for line, names in imports.items() if not names)
    froms = [f"from {m} import {', '.join(sorted(names))}" for m, names in sorted(imports.items()) if names]
    head = "\n".join([*plain, "", *froms])
    return f'"""The kernels of `{blueprint}`, as generated."""\n\n' + _GAP.join([head, *parts]) + "\n"


def _comment(kernel: KernelSource) -> str:
    grid = ", ".join(map(to_text, kernel.grid))
    constants = [f"{name} = {value}" for name, value in kernel.constexprs.items()]
    return f"# {kernel.direction}: {', '.join([f'grid ({grid})', *constants, f'{kernel.num_warps} warps'])}"


def _words(group: Group, sources: Mapping[str, str]) -> list[str]:
    """What a kernel is of, a comment for each line of a blueprint: `# norm.esp:9: rms_norm(x)`."""
    nodes = [node for part in group.parts for node in (*part.nodes, *part.sums, *part.totals, *part.joined)]
    spans = {node.span for node in nodes if node.span is not None and node.span.file in sources}
    outer = [one for one in spans if not any(other != one and _holds(other, one) for other in spans)]
    lines: dict[tuple[str, int], list[str]] = {}
    for span in sorted(outer, key=lambda span: (span.file, span.line, span.column)):
        lines.setdefault((span.file, span.line), []).append(_said(span, sources[span.file]))
    return [f"# {PurePath(file).name}:{line}: {', '.join(said)}" for (file, line), said in lines.items()]


def _holds(outer: Span, inner: Span) -> bool:
    return (
        outer.file == inner.file
        and (outer.line, outer.column) <= (inner.line, inner.column)
        and (outer.end_line, outer.end_column) >= (inner.end_line, inner.end_column)
    )


def _said(span: Span, text: str) -> str:
    """The words of `span`, on one line."""
    lines = text.splitlines()[span.line - 1 : span.end_line]
    if not lines:
        return "?"
    lines[-1] = lines[-1][: span.end_column - 1]
    lines[0] = lines[0][span.column - 1 :]
    return " ".join(line.strip() for line in lines)


def _wrapped(line: str) -> list[str]:
    """A generated line as ruff would lay it out: no comma before a bracket, long calls opened."""
    line = _LAST_COMMA.sub(r"\1)", line)
    found = _CALL.fullmatch(line)
    if len(line) <= WIDTH or found is None or not _is_closed(found[3]):
        return [line]
    margin, head, arguments, tail = found.groups()
    lines = statement("", Call(head, _arguments(arguments), tail), len(margin) // len(INDENT))
    return [part for line in lines for part in _wrapped(line)]


def _is_closed(text: str) -> bool:
    """Whether no bracket in `text` closes one before it."""
    depth = 0
    for letter in text:
        depth += (letter in "([{") - (letter in ")]}")
        if depth < 0:
            return False
    return True


def _arguments(text: str) -> tuple[str, ...]:
    """The arguments of a call, apart."""
    found, depth, start = [], 0, 0
    for place, letter in enumerate(text):
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and not depth:
            found.append(text[start:place].strip())
            start = place + 1
    last = text[start:].strip()
    return (*found, last) if last else tuple(found)


def plan_text(program: Program) -> str:
    """The groups of one direction: what each computes and stores; then what was refused, and why."""
    lines = [f"{program.direction} {program.ir.name}"]
    for group in program.plan.groups:
        lines.append(f"  {group.name} over {' and '.join(map(_shape, group.members or [group]))}")
        nodes = [node for part in group.parts for node in (*part.nodes, *part.sums, *part.joined)]
        lines += [f"    {node.name}: {node.op}{_stored(program, node)}" for node in nodes]
    for refusal in program.plan.refusals:
        lines.append(f"  {refusal.node} is not in {refusal.group}: {refusal.reason}")
    return "\n".join(lines) + "\n"


def _shape(group: Group) -> str:
    return f"[{', '.join(map(str, group.space.shape))}]"


def _stored(program: Program, node: Node) -> str:
    return " -> memory" if any(value in program.plan.stored for value in node.results) else ""
