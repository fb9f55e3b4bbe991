"""Elaboration: a blueprint's syntax tree, with values for its parameters, becomes a graph.

Statements are taken in order; each error is reported and the rest goes on. For a check, `dim` parameters
are size symbols; a fact such as `require features % heads == 0` then makes `features` the product
`heads * (features // heads)`, which lets sizes cancel in a reshape.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from esper.errors import EsperError
from esper.ir.build import Builder
from esper.ir.dims import Dim, Size, symbol
from esper.ir.graph import BlueprintIR, Value
from esper.ir.types import MAX_RANK, DType, TensorType
from esper.lang.ast import (
    Binding,
    Blueprint,
    Expression,
    Input,
    Let,
    Name,
    Output,
    Require,
    Spread,
    TensorTypeExpr,
    names_in,
)
from esper.lang.calls import Graph, element_type
from esper.lang.diagnostics import Report
from esper.lang.errors import (
    AlreadyBound,
    BadShape,
    DuplicateOutput,
    NoInput,
    NoOutput,
    RequirementFailed,
    SeveralSpreads,
    SizeLikeParameter,
    Undecided,
    Unused,
    WrongArgumentKind,
)
from esper.lang.evaluate import Evaluator, deep_recursion
from esper.lang.facts import find_facts
from esper.lang.names import closest
from esper.lang.parameters import ParameterValue, bind_parameters
from esper.lang.scope import Scope, What
from esper.lang.values import POISON, Poison, Unknown, describe, is_size, shown

DEFAULT_RANK = 2


@dataclass(frozen=True, slots=True)
class Settings:
    """What elaboration is given besides the source.

    values: parameters by name. ranks: for each `...S`, how many axes it stands for (else 2).
    precision: replaces f32 in the inputs' types. symbolic: leave `dim` parameters as size symbols.
    """

    values: Mapping[str, ParameterValue] = field(default_factory=dict)
    ranks: Mapping[str, int] = field(default_factory=dict)
    precision: DType | None = None
    symbolic: bool = False


@dataclass(frozen=True, slots=True)
class Elaborated:
    """The graph, if there was no error; and the input types as written, over the size symbols."""

    ir: BlueprintIR | None
    sizes: tuple[str, ...]


def elaborate(blueprint: Blueprint, settings: Settings, report: Report) -> Elaborated:
    """The graph of `blueprint`; what is wrong goes to `report`, and nothing is raised."""
    with deep_recursion():
        return _Elaborator(blueprint, settings, report).run()


class _Elaborator:
    def __init__(self, blueprint: Blueprint, settings: Settings, report: Report) -> None:
        self.blueprint = blueprint
        self.settings = settings
        self.report = report
        self.scope = Scope()
        self.symbols = {
            parameter.name.text: symbol(parameter.name.text)
            for parameter in blueprint.parameters
            if settings.symbolic
            and parameter.kind.text == "dim"
            and parameter.name.text not in settings.values
        }
        self.graph = Graph(Builder(blueprint.name.text), frozenset(self.symbols))
        self.evaluator = Evaluator(self.scope, report, self.graph)
        self.outputs: dict[str, Value] = {}
        self.output_count = 0
        self.sizes: list[str] = []

    def run(self) -> Elaborated:
        errors_before = sum(d.is_error for d in self.report.diagnostics)
        blueprint = self.blueprint
        facts = find_facts(blueprint, self.settings.values, self.symbols) if self.symbols else {}
        self.report.spelling.update({str(size): name for name, size in facts.items()})
        late: dict[str, Size] = {**self.symbols, **facts}
        bind_parameters(blueprint, self.settings.values, self.scope, self.report, late)
        if blueprint.damaged is not None:
            self.scope.damage(blueprint.damaged, blueprint.name.span)
        for statement in blueprint.body:
            if self.report.is_full:
                break
            try:
                self._statement(statement)
            except EsperError as error:
                self.report.add(error, statement.span)
        self._require_ends()
        if sum(d.is_error for d in self.report.diagnostics) > errors_before or blueprint.damaged is not None:
            self.report.spelling.clear()
            return Elaborated(None, tuple(self.sizes))
        try:
            ir = self.graph.build.finish(self.outputs, self.graph.updates)
        except EsperError as error:
            self.report.add(error, blueprint.name.span)
            return Elaborated(None, tuple(self.sizes))
        finally:
            self.report.spelling.clear()
        return Elaborated(ir, tuple(self.sizes))

    def _statement(self, statement: Require | Let | Input | Binding | Output) -> None:
        match statement:
            case Require():
                self._require(statement)
            case Let(name=name, value=expression):
                self.scope.bind(name, self.evaluator.static(expression, "a static value"), What.LET)
            case Input():
                self._input(statement)
            case Binding(name=name, value=expression):
                tensor = self.evaluator.tensor(expression, f"`{name.text}`")
                self.scope.bind(name, POISON if tensor is None else tensor, What.TENSOR)
            case Output():
                self._output(statement)

    def _require(self, statement: Require) -> None:
        value = self.evaluator.static(statement.condition, "a condition")
        match value:
            case True | Poison():
                return
            case False:
                raise RequirementFailed(
                    reason=statement.reason.value,
                    values=self._values_of(statement.condition),
                    span=statement.condition.span,
                )
            case Unknown(symbols=symbols):
                late = symbols - self.symbols.keys()
                if late:
                    sizes = ", ".join(f"`{name}`" for name in sorted(late))
                    raise Undecided(what="this condition", sizes=sizes, span=statement.condition.span)
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
        if name.text in self.graph.build:
            raise AlreadyBound(name=name.text, what="an input", span=name.span)
        type = self._tensor_type(statement.type)
        value = POISON if type is None else self.graph.build.input(name.text, type, span=statement.span)
        self.scope.bind(name, value, What.INPUT)

    def _tensor_type(self, expression: TensorTypeExpr) -> TensorType | None:
        """The type that an input declares; fresh names in it become size symbols. None after an error."""
        dtype: DType | None = None
        try:
            dtype = element_type(expression.dtype)
        except EsperError as error:
            self.report.add(error)
        shape: list[Size] = []
        is_whole = True
        has_spread = False
        for item in expression.shape.items:
            if isinstance(item, Spread):
                if has_spread:
                    self.report.add(SeveralSpreads(), item.span)
                has_spread = True
                shape.extend(self._remaining_axes(item))
            elif isinstance(item, Name) and item.text not in self.scope:
                shape.append(self._fresh_size(item))
            else:
                size = self.evaluator.static(item, "a size")
                if isinstance(size, int | Dim) and is_size(size) and not (isinstance(size, int) and size < 1):
                    shape.append(size)
                    continue
                is_whole = False
                if not isinstance(size, Poison):
                    reason = f"{describe(size)} as a size, expected an integer of at least 1"
                    self.report.add(BadShape(reason=reason, suggestion="", span=item.span))
        if len(shape) > MAX_RANK:
            reason = f"{len(shape)} axes are more than {MAX_RANK}"
            self.report.add(BadShape(reason=reason, suggestion="", span=expression.span))
            is_whole = False
        if dtype is None or not is_whole:
            return None
        if dtype is DType.F32 and self.settings.precision is not None:
            dtype = self.settings.precision
        return TensorType(dtype, tuple(shape))

    def _fresh_size(self, name: Name) -> Size:
        parameters = [p.name.text for p in self.blueprint.parameters if len(p.name.text) > 2]
        is_guessable = len(name.text) > 2 and self.blueprint.damaged is None
        similar = closest(name.text, parameters) if is_guessable else None
        if similar is not None:
            self.report.add(SizeLikeParameter(name=name.text, parameter=similar, span=name.span))
        size = symbol(name.text)
        self.sizes.append(name.text)
        self.scope.bind(name, size, What.SIZE)
        return size

    def _remaining_axes(self, spread: Spread) -> tuple[Size, ...]:
        name = spread.name
        if name.text in self.scope:
            value = self.scope.read(name)
            if isinstance(value, tuple):
                return value
            if isinstance(value, Poison):
                return ()
            reason = f"`...` before {describe(value)}, expected a fresh name for the remaining axes"
            self.report.add(BadShape(reason=reason, suggestion="", span=spread.span))
            return ()
        rank = self.settings.ranks.get(name.text, DEFAULT_RANK)
        axes = tuple(symbol(f"{name.text}.{axis}") for axis in range(rank))
        self.sizes.append(name.text)
        self.scope.bind(name, axes, What.SIZE)
        return axes

    def _output(self, statement: Output) -> None:
        self.output_count += 1
        tensor = self.evaluator.tensor(statement.value, "the output")
        if statement.name is not None:
            name, span = statement.name.text, statement.name.span
        else:
            name, span = "result", statement.span
        if name in self.outputs:
            raise DuplicateOutput(name=name, span=span)
        if tensor is not None:
            self.outputs[name] = tensor

    def _require_ends(self) -> None:
        blueprint = self.blueprint
        if blueprint.damaged is None:
            if not any(isinstance(statement, Input) for statement in blueprint.body):
                self.report.add(NoInput(name=blueprint.name.text), blueprint.name.span)
            if not self.output_count:
                self.report.add(NoOutput(name=blueprint.name.text), blueprint.name.span)
            self._report_unused()

    def _report_unused(self) -> None:
        kinds = {
            What.PARAMETER: "parameter",
            What.LET: "static value",
            What.INPUT: "input",
            What.TENSOR: "tensor",
        }
        for name, bound in self.scope:
            if bound.is_read or bound.what not in kinds or isinstance(bound.value, Poison):
                continue
            if self.report.is_full:
                return
            similar = closest(name, (other for other, _ in self.scope if other != name))
            suggestion = f"did you mean it where `{similar}` stands?" if similar else "use it or remove it"
            self.report.add(Unused(what=kinds[bound.what], name=name, suggestion=suggestion), bound.span)
