"""A program for people: its kernels as one module, imports once and functions in order; its plan as text."""

from __future__ import annotations

from collections.abc import Iterable

from esper.ir.graph import Node
from esper.urza.grid import to_text
from esper.urza.groups import Group
from esper.urza.kernel import KernelSource
from esper.urza.program import Program

_GAP = "\n\n\n"


def listing(kernels: Iterable[KernelSource], blueprint: str) -> str:
    """The text of all `kernels`, in order, each under a comment that says how it is launched."""
    imports: set[str] = set()
    parts = []
    for kernel in kernels:
        head, _, body = kernel.source.partition(_GAP)
        imports.update(line for line in head.splitlines() if line)
        parts.append(f"{_comment(kernel)}\n{body.strip()}")
    return (
        f'"""The kernels of `{blueprint}`, as generated."""\n\n'
        + _GAP.join(["\n".join(_ordered(imports)), *parts, ""]).rstrip("\n")
        + "\n"
    )


def _ordered(imports: set[str]) -> list[str]:
    plain = sorted(line for line in imports if line.startswith("import "))
    return [*plain, "", *sorted(imports - set(plain))]


def _comment(kernel: KernelSource) -> str:
    constants = ", ".join(f"{name} = {value}" for name, value in kernel.constexprs.items())
    grid = ", ".join(map(to_text, kernel.grid))
    return f"# {kernel.direction}: grid ({grid}), {constants}, {kernel.num_warps} warps"


def plan_text(program: Program) -> str:
    """The groups of one direction: what each computes and stores; then what was refused, and why."""
    lines = [f"{program.direction} {program.ir.name}"]
    for group in program.plan.groups:
        lines.append(f"  {group.name} over {' and '.join(map(_shape, group.members or [group]))}")
        nodes = [node for part in group.parts for node in (*part.nodes, *part.sums)]
        lines += [f"    {node.name}: {node.op}{_stored(program, node)}" for node in nodes]
    for refusal in program.plan.refusals:
        lines.append(f"  {refusal.node} is not in {refusal.group}: {refusal.reason}")
    return "\n".join(lines) + "\n"


def _shape(group: Group) -> str:
    return f"[{', '.join(map(str, group.space.shape))}]"


def _stored(program: Program, node: Node) -> str:
    return " -> memory" if any(value in program.plan.stored for value in node.results) else ""
