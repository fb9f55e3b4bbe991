"""Other ways to write the same graph, and graphs that differ from it in one respect."""

from __future__ import annotations

import random
from collections.abc import Mapping
from itertools import pairwise

from esper.ir.dims import Dim, Size, substitute, symbol
from esper.ir.graph import BlueprintIR, Value, frozen_attrs
from esper.ir.operator import AttrValue
from esper.ir.rewrite import map_bodies, replace_results, with_operands


def renamed(ir: BlueprintIR, prefix: str = "q.") -> BlueprintIR:
    """`ir` with a prefix before the name of each node and output, and symbols in another alphabetic order."""
    found = sorted({name for node in ir.nodes for type in node.types for name in type.symbols})
    return _renamed(
        ir, prefix, {name: symbol(f"{prefix}{len(found) - index}") for index, name in enumerate(found)}
    )


def _renamed(ir: BlueprintIR, prefix: str, symbols: Mapping[str, Size]) -> BlueprintIR:
    replaced = {value: Value(prefix + value.node, value.index) for node in ir.nodes for value in node.results}

    def attribute(value: AttrValue) -> AttrValue:
        if isinstance(value, tuple):
            return tuple(substitute(item, symbols) if isinstance(item, Dim) else item for item in value)
        if isinstance(value, BlueprintIR):
            return _renamed(value, prefix, symbols)
        return substitute(value, symbols) if isinstance(value, Dim) else value

    def attributes(attrs: Mapping[str, AttrValue]) -> Mapping[str, AttrValue]:
        return frozen_attrs({name: attribute(value) for name, value in attrs.items()})

    return BlueprintIR(
        f"{prefix}{ir.name}",
        tuple(
            with_operands(node, replaced).replace(
                name=prefix + node.name,
                attrs=attributes(node.attrs),
                types=tuple(type.substitute(symbols) for type in node.types),
            )
            for node in ir.nodes
        ),
        tuple((prefix + name, value) for name, value in replace_results(ir.outputs, replaced)),
        tuple((prefix + name, value) for name, value in replace_results(ir.updates, replaced)),
    )


def reordered(ir: BlueprintIR, seed: int) -> BlueprintIR:
    """`ir` and its bodies with nodes in another topological order, drawn by `seed`; inputs keep theirs."""
    ir = map_bodies(ir, lambda body: reordered(body, seed))
    generator = random.Random(seed)
    waiting = {
        node.name: {operand.node for operand in node.operands if operand is not None} for node in ir.nodes
    }
    inputs = [node.name for node in ir.inputs]
    for before, after in pairwise(inputs):
        waiting[after].add(before)
    order: list[str] = []
    while waiting:
        ready = [name for name, operands in waiting.items() if not operands]
        chosen = generator.choice(ready)
        order.append(chosen)
        del waiting[chosen]
        for operands in waiting.values():
            operands.discard(chosen)
    return ir.replace(nodes=map(ir.node, order))
