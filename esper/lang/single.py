"""One statement elaborated by itself, given the names that it reads.

What a statement adds to a graph depends on the values of the static names and on the types of the tensors
that it reads, on nothing else. A search that elaborates thousands of points of one blueprint keeps what each
statement did, and asks again only where one of these changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from esper.errors import EsperError
from esper.ir.build import Builder
from esper.ir.dims import Dim
from esper.ir.graph import Node, Value
from esper.ir.types import TensorType
from esper.lang.ast import (
    Binding,
    Call,
    Choice,
    Constraint,
    Expression,
    If,
    Input,
    Let,
    Name,
    Output,
    Parameter,
    Pipeline,
    Precision,
    Repeat,
    Require,
    Spread,
    Statement,
    expressions_in,
    names_in,
    own_names,
    parts_of,
)
from esper.lang.construction import Graph
from esper.lang.diagnostics import Report
from esper.lang.domains import Domain
from esper.lang.facts import Facts
from esper.lang.library import Loaded
from esper.lang.nesting import deep_recursion
from esper.lang.parameters import ParameterValue, domain_of, value_of
from esper.lang.scope import Bound as BoundName
from esper.lang.scope import What
from esper.lang.settings import Budget, Settings
from esper.lang.statements import Bound, Spent, Statements, Whole
from esper.lang.units import Definition
from esper.lang.values import POISON, Poison, Static

Simple = Require | Let | Input | Binding | Output | Precision | Constraint
"""Statements without blocks."""


@dataclass(frozen=True, slots=True)
class Given:
    """A name that a statement reads: a tensor by its type, else a static value."""

    what: What
    value: TensorType | Static


@dataclass(frozen=True, slots=True)
class Effect:
    """What one statement did.

    nodes: in order, without stand-ins; an operand `Value(stand_in(name))` is the tensor `name`. types: of
    the results of nodes and stand-ins, by name.
    bound: names with a value of those nodes, or a static value. sizes: symbols that an input has.
    draws: how many random draws the nodes number, from 0.
    """

    nodes: tuple[Node, ...]
    types: Mapping[str, tuple[TensorType, ...]]
    bound: tuple[tuple[str, What, Value | Static], ...]
    outputs: tuple[tuple[str, Value], ...]
    updates: tuple[tuple[str, Value], ...]
    constraints: tuple[Bound, ...]
    draws: int


GIVEN = "given."
PIPED = "|>"
"""What a step of a pipeline starts from, as a name that no source can hold."""


@dataclass(frozen=True, slots=True)
class Single:
    """Elaborates statements of one blueprint, each in a graph of its own."""

    loaded: Loaded
    settings: Settings

    def parameter(
        self, parameter: Parameter, values: Mapping[str, ParameterValue], names: Mapping[str, Given]
    ) -> Static | None:
        """The value that is bound to `parameter`, as in `bind_parameters`; None where there is an error."""
        body, report = self._body(names)
        found = value_of(parameter, values, body.evaluator, {}, None)
        return None if report.errors or isinstance(found, Poison) else found

    def domain(self, parameter: Parameter, names: Mapping[str, Given]) -> Domain | None:
        """What `parameter` may be; None where there is an error, or it may be anything."""
        body, report = self._body(names)
        found = domain_of(parameter, body.evaluator)
        return None if report.errors else found

    def value(self, expression: Expression, names: Mapping[str, Given]) -> Static | None:
        """The value of a static expression; None where there is an error."""
        body, report = self._body(names)
        with deep_recursion():
            found = body.evaluator.static(expression, "a static value")
        return None if report.errors or isinstance(found, Poison) else found

    def effect(
        self, statement: Simple, names: Mapping[str, Given], symbols: Mapping[str, Dim] | None = None
    ) -> Effect | None:
        """What `statement` does; None where there is an error.

        symbols: size symbols in `names` that stand for numbers. Then None, too, where it takes the numbers to
        tell what is done. Their operators' rules may still refuse some numbers.
        """
        if symbols and (isinstance(statement, Constraint) or self._calls_blueprint(statement)):
            return None  # its bound is a number; domains are asked of numbers
        body, report = self._body(names, symbols)
        graph, before = body.graph, dict(body.scope.names)
        try:
            with deep_recursion(), body.whole.opening(body.blueprint):
                body.take(statement)
        except (EsperError, Spent):
            return None
        if report.errors or graph.is_open:
            return None
        bound = [
            (name, found.what, found.value) for name, found in body.scope if before.get(name) is not found
        ]
        if any(value is POISON for _, _, value in bound) or POISON in body.outputs.values():
            return None
        return Effect(
            tuple(node for node in graph.build.nodes if not node.name.startswith(GIVEN)),
            {node.name: node.types for node in graph.build.nodes},
            tuple((name, what, value) for name, what, value in bound if not isinstance(value, Poison)),
            tuple((name, value) for name, value in body.outputs.items() if isinstance(value, Value)),
            tuple(graph.updates.items()),
            tuple(body.constraints),
            graph.draws,
        )

    def _calls_blueprint(self, statement: Simple) -> bool:
        return any(
            isinstance(expression, Call) and expression.function.text in self.loaded.unit.callable
            for expression in expressions_in((statement,))
        )

    def _body(
        self, names: Mapping[str, Given], symbols: Mapping[str, Dim] | None = None
    ) -> tuple[Statements, Report]:
        """The blueprint's statements as they stand where `names` are bound."""
        blueprint, unit = self.loaded.blueprint, self.loaded.unit
        report = Report(unit.source.file)
        graph = Graph(Builder(blueprint.name.text), report, unit.sources, frozenset(symbols or ()))
        settings = Settings(
            self.settings.values, self.settings.ranks, self.settings.precision, budget=Budget()
        )
        whole = Whole(settings, report, graph, symbols or {}, Facts(frozenset()))
        body = Statements(whole, Definition(blueprint, unit), settings.precision, {}, blueprint.span)
        for name, given in names.items():
            value: Value | Static
            if isinstance(given.value, TensorType):
                value = graph.build.input(stand_in(name), given.value)
            else:
                value = given.value
            body.scope.names[name] = BoundName(value, given.what, blueprint.span, is_read=True)
        return body, report


def stand_in(name: str) -> str:
    """The node that stands for the tensor called `name`."""
    return GIVEN + ("_" if name == PIPED else f"_.{name}")


def in_steps(statements: Sequence[Statement]) -> tuple[Statement, ...]:
    """`statements` with pipelines taken apart, in blocks, too."""
    found: list[Statement] = []
    for statement in statements:
        match statement:
            case Repeat(body=body):
                found.append(replace(statement, body=in_steps(body)))
            case If(body=body, otherwise=otherwise):
                found.append(replace(statement, body=in_steps(body), otherwise=in_steps(otherwise)))
            case _:
                found += steps_of(statement)
    return tuple(found)


def steps_of(statement: Statement) -> tuple[Statement, ...]:
    """`statement` with its pipeline taken apart: each step binds what the next one starts from.

    What is kept of a step then does not depend on how the steps around it are set.
    """
    if not isinstance(statement, Binding | Output) or not isinstance(statement.value, Pipeline):
        return (statement,)
    pipeline = statement.value
    piped = Name(pipeline.span, PIPED)
    steps = [Binding(pipeline.span, (piped,), pipeline.source)]
    calls = [Pipeline(step.span, piped, (step,), step.depth + 1) for step in pipeline.steps]
    steps += [Binding(call.span, (piped,), call) for call in calls[:-1]]
    return (*steps, replace(statement, value=calls[-1]))


def reads_of(statement: Simple, chosen: Mapping[str, str]) -> tuple[str, ...]:
    """The names in a statement, but for those in branches of a `choice` that `chosen` does not take."""
    match statement:
        case Let(value=value) | Binding(value=value) | Output(value=value):
            found = _read(value, chosen)
        case Require(condition=value) | Constraint(bound=value):
            found = _read(value, chosen)
        case Input(type=type):
            found = iter((type.dtype.text, *(name.text for name in names_in(type.shape))))
        case Precision():
            found = iter(())
    return tuple(dict.fromkeys(found))


def choices_in(statement: Simple) -> tuple[str, ...]:
    """The names of the parameters that `choice` expressions in a statement read."""
    if not isinstance(statement, Let | Binding | Output | Require | Constraint):
        return ()
    value = (
        statement.condition
        if isinstance(statement, Require)
        else statement.bound
        if isinstance(statement, Constraint)
        else statement.value
    )
    pending: list[Expression | Spread] = [value]
    found: dict[str, None] = {}
    while pending:
        node = pending.pop()
        if isinstance(node, Choice):
            found[node.name.text] = None
        if not isinstance(node, Spread):
            pending.extend(parts_of(node))
    return tuple(found)


def _read(expression: Expression, chosen: Mapping[str, str]) -> Iterator[str]:
    pending: list[Expression | Spread] = [expression]
    while pending:
        node = pending.pop()
        if isinstance(node, Spread):
            yield node.name.text
        elif isinstance(node, Choice):
            yield node.name.text
            taken = chosen.get(node.name.text)
            pending += [branch.value for branch in node.branches if taken in (None, branch.name.text)]
        else:
            yield from own_names(node)
            pending.extend(parts_of(node))
