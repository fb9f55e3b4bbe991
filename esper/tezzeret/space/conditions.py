"""Which parameters matter at a point, and what their domains are there.

A parameter that is read only in branches of a `choice`, blocks of an `if`, or turns of a `repeat` that a
point does not take changes nothing: points that differ in it alone are one. Which static values decide that
is read off the blueprint, `let` by `let`; what cannot be told from the parameters alone counts as taken.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from esper.lang import Interval, ParameterValue
from esper.lang.ast import (
    Binding,
    Choice,
    Constraint,
    Expression,
    If,
    Input,
    Let,
    Output,
    Parameter,
    Repeat,
    Require,
    Spread,
    Statement,
    declared_in,
    names_in,
    names_of,
    own_names,
    parts_of,
    written_of,
)
from esper.lang.library import Loaded
from esper.lang.parameters import all_parameters, outward
from esper.lang.scope import What
from esper.lang.settings import Settings
from esper.lang.single import Given, Single
from esper.lang.values import Static
from esper.tezzeret.space.domains import Domain

MAX_PATHS = 64
"""To the places where one parameter is read; of more, it counts as always read."""

Wanted = bool | str
"""Of a condition or a number of repetitions, whether it holds or is above 0; of a choice, the branch."""


@dataclass(frozen=True, slots=True)
class Test:
    """`expression` has to come to `wanted`; what it comes to follows from `parameters`, which are open: `let`
    names and the defaults of other parameters are looked through."""

    expression: Expression
    wanted: Wanted
    parameters: tuple[str, ...]


Path = tuple[Test, ...]
"""All of which hold where a name is read."""


class Conditions:
    """Of one blueprint. `open_names`: the parameters of the space; `fixed`: values of others."""

    def __init__(
        self, loaded: Loaded, open_names: Sequence[str], fixed: Mapping[str, ParameterValue]
    ) -> None:
        self.single = Single(loaded, Settings())
        self.parameters = {p.name.text: p for p in all_parameters(loaded.blueprint)}
        self.fixed = dict(fixed)
        self.open_names = tuple(open_names)
        reads = _Reads(loaded, self.parameters, self._open_behind)
        self.lets = reads.lets
        self.paths: dict[str, tuple[Path, ...]] = {name: reads.paths(name) for name in open_names}
        self.domain_reads = {
            name: tuple(other for other in self._written(self.parameters[name]) if other in open_names)
            for name in open_names
        }
        for name in self._in_circles():
            self.paths[name] = ((),)
        self._known: dict[object, object] = {}

    def deciders(self, name: str) -> tuple[str, ...]:
        """The open parameters that say whether `name` matters, or what its domain is."""
        found = dict.fromkeys(self.domain_reads[name])
        if () not in self.paths[name]:
            found |= dict.fromkeys(
                parameter for path in self.paths[name] for test in path for parameter in test.parameters
            )
        return tuple(found)

    def matters(self, name: str, values: Mapping[str, ParameterValue]) -> bool:
        """Whether any place that the point takes reads `name`."""
        return any(all(self._holds(test, values) for test in path) for path in self.paths[name])

    def domain(self, name: str, values: Mapping[str, ParameterValue]) -> Domain | None:
        """Where it depends on the parameters before it; None where these leave it no value."""
        key = "domain", name, *[_exactly(values[other]) for other in self.domain_reads[name]]
        if key not in self._known:
            domain = self.single.domain(self.parameters[name], self._givens(values, before=name))
            self._known[key] = (
                domain
                if domain is None or isinstance(domain, Interval)
                else tuple(value for value in map(outward, domain) if value is not None)
            )
        found = self._known[key]
        assert found is None or isinstance(found, Interval | tuple)
        return found

    def default(self, name: str, values: Mapping[str, ParameterValue]) -> ParameterValue | None:
        """What `name` is where nobody sets it."""
        key = "default", name, *[_exactly(values[other]) for other in self.domain_reads[name]]
        if key not in self._known:
            found = self.single.parameter(self.parameters[name], {}, self._givens(values, before=name))
            self._known[key] = None if found is None else outward(found)
        value = self._known[key]
        assert value is None or isinstance(value, ParameterValue)
        return value

    def _written(self, parameter: Parameter) -> list[str]:
        direct = names_of(parameter)
        found: dict[str, None] = {}
        # In their order, not a set's: equal seeds are to draw equal points. Those further down are not bound.
        for name in itertools.takewhile(parameter.name.text.__ne__, self.parameters):
            if name in direct:
                found[name] = None
                if name not in self.open_names and name not in self.fixed:
                    found |= dict.fromkeys(self._written(self.parameters[name]))
        return list(found)

    def _open_behind(self, name: str) -> list[str]:
        """The open parameters that `name` follows from: itself, or those that its default reads."""
        if name in self.open_names:
            return [name]
        written = [] if name in self.fixed else self._written(self.parameters[name])
        return [other for other in written if other in self.open_names]

    def _in_circles(self) -> list[str]:
        """Parameters that have a part in deciding over themselves."""
        below = {name: set(self.deciders(name)) for name in self.open_names}
        for name in self.open_names:  # Warshall's closure
            for other in self.open_names:
                if name in below[other]:
                    below[other] |= below[name]
        return [name for name in self.open_names if name in below[name]]

    def _holds(self, test: Test, values: Mapping[str, ParameterValue]) -> bool:
        key = id(test), *[_exactly(values[name]) for name in test.parameters if name in values]
        if key not in self._known:
            self._known[key] = self._evaluated(test, values)
        return bool(self._known[key])

    def _evaluated(self, test: Test, values: Mapping[str, ParameterValue]) -> bool:
        names = self._givens(values)
        self._bind_lets(test.expression, names)
        found = self.single.value(test.expression, names)
        if isinstance(test.wanted, str):
            return not isinstance(found, str) or found == test.wanted
        if isinstance(found, bool):
            return found is test.wanted
        return not isinstance(found, int) or found > 0  # a number of repetitions

    def _bind_lets(self, expression: Expression, names: dict[str, Given]) -> None:
        """Adds the `let` names that `expression` reads, and those that they read."""
        for name in names_in(expression):
            if name.text in self.lets and name.text not in names:
                self._bind_lets(self.lets[name.text], names)
                found = self.single.value(self.lets[name.text], names)
                if found is not None:
                    names[name.text] = Given(What.LET, found)

    def _givens(self, values: Mapping[str, ParameterValue], before: str | None = None) -> dict[str, Given]:
        """All parameters, or those before one, each as the point sets it, else fixed, else by default."""
        names: dict[str, Given] = {}
        given = {**self.fixed, **values}
        for name, parameter in self.parameters.items():
            if name == before:
                break
            own = {name: given[name]} if name in given else {}
            found = self.single.parameter(parameter, own, names)
            if found is not None:
                names[name] = Given(What.PARAMETER, found)
        return names


class _Reads:
    """Where a blueprint reads what. lets: the expressions of `let` names that are bound once."""

    def __init__(
        self,
        loaded: Loaded,
        parameters: Mapping[str, Parameter],
        open_behind: Callable[[str], Iterable[str]],
    ) -> None:
        blueprint = loaded.blueprint
        self.parameters = parameters
        self._open_behind = open_behind
        self.lets: dict[str, Expression] = {}
        self._bound = {name.text for name in declared_in(blueprint)}
        self._places: dict[str, list[Path]] = {}
        self._inside: dict[str, list[tuple[str, Path]]] = {}
        for parameter in parameters.values():
            for expression in written_of(parameter):
                self._expression(expression, ())
        repeated: set[str] = set()
        _collect_lets(blueprint.body, self.lets, repeated)
        for name in repeated:
            del self.lets[name]
        self._statements(blueprint.body, ())

    def paths(self, parameter: str) -> tuple[Path, ...]:
        """To all places that read `parameter`, be it through `let` names; those that say no more left out."""
        found = self._resolved(parameter, frozenset())
        if len(found) > MAX_PATHS:
            return ((),)
        kept: list[Path] = []
        for path in sorted(found, key=len):
            if not any(set(other) <= set(path) for other in kept):
                kept.append(path)
        return tuple(kept)

    def _resolved(self, name: str, seen: frozenset[str]) -> list[Path]:
        found = list(self._places.get(name, ()))
        for let, path in self._inside.get(name, ()):
            if let not in seen:
                found += [path + below for below in self._resolved(let, seen | {name})]
            if len(found) > MAX_PATHS:
                break
        return found

    def _statements(self, statements: Iterable[Statement], path: Path) -> None:
        for statement in statements:
            match statement:
                case Let(name=name, value=value):
                    self._expression(value, path, name.text)
                case Repeat(count=count, body=body):
                    self._expression(count, path)
                    self._statements(body, self._with(path, count, True))
                case If(condition=condition, body=body, otherwise=otherwise):
                    self._expression(condition, path)
                    self._statements(body, self._with(path, condition, True))
                    self._statements(otherwise, self._with(path, condition, False))
                case Input(type=type):
                    self._places.setdefault(type.dtype.text, []).append(path)
                    self._expression(type.shape, path)
                case Require(condition=value) | Constraint(bound=value):
                    self._expression(value, path)
                case Binding(value=value) | Output(value=value):
                    self._expression(value, path)
                case _:
                    pass

    def _expression(self, expression: Expression, path: Path, let: str | None = None) -> None:
        pending: list[tuple[Expression | Spread, Path]] = [(expression, path)]
        while pending:
            node, where = pending.pop()
            if isinstance(node, Spread):
                self._read(node.name.text, where, let)
            elif isinstance(node, Choice):
                self._read(node.name.text, where, let)
                pending += [
                    (branch.value, self._with(where, node.name, branch.name.text)) for branch in node.branches
                ]
            else:
                for name in own_names(node):
                    self._read(name, where, let)
                pending += [(part, where) for part in parts_of(node)]

    def _read(self, name: str, path: Path, let: str | None) -> None:
        if let is None:
            self._places.setdefault(name, []).append(path)
        else:
            self._inside.setdefault(name, []).append((let, path))

    def _with(self, path: Path, expression: Expression, wanted: Wanted) -> Path:
        """`path` and a further test, unless parameters alone do not decide it."""
        parameters: dict[str, None] = {}
        pending = [name.text for name in names_in(expression)]
        seen = set(pending)
        while pending:
            name = pending.pop()
            if name in self.parameters:
                parameters |= dict.fromkeys(self._open_behind(name))
            elif name in self.lets:
                read = dict.fromkeys(inner.text for inner in names_in(self.lets[name]))
                pending += [inner for inner in read if inner not in seen]
                seen.update(read)
            elif name in self._bound:
                return path
        test = Test(expression, wanted, tuple(parameters))
        return path if test in path else (*path, test)


def _collect_lets(statements: Iterable[Statement], found: dict[str, Expression], repeated: set[str]) -> None:
    for statement in statements:
        match statement:
            case Let(name=name, value=value):
                if name.text in found:
                    repeated.add(name.text)
                found[name.text] = value
            case Repeat(body=body):
                _collect_lets(body, found, repeated)
            case If(body=body, otherwise=otherwise):
                _collect_lets((*body, *otherwise), found, repeated)
            case _:
                pass


def _exactly(value: ParameterValue | Static) -> tuple[type, object]:
    """Tells 1 from True and from 1.0."""
    return type(value), value
