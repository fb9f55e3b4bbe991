"""Rewriting: the one way in which passes make a graph from a graph.

`rewrite` rebuilds a graph in its order. A rule sees each node with its operands already replaced and
either keeps it or says which values of the graph built so far stand for its results, so no edge can dangle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from esper.ir.build import Builder
from esper.ir.errors import InvalidNode
from esper.ir.graph import BlueprintIR, Node, Value, frozen_attrs

Rule = Callable[[Builder, Node], Sequence[Value] | Node | None]


def rewrite(ir: BlueprintIR, rule: Rule) -> BlueprintIR:
    """`ir` after `rule(build, node)` for each node in order.

    The rule may append nodes to `build`, in the node's scope, and returns values for the node's results,
    another node of the same name and result types, or None to keep it. Nodes that nothing reads any more
    stay; the pass `dce` removes them. Raises `InvalidNode` for results of other types or another number.
    """
    build = Builder(ir.name, reserved=(node.name for node in ir.nodes))
    replaced: dict[Value, Value] = {}
    for node in ir.nodes:
        node = with_operands(node, replaced)
        build.scope = node
        result = rule(build, node)
        if result is None or isinstance(result, Node):
            kept = node if result is None else result
            _require_types(node, kept.name == node.name and kept.types == node.types)
            build.append(kept)
        else:
            _require_types(node, tuple(map(build.type, result)) == node.types)
            replaced.update(zip(node.results, result, strict=True))
    return ir.replace(
        nodes=build.nodes,
        outputs=replace_results(ir.outputs, replaced),
        updates=replace_results(ir.updates, replaced),
    )


def map_bodies(ir: BlueprintIR, transform: Callable[[BlueprintIR], BlueprintIR]) -> BlueprintIR:
    """`ir` with `transform(body)` for each graph that a node owns; itself if that changes none.

    A transform keeps the types of a body's inputs and outputs.
    """

    def changed(node: Node) -> Node:
        bodies = {name: transform(body) for name, body in node.bodies}
        same = all(bodies[name] is body for name, body in node.bodies)
        return node if same else node.replace(attrs=frozen_attrs({**node.attrs, **bodies}))

    nodes = tuple(map(changed, ir.nodes))
    same = all(after is before for after, before in zip(nodes, ir.nodes, strict=True))
    return ir if same else ir.replace(nodes=nodes)


def with_operands(node: Node, replaced: Mapping[Value, Value]) -> Node:
    """`node` reading `replaced[value]` for each operand that is a key; itself if none is."""
    if not any(operand in replaced for operand in node.operands):
        return node
    return node.replace(operands=tuple(None if o is None else replaced.get(o, o) for o in node.operands))


def replace_results(
    results: Iterable[tuple[str, Value]], replaced: Mapping[Value, Value]
) -> tuple[tuple[str, Value], ...]:
    """Named results after `replaced`."""
    return tuple((name, replaced.get(value, value)) for name, value in results)


def needed_by(ir: BlueprintIR, roots: Iterable[str]) -> set[str]:
    """The names of all nodes that the nodes called `roots` depend on, themselves included."""
    found = set(roots)
    for node in reversed(ir.nodes):
        if node.name in found:
            found.update(operand.node for operand in node.operands if operand is not None)
    return found


def _require_types(node: Node, hold: bool) -> None:
    if not hold:
        raise InvalidNode(
            node=node.name, reason="a rewrite changed its name or its result types", span=node.span
        )
