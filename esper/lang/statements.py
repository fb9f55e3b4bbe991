"""A blueprint's statements, taken in order; each error is reported and the rest goes on.

A call of a blueprint is taken into the caller's graph, with a scope of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from esper.errors import EsperError, Span
from esper.ir.dims import Dim
from esper.ir.graph import Value
from esper.ir.types import DType
from esper.lang.ast import (
    Binding,
    Blueprint,
    Call,
    Constraint,
    Expression,
    If,
    Input,
    Let,
    Output,
    Precision,
    Repeat,
    Require,
    Statement,
    bound_in,
    declared_in,
    expressions_in,
    names_in,
)
from esper.lang.blueprint_calls import CallArguments
from esper.lang.calls import Arguments, Piped
from esper.lang.constraint_bounds import require_bound
from esper.lang.construction import Graph
from esper.lang.diagnostics import Note, Report
from esper.lang.elsewhere import VERY_CLOSE, known_operator
from esper.lang.errors import (
    AlreadyBound,
    ArgumentShape,
    BadComparison,
    BadCount,
    CallsTooDeep,
    DuplicateOutput,
    InputInBlock,
    NoInput,
    NoOutput,
    RecursiveBlueprint,
    RequirementFailed,
    SeveralPrecisions,
    TooManyStatements,
    UnknownPrecision,
    UnknownQuantity,
    Unused,
    WrongArgumentKind,
)
from esper.lang.evaluate import Evaluator, language_operators
from esper.lang.facts import Facts, learn_facts
from esper.lang.inequality import bounds
from esper.lang.inputs import InputTypes, sizes_from
from esper.lang.names import closest, did_you_mean
from esper.lang.open_blocks import take_either, take_turn
from esper.lang.parameters import ParameterValue, bind_parameters
from esper.lang.scope import Scope, What
from esper.lang.settings import PRECISIONS, Settings
from esper.lang.units import ANY_NAME, Definition
from esper.lang.values import POISON, AnyValue, Poison, Static, Unknown, describe, is_size, shown

MAX_REPEATS = 10_000
MAX_STATEMENTS = 200_000  # elaborated in all, so that nested repeats and calls end in bounded time
MAX_CALLS = 64  # nested in one another
LIKELY = 0.7
"""How much alike are a name that is never used and the one that stands in its place."""
SHORTEST_MISSPELT = 3
QUANTITIES = ("params", "flops", "bytes", "memory", "latency_ms", "memory_mb")


@dataclass(frozen=True, slots=True)
class Bound:
    """A `constraint`: a quantity, one of `QUANTITIES`, compared with a number, on a target or on any."""

    quantity: str
    comparison: str
    limit: float
    target: str | None


class Spent(Exception):
    """The budget is: nothing more is elaborated, of whatever the statement is a part."""


@dataclass(slots=True)
class Whole:
    """One run: what the blueprint and all that it calls share.

    symbols: the `dim` parameters that a check leaves open. opened: the blueprints being elaborated, from the
    outermost. facts: what is known of those symbols; what called blueprints require of them is added.
    """

    settings: Settings
    report: Report
    graph: Graph
    symbols: Mapping[str, Dim]
    facts: Facts
    opened: list[Blueprint] = field(default_factory=list)

    @contextmanager
    def opening(self, blueprint: Blueprint) -> Iterator[None]:
        """Inside, `blueprint` is being elaborated."""
        self.opened.append(blueprint)
        try:
            yield
        finally:
            self.opened.pop()

    def count_statement(self, span: Span) -> None:
        """Raises `Spent` after too many, which was told once."""
        budget = self.settings.budget
        budget.statements += 1
        if budget.statements > MAX_STATEMENTS:
            if not any(report is self.report for report in budget.told_to):
                self.report.add(TooManyStatements(limit=MAX_STATEMENTS), span)
                budget.told_to.append(self.report)
            raise Spent


class Statements:
    """One blueprint's: the whole's own, or those of one that the call at `place` adds on `tensors`."""

    def __init__(
        self,
        whole: Whole,
        definition: Definition,
        precision: DType | None,
        tensors: Mapping[str, Value],
        place: Span,
    ) -> None:
        self.whole = whole
        self.blueprint = definition.blueprint
        self.callable, self.unread = definition.unit.callable, definition.unit.unread
        self.report, self.graph = whole.report, whole.graph
        self.tensors = tensors
        self.place = place
        self.scope = Scope(declared={n.text: n.span for n in [*declared_in(self.blueprint)][::-1]})
        self.evaluator = Evaluator(
            self.scope, self.report, self.graph, blueprints=self, checks_all=whole.settings.symbolic
        )
        self.precision = self._precision(precision)
        if self.precision is not None:
            self.graph.dtype = self.precision
        self.types = InputTypes(
            self.blueprint,
            self.scope,
            self.evaluator,
            self.report,
            whole.settings.ranks,
            self.precision,
        )
        self.outermost = {id(statement) for statement in self.blueprint.body}
        self.outputs: dict[str, Value | Poison] = {}
        self.constraints: list[Bound] = []
        self.output_count = 0
        self.output_places: dict[str, Span] = {}
        self.is_refused = False

    @property
    def names(self) -> Collection[str]:
        """The blueprints that can be called here."""
        return self.callable.keys()

    def declaration(self, name: str) -> Span | None:
        """Where the blueprint is declared that `name` calls, if one is called so."""
        return self.callable[name].blueprint.name.span if name in self.callable else None

    def run(
        self,
        values: Mapping[str, ParameterValue],
        bound: Mapping[str, Static],
        places: Mapping[str, Span] | None = None,
    ) -> None:
        """Values as in `bind_parameters`. Raises `Spent`."""
        blueprint = self.blueprint
        with self.whole.opening(blueprint):
            bind_parameters(blueprint, values, self.scope, self.report, bound, places)
            self.scope.mark_read(parameter.name for parameter in blueprint.choices)
            if blueprint.damaged is not None:
                self.scope.damage(blueprint.damaged, blueprint.name.span)
            self._statements(blueprint.body)
            if not self.is_refused:
                self._require_ends()

    def _precision(self, asked: DType | None) -> DType | None:
        stated = [statement for statement in self.blueprint.body if isinstance(statement, Precision)]
        if not stated:
            return asked
        name = stated[0].dtype
        if name.text not in PRECISIONS:
            self.report.add(UnknownPrecision(name=name.text), name.span)
            return asked
        return PRECISIONS[name.text] if asked is None else asked

    def _statements(self, statements: Iterable[Statement]) -> None:
        for statement in statements:
            if self.report.is_full or self.is_refused:
                return
            self.whole.count_statement(statement.span)
            try:
                self.take(statement)
            except EsperError as error:
                self.report.add(error, statement.span)

    def take(self, statement: Statement) -> None:
        """Adds what one statement says. Raises `EsperError` and `Spent`."""
        match statement:
            case Require():
                self._require(statement)
            case Let(name=name, value=expression):
                self.scope.bind(name, self.evaluator.static(expression, "a static value"), What.LET)
            case Input():
                if id(statement) not in self.outermost:
                    self.report.add(InputInBlock(name=statement.name.text), statement.span)
                    self.scope.bind(statement.name, POISON, What.INPUT)
                else:
                    self._input(statement)
            case Binding():
                self._bind(statement)
            case Output():
                self._output(statement)
            case Repeat():
                self._repeat(statement)
            case If():
                self._if(statement)
            case Precision():
                if statement is not self.blueprint.body[0]:
                    raise SeveralPrecisions()
            case Constraint():
                self._constraint(statement)

    def _bind(self, statement: Binding) -> None:
        if len(statement.names) == 1:
            tensor = self.evaluator.tensor(statement.value, f"`{statement.names[0].text}`")
            found: tuple[AnyValue, ...] = (POISON if tensor is None else tensor,)
        else:
            found = self.evaluator.results(statement.value, len(statement.names))
        for name, value in zip(statement.names, found, strict=True):
            self.scope.bind(name, value, What.TENSOR)

    def _repeat(self, statement: Repeat) -> None:
        count = self.evaluator.static(statement.count, "a number of repetitions")
        if isinstance(count, Dim | Unknown):
            self.graph.leave_open(count, "the number of repetitions", statement.count.span)
            is_certain = isinstance(count, Dim) and bounds(count)[0] >= 1
            take_turn(
                self.scope, self.graph, statement.index, is_certain, partial(self._statements, statement.body)
            )
            return
        if isinstance(count, Poison):
            count = 0
        if not is_size(count) or not isinstance(count, int) or not 0 <= count <= MAX_REPEATS:
            raise BadCount(found=describe(count), limit=MAX_REPEATS, span=statement.count.span)
        errors = self.report.errors
        for index in range(count):
            if self.report.errors > errors:
                break  # the next turn would find the same
            self.whole.count_statement(statement.span)  # of a body without statements, too
            with self.scope.block():
                if statement.index is not None:
                    self.scope.bind(statement.index, index, What.INDEX)
                self._statements(statement.body)
        if not count:
            self._pass_over(statement.body)

    def _if(self, statement: If) -> None:
        condition = self.evaluator.static(statement.condition, "a condition")
        match condition:
            case bool():
                taken, left = statement.body, statement.otherwise
                if not condition:
                    taken, left = left, taken
                with self.scope.block():
                    self._statements(taken)
                self._pass_over(left)
            case Unknown():  # a check: either may be taken once the sizes have numbers
                self.graph.leave_open(condition, "this condition", statement.condition.span)
                blocks = (statement.otherwise, statement.body)
                branches = [partial(self._statements, block) for block in blocks]
                take_either(self.scope, self.graph, self.outputs, branches)
            case Poison():
                self._pass_over((*statement.body, *statement.otherwise))
                self._damage(statement)
            case _:
                self._damage(statement)
                raise WrongArgumentKind(
                    operator="if",
                    name="condition",
                    found=describe(condition),
                    expected="true or false",
                    span=statement.condition.span,
                )

    def _damage(self, statement: If) -> None:
        """Poisons what the blocks of an `if` bind whose condition has an error."""
        bound = bound_in((*statement.body, *statement.otherwise))
        self.scope.damage(frozenset(name.text for name in bound), statement.span)

    def _pass_over(self, statements: Iterable[Statement]) -> None:
        """Counts what a body that is not elaborated reads as read."""
        for expression in expressions_in(statements):
            self.scope.mark_read(names_in(expression))

    def _constraint(self, statement: Constraint) -> None:
        quantity = statement.quantity
        if quantity.text not in QUANTITIES:
            suggestion = did_you_mean(quantity.text, QUANTITIES, f"it bounds {', '.join(QUANTITIES)}")
            raise UnknownQuantity(name=quantity.text, suggestion=suggestion, span=quantity.span)
        if statement.comparison in ("==", "!="):
            raise BadComparison(comparison=statement.comparison)
        limit = self.evaluator.static(statement.bound, "a number")
        if isinstance(limit, Poison | Unknown | Dim):
            return
        if isinstance(limit, bool) or not isinstance(limit, int | float):
            raise WrongArgumentKind(
                operator="constraint",
                name="bound",
                found=describe(limit),
                expected="a number",
                span=statement.bound.span,
            )
        target = None if statement.target is None else statement.target.value
        if self.whole.settings.symbolic:
            require_bound(quantity.text, statement.comparison, float(limit), target)
        self.constraints.append(Bound(quantity.text, statement.comparison, float(limit), target))

    def call(
        self, call: Call, piped: Piped | None, evaluator: Evaluator
    ) -> tuple[AnyValue, ...] | Poison | None:
        """The outputs of the blueprint that `call` names, its nodes added; None if it names none."""
        definition = self.callable.get(call.function.text)
        if definition is None:
            if not self.unread:
                return None
            name = call.function.text
            known = [*language_operators(), *self.names]
            if name in known or not self._was_to_be_imported(name, known):
                return None
            Arguments(None, call, piped, evaluator).bind()  # the import that failed was told
            return POISON
        blueprint = definition.blueprint
        arguments = CallArguments(blueprint, call, evaluator)
        arguments.bind(piped)
        if not arguments.are_complete:
            return POISON
        opened = self.whole.opened
        if blueprint in opened:
            chain = " -> ".join(b.name.text for b in [*opened[opened.index(blueprint) :], blueprint])
            raise RecursiveBlueprint(name=blueprint.name.text, chain=chain, span=call.function.span)
        if len(opened) > MAX_CALLS:
            raise CallsTooDeep(limit=MAX_CALLS, span=call.function.span)
        types = {name: self.graph.build.type(tensor) for name, tensor in arguments.tensors.items()}
        bound: dict[str, Static] = {**sizes_from(blueprint, types), **arguments.parameters}
        if self.whole.symbols:
            if not self.graph.may_be_left_out:
                learn_facts(self.whole.facts, blueprint, {}, bound)
            # The domains of its parameters are not asked of these.
            self.graph.is_open |= any(
                isinstance(value, Dim | Unknown) for value in arguments.parameters.values()
            )
        errors_before = self.report.errors
        with self.graph.instance(blueprint.name.text), self.report.within(Note("called here", call.span)):
            body = Statements(
                self.whole, definition, self.precision or DType.F32, arguments.tensors, call.span
            )
            body.run({}, bound, arguments.places)
        if self.report.errors > errors_before or not body.outputs:
            return POISON
        return tuple(body.outputs.values())

    def _was_to_be_imported(self, name: str, known: Collection[str]) -> bool:
        """Whether one of the imports that failed would have brought `name`, as far as that can be told."""
        if ANY_NAME in self.unread and closest(name, known, VERY_CLOSE) is None:
            return not known_operator(name, known)
        return closest(name, [*known, *self.unread]) in self.unread - {ANY_NAME}

    def _require(self, statement: Require) -> None:
        value = self.evaluator.static(statement.condition, "a condition")
        match value:
            case True | Poison():
                return
            case False if self.graph.may_be_left_out:
                return
            case False:
                span = statement.condition.span
                is_called = len(self.whole.opened) > 1  # the call is at fault, then, and the rest follows
                self.is_refused = is_called
                raise RequirementFailed(
                    reason=statement.reason.value,
                    values=self._values_of(statement.condition),
                    span=self.place if is_called else span,
                    notes=(Note("required here", span),) if is_called else (),
                )
            case Unknown():
                self.graph.leave_open(value, "this condition", statement.condition.span)
            case _:
                raise WrongArgumentKind(
                    operator="require",
                    name="condition",
                    found=describe(value),
                    expected="true or false",
                    span=statement.condition.span,
                )

    def _values_of(self, condition: Expression) -> str:
        """The values of the names that `condition` reads: `features = 42, heads = 4`."""
        names = dict.fromkeys(name.text for name in names_in(condition))
        bound = {name: bound.value for name, bound in self.scope if name in names}
        shown_values = [
            f"{name} = {shown(v)}" for name, v in bound.items() if not isinstance(v, Value | Poison)
        ]
        return ", ".join(shown_values) or "only constants"

    def _input(self, statement: Input) -> None:
        name = statement.name
        given = self.tensors.get(name.text)
        if given is not None:
            bound: Value | Poison = given
            try:
                expected = self.types.given(statement, self.graph.build.type(given), self.place)
                bound = self.graph.ensured(given, expected, self.place)
            except ArgumentShape as error:
                self.report.add(error, self.place, [Note("declared here", statement.span)])
                bound = POISON
            self.scope.bind(name, bound, What.INPUT)
            return
        if name.text in self.graph.build:
            raise AlreadyBound(name=name.text, what="an input", span=name.span)
        type = self.types.declared(statement.type)
        value = POISON if type is None else self.graph.build.input(name.text, type, span=statement.span)
        self.scope.bind(name, value, What.INPUT)

    def _output(self, statement: Output) -> None:
        self.output_count += 1
        tensor = self.evaluator.tensor(statement.value, "the output")
        if statement.name is not None:
            name, span = statement.name.text, statement.name.span
        else:
            name, span = "result", statement.span
        if name in self.outputs:
            notes = (Note("first here", self.output_places[name]),)
            raise DuplicateOutput(name=name, span=span, notes=notes)
        self.output_places[name] = span
        self.outputs[name] = POISON if tensor is None else tensor

    def _require_ends(self) -> None:
        blueprint = self.blueprint
        if blueprint.damaged is None:
            if not any(isinstance(statement, Input) for statement in blueprint.body):
                self.report.add(NoInput(name=blueprint.name.text), blueprint.name.span)
            if not self.output_count:
                self.report.add(NoOutput(name=blueprint.name.text), blueprint.name.span)
            if len(self.whole.opened) == 1:
                self._report_unused()

    def _report_unused(self) -> None:
        kinds = {
            What.PARAMETER: "parameter",
            What.LET: "static value",
            What.INPUT: "input",
            What.INDEX: "index",
            What.TENSOR: "tensor",
        }
        for name, bound in (*self.scope, *self.scope.ended):
            is_ignored = name.startswith("_")
            if bound.is_read or is_ignored or bound.what not in kinds or isinstance(bound.value, Poison):
                continue
            if self.report.is_full:
                return
            used = [other for other, found in self.scope if other != name and found.is_read]
            similar = closest(name, used, LIKELY) if len(name) >= SHORTEST_MISSPELT else None
            suggestion = f"did you mean it where `{similar}` stands?" if similar else "use it or remove it"
            self.report.add(Unused(what=kinds[bound.what], name=name, suggestion=suggestion), bound.span)
