"""Elaboration: a blueprint's syntax tree, with values for its parameters, becomes a graph.

For a check, `dim` parameters are size symbols; a fact such as `require features % heads == 0` then makes
`features` the product `heads * (features // heads)`, which lets sizes cancel in a reshape. What the
blueprints that it calls require is learned by a trial. What is left open is then checked with the defaults.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from esper.errors import EsperError
from esper.ir.build import Builder
from esper.ir.dims import Dim, symbol
from esper.ir.graph import BlueprintIR, Value
from esper.lang.ast import Blueprint, Call, expressions_in
from esper.lang.construction import Graph
from esper.lang.diagnostics import Note, Report, in_spelling
from esper.lang.facts import Facts, learn_facts
from esper.lang.nesting import deep_recursion
from esper.lang.scope import Place, place_of
from esper.lang.settings import Budget, Settings
from esper.lang.statements import Bound, Spent, Statements, Whole
from esper.lang.units import Definition, Unit
from esper.lang.values import AnyValue, Poison, Unknown, describe, shown

MAX_ROUNDS = 8
"""Of trials: what is learned of one called blueprint may teach more of the next."""


@dataclass(frozen=True, slots=True)
class Found:
    """What each name and call of one blueprint came to, also where there were errors."""

    values: Mapping[Place, tuple[AnyValue, ...]]
    build: Builder
    spelling: Mapping[str, str]

    def texts(self) -> dict[Place, tuple[str, ...]]:
        """Types such as `f32[N, width]`, and static values, in the user's names; nothing after an error."""
        return {place: tuple(map(self._text, values)) for place, values in self.values.items()}

    def _text(self, value: AnyValue) -> str:
        match value:
            case Value():
                return in_spelling(str(self.build.type(value)), self.spelling)
            case Poison():
                return ""
            case Unknown():
                return describe(value)
            case _:
                return in_spelling(shown(value), self.spelling)


@dataclass(frozen=True, slots=True)
class Elaborated:
    """The graph, if there was no error; the size symbols of the input types; what must hold in a search.

    is_open: whether a check left something to the numbers of `dim` parameters.
    """

    ir: BlueprintIR | None
    sizes: tuple[str, ...]
    constraints: tuple[Bound, ...]
    found: Found
    is_open: bool = False


def elaborate(unit: Unit, blueprint: Blueprint, settings: Settings, report: Report) -> Elaborated:
    """The graph of `blueprint`, which stands in `unit`; errors go to `report`, and nothing is raised."""
    definition = Definition(blueprint, unit)
    symbols = _symbols(blueprint, settings)
    facts = Facts(frozenset(symbols))
    if symbols:
        learn_facts(facts, blueprint, settings.values, symbols)
    with deep_recursion():
        if symbols and _calls_blueprints(definition):
            for _ in range(MAX_ROUNDS):
                known = facts.count
                _run(definition, settings, Report(report.file), facts)
                if facts.count == known:
                    break
        errors_before = report.errors
        elaborated = _run(definition, settings, report, facts)
        is_sound = report.errors == errors_before and not settings.budget.told_to
        if settings.symbolic and is_sound and elaborated.is_open:
            _check_defaults(definition, settings, report)
        return elaborated


def _check_defaults(definition: Definition, settings: Settings, report: Report) -> None:
    """Reports what is wrong with a blueprint's own defaults, which a check of any sizes leaves open."""
    blueprint = definition.blueprint
    dims = [parameter for parameter in blueprint.parameters if parameter.kind.text == "dim"]
    if not dims or blueprint.damaged is not None or any(p.default is None for p in blueprint.parameters):
        return
    concrete = replace(settings, symbolic=False, budget=Budget())
    aside = Report(report.file)
    elaborated = _run(definition, concrete, aside, Facts(frozenset()))
    if aside.errors:
        values = elaborated.found.texts()
        named = (f"{dim.name.text} = {''.join(values.get(place_of(dim.name), ''))}" for dim in dims)
        with report.within(Note(f"with the defaults {', '.join(named)}", blueprint.name.span)):
            _run(definition, replace(concrete, budget=Budget()), report, Facts(frozenset()))


def _calls_blueprints(definition: Definition) -> bool:
    return any(
        isinstance(expression, Call) and expression.function.text in definition.unit.callable
        for expression in expressions_in(definition.blueprint.body)
    )


def _run(definition: Definition, settings: Settings, report: Report, facts: Facts) -> Elaborated:
    """The graph. Adds to `facts` what the blueprints that it calls require of its sizes."""
    blueprint = definition.blueprint
    errors_before = report.errors
    symbols = _symbols(blueprint, settings)
    report.spelling.update(facts.spelling())
    later = frozenset(symbols)
    graph = Graph(Builder(blueprint.name.text), report, definition.unit.sources, later, later & facts.doubted)
    graph.is_open = bool(facts.count)  # which take for granted what the numbers must show
    whole = Whole(settings, report, graph, symbols, facts)
    values = {name: facts.of(size) for name, size in symbols.items()}
    body = Statements(whole, definition, settings.precision, {}, blueprint.span)
    ir: BlueprintIR | None = None
    try:
        body.run(settings.values, values)
        if report.errors == errors_before and blueprint.damaged is None:
            outputs = {name: value for name, value in body.outputs.items() if isinstance(value, Value)}
            if len(outputs) == len(body.outputs):
                ir = graph.build.finish(outputs, graph.updates)
    except Spent:
        pass  # it was told
    except EsperError as error:
        report.add(error, blueprint.name.span)
    finally:
        found = Found(body.scope.found, graph.build, dict(report.spelling))
        report.spelling.clear()
    return Elaborated(ir, tuple(body.types.sizes), tuple(body.constraints), found, graph.is_open)


def _symbols(blueprint: Blueprint, settings: Settings) -> dict[str, Dim]:
    """The `dim` parameters that a check leaves open, each as a size symbol."""
    return {
        parameter.name.text: symbol(parameter.name.text)
        for parameter in blueprint.parameters
        if settings.symbolic and parameter.kind.text == "dim" and parameter.name.text not in settings.values
    }
