"""What a check makes of blocks whose condition or count it lacks: what holds after them either way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from esper.ir.dims import size_symbols, symbol
from esper.ir.graph import Value
from esper.lang.ast import Name
from esper.lang.construction import Graph
from esper.lang.scope import Bound, Scope, What
from esper.lang.values import POISON, AnyValue, Poison

Outputs = dict[str, Value | Poison]


def take_either(scope: Scope, graph: Graph, outputs: Outputs, branches: Sequence[Callable[[], None]]) -> None:
    """Takes each branch from what stands before all; a name is known after them if all leave it alike."""
    before, outputs_before = _tensors(scope), dict(outputs)
    bounds: dict[str, Bound] = {}
    ends: list[Mapping[str, AnyValue]] = []
    results: list[Outputs] = []
    for take in branches:
        with graph.doubting(), scope.block():
            take()
        ends.append(_tensors(scope))
        results.append(dict(outputs))
        for name in ends[-1]:
            if name in before:
                scope.names[name].value = before[name]
            else:
                bound = scope.names.pop(name)
                bound.is_read |= name in bounds and bounds[name].is_read
                bounds[name] = bound
        outputs.clear()
        outputs.update(outputs_before)
    scope.names.update(bounds)
    for name, value in _merged(graph, ends).items():
        scope.names[name].value = value
    for name, value in _merged(graph, results).items():
        assert isinstance(value, Value | Poison)
        outputs[name] = value


def take_turn(
    scope: Scope, graph: Graph, index: Name | None, is_certain: bool, take: Callable[[], None]
) -> None:
    """Takes one turn, for any index, of a repeated body.

    What it binds is known after it if the turn leaves every type as it was: then so does each further one.
    is_certain: whether there is a turn at all.
    """
    place = symbol(f"{index.text}'") if index is not None else None
    fresh = frozenset[str]() if place is None else size_symbols(place)
    graph.later |= fresh
    before = _tensors(scope)
    with graph.doubting(fresh if is_certain else None), scope.block():
        if index is not None and place is not None:
            scope.bind(index, place - 1, What.INDEX)
        take()
    after = _tensors(scope)
    is_steady = all(_are_alike(graph, after[name], value) for name, value in before.items())
    for name, value in after.items():
        is_known = isinstance(value, Value) and not graph.build.type(value).symbols & fresh
        if value is not before.get(name) and not (is_steady and is_known):
            scope.names[name].value = POISON


def _tensors(scope: Scope) -> dict[str, AnyValue]:
    """The values of the names that a block may bind anew."""
    return {name: bound.value for name, bound in scope if bound.what.may_be_rebound}


def _merged(graph: Graph, ends: Sequence[Mapping[str, AnyValue]]) -> dict[str, AnyValue]:
    """For each name the value of the last end that has it, poison where another has a different one."""
    merged: dict[str, AnyValue] = {}
    for end in ends:
        for name, value in end.items():
            is_one = name not in merged or _are_alike(graph, merged[name], value)
            merged[name] = value if is_one else POISON
    return merged


def _are_alike(graph: Graph, one: AnyValue, other: AnyValue) -> bool:
    """Whether two values of a name serve alike in what follows: the same, or tensors of one type."""
    if isinstance(one, Value) and isinstance(other, Value):
        return graph.build.type(one) == graph.build.type(other)
    return one is other
