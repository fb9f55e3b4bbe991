"""Parameters: their kinds, defaults and domains, and the values that callers and `--set` give them.

A value is kept in the scope as elaboration uses it; `Signature` shows it to others as plain Python.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import gcd

from esper.errors import EsperError, Span
from esper.ir.dims import Dim
from esper.ir.graph import Value
from esper.ir.operator import OPERATORS
from esper.ir.types import DType
from esper.lang.ast import Blueprint, Parameter, Range
from esper.lang.diagnostics import Note, Report
from esper.lang.domains import Domain, Interval, range_of, spelled
from esper.lang.elsewhere import element_type_meant, known_operator
from esper.lang.errors import (
    BadSetting,
    DimNotPositive,
    DuplicateBlueprint,
    DuplicateValue,
    MissingValue,
    OutOfDomain,
    ReservedWord,
    UnknownElementType,
    UnknownKind,
    UnknownOperator,
    UnknownParameter,
    WrongParameterKind,
)
from esper.lang.evaluate import Evaluator
from esper.lang.names import closest, did_you_mean
from esper.lang.scope import Scope, What
from esper.lang.sizes import MAX_SIZE
from esper.lang.values import POISON, OperatorName, Poison, Static, Unknown, describe, is_size, shown

_INTEGER = re.compile("-?[0-9]+")
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
"""As a source writes them."""

ParameterValue = bool | int | float | str

KINDS = {
    "dim": "a size: an integer of at least 1",
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "op": "the name of an operator",
    "dtype": "an element type",
    "choice": "the name of a branch",
}
"""What each kind holds; `choice` is the kind of the parameters that `choice` expressions make."""

_ELSEWHERE = {"size": "dim", "double": "float", "real": "float", "operator": "op", "type": "dtype"}
"""What other languages and this one's own prose call them."""

# What `esper.lower`, `esper.compile` and `Slot.germinate` take beside a blueprint's parameters.
ARGUMENT_NAMES = frozenset({"cuda_graphs", "name", "sizes", "target", "generator", "tier", "self"})


@dataclass(frozen=True, slots=True)
class ParameterInfo:
    """One parameter as a caller sees it. An operator is given by its name; `default` None means required."""

    name: str
    kind: str
    default: ParameterValue | None
    domain: tuple[ParameterValue, ...] | Interval | None
    doc: str


@dataclass(frozen=True, slots=True)
class Signature:
    """What a blueprint is called and takes; `summary` is the first line of its documentation."""

    name: str
    doc: str
    parameters: tuple[ParameterInfo, ...]

    @property
    def summary(self) -> str:
        return self.doc.split("\n", 1)[0]


def all_parameters(blueprint: Blueprint) -> tuple[Parameter, ...]:
    """The parameters that are declared, then those that its `choice` expressions make."""
    return (*blueprint.parameters, *blueprint.choices)


def unknown_kind(name: str) -> UnknownKind:
    """The error about a kind that is none, with the one that its writer may have meant."""
    return UnknownKind(name=name, suggestion=did_you_mean(_ELSEWHERE.get(name, name), KINDS))


def bind_parameters(
    blueprint: Blueprint,
    values: Mapping[str, ParameterValue],
    scope: Scope,
    report: Report,
    bound: Mapping[str, Static] | None = None,
    places: Mapping[str, Span] | None = None,
) -> None:
    """Binds each parameter to the given value, or `bound[name]`, or its default; errors go to `report`.

    values: as a Python caller writes them; bound: as elaboration keeps them; places: where a call gives them.
    Defaults and domains are evaluated even where they are not used, so that their errors are found.
    """
    evaluator = Evaluator(scope, report)
    for parameter in all_parameters(blueprint):
        place = (places or {}).get(parameter.name.text)
        value = value_of(parameter, values, evaluator, bound or {}, place)
        try:
            scope.bind(parameter.name, value, What.PARAMETER)
        except EsperError as error:
            report.add(error)


def common_divisors(blueprint: Blueprint, evaluator: Evaluator) -> Iterator[tuple[str, int]]:
    """Each `dim` parameter whose domain holds multiples of one number above 1, and the largest such."""
    for parameter in blueprint.parameters:
        domain = domain_of(parameter, evaluator) if parameter.kind.text == "dim" else None
        numbers = [v for v in domain if isinstance(v, int)] if isinstance(domain, tuple) else []
        if numbers and gcd(*numbers) > 1:
            yield parameter.name.text, gcd(*numbers)


def value_of(
    parameter: Parameter,
    values: Mapping[str, ParameterValue],
    evaluator: Evaluator,
    bound: Mapping[str, Static],
    place: Span | None,
) -> Static | Poison:
    """The value of `parameter`: given, bound, or its default; poison after an error, which is reported."""
    report, name, kind = evaluator.report, parameter.name.text, parameter.kind.text
    if kind not in KINDS:
        report.add(unknown_kind(kind), parameter.kind.span)
        return POISON
    default = None if parameter.default is None else evaluator.static(parameter.default, KINDS[kind])
    domain = domain_of(parameter, evaluator)
    try:
        if default is not None and not isinstance(default, Poison):
            default = conform(parameter, default)
            _require_in_domain(name, default, domain)
    except EsperError as error:
        assert parameter.default is not None
        report.add(error, parameter.default.span)
        default = POISON
    if name in values or name in bound:
        try:
            given = inward(parameter, values[name]) if name in values else bound[name]
            value = conform(parameter, given)
            _require_in_domain(name, value, domain)
        except EsperError as error:
            notes = [] if place is None else [Note("declared here", parameter.span)]
            report.add(error, place or parameter.span, notes)
            return POISON
        return value
    if default is None:
        report.add(MissingValue(name=name), parameter.span)
        return POISON
    return default


def domain_of(parameter: Parameter, evaluator: Evaluator) -> Domain | None:
    """What `parameter` may be, None for anything of its kind; errors are reported."""
    if parameter.domain is None:
        return None
    if isinstance(parameter.domain, Range):
        return _range(parameter, parameter.domain, evaluator)
    choices: list[Static] = []
    for expression in parameter.domain.choices:
        value = evaluator.static(expression, KINDS[parameter.kind.text])
        if isinstance(value, Poison):
            continue
        try:
            choice = conform(parameter, value)
        except EsperError as error:
            evaluator.report.add(error, expression.span)
            continue
        if choice in choices:
            evaluator.report.add(_repeated(parameter, choice), expression.span)
        else:
            choices.append(choice)
    return tuple(choices) or None


def _repeated(parameter: Parameter, value: Static) -> DuplicateValue:
    return DuplicateValue(name=parameter.name.text, value=shown(value))


def _range(parameter: Parameter, written: Range, evaluator: Evaluator) -> Domain | None:
    bounds = [
        None if e is None else evaluator.static(e, "a number")
        for e in (written.low, written.high, written.step)
    ]
    low, high, step = bounds
    if isinstance(low, Poison | None) or isinstance(high, Poison | None) or isinstance(step, Poison):
        return None
    try:
        found = range_of(written, parameter.kind.text, low, high, step)
        if isinstance(found, Interval):
            return found
        if parameter.kind.text == "float":
            return tuple(conform(parameter, value) for value in found)
        for end in (found[0], found[-1]):  # between which all lie
            conform(parameter, end)
        return found
    except EsperError as error:
        evaluator.report.add(error, written.span)
        return None


def _require_in_domain(name: str, value: Static, domain: Domain | None) -> None:
    if domain is None or value in domain or isinstance(value, Dim | Unknown):
        return
    guess = None
    if isinstance(value, OperatorName | str) and not isinstance(domain, Interval):
        guess = closest(str(value), [str(choice) for choice in domain])
    is_choice = isinstance(value, str)
    otherwise = "take one of its branches" if is_choice else "take one of them, or widen the domain"
    suggestion = f"did you mean `{guess}`?" if guess else otherwise
    raise OutOfDomain(name=name, value=shown(value), domain=spelled(domain), suggestion=suggestion)


def conform(parameter: Parameter, value: Static) -> Static:
    """`value` as the parameter's kind takes it: an integer serves as a float.

    Raises `WrongParameterKind` or `DimNotPositive`.
    """
    name, kind = parameter.name.text, parameter.kind.text
    if kind == "dim" and isinstance(value, int) and not isinstance(value, bool) and value < 1:
        raise DimNotPositive(name=name, value=value)
    if kind == "dim" and isinstance(value, int) and value > MAX_SIZE:
        expected = f"a size of at most {MAX_SIZE}"
        raise WrongParameterKind(name=name, found=describe(value), expected=expected, suggestion="")
    fits = {
        "dim": is_size(value),
        "int": is_size(value),
        "float": is_size(value) or isinstance(value, float),
        "bool": isinstance(value, bool),
        "op": isinstance(value, OperatorName),
        "dtype": isinstance(value, DType),
        "choice": isinstance(value, str),
    }[kind]
    if isinstance(value, Unknown):
        return value
    if not fits:
        suggestion = f"it stands without quotes: `{value}`" if isinstance(value, str) and value else ""
        raise WrongParameterKind(
            name=name, found=describe(value), expected=KINDS[kind], suggestion=suggestion
        )
    if kind != "float" or isinstance(value, Dim):
        return value
    assert isinstance(value, int | float)
    if not math.isfinite(value):
        raise WrongParameterKind(name=name, found=describe(value), expected="a finite number")
    return float(value)


def inward(parameter: Parameter, value: object) -> Static:
    """A caller's Python value as elaboration keeps it. Raises `UnknownOperator` or `WrongParameterKind`."""
    kind = parameter.kind.text
    if kind == "op" and isinstance(value, str):
        operator = OPERATORS.get(value)
        if operator is None or not operator.in_language:
            known = [name for name, entry in OPERATORS.items() if entry.in_language]
            suggestion = known_operator(value, known) or did_you_mean(
                value, known, "an operator, for example `gelu`"
            )
            raise UnknownOperator(name=value, suggestion=suggestion)
        return OperatorName(value)
    if kind == "dtype" and value in DType._value2member_map_:
        return DType(value)
    if kind == "dtype" and isinstance(value, str):
        known = [dtype.value for dtype in DType]
        suggestion = element_type_meant(value, known)
        raise UnknownElementType(name=value, expected=", ".join(known), suggestion=suggestion)
    if isinstance(value, bool | int | float | str):
        return value
    found = f"`{value!s:.40}` of type {type(value).__module__}.{type(value).__qualname__}"
    raise WrongParameterKind(name=parameter.name.text, found=found, expected=KINDS[kind])


def outward(value: Static | Poison) -> ParameterValue | None:
    """A value as Python callers write it; None for what they cannot give."""
    if isinstance(value, OperatorName):
        return value.name
    if isinstance(value, DType):
        return value.value
    return value if isinstance(value, bool | int | float | str) else None


def signature_of(blueprint: Blueprint) -> Signature:
    """The signature of a blueprint whose source has no errors."""
    scope, report = Scope(), Report(blueprint.span.file)
    evaluator = Evaluator(scope, report)
    bind_parameters(blueprint, {}, scope, report)
    infos = []
    for parameter in all_parameters(blueprint):
        domain = domain_of(parameter, evaluator) if parameter.kind.text in KINDS else None
        choices: tuple[ParameterValue, ...] | Interval | None = None
        if isinstance(domain, Interval):
            choices = domain
        elif domain is not None:
            choices = tuple(v for v in map(outward, domain) if v is not None)
        bound = outward(_bound(scope, parameter))
        infos.append(ParameterInfo(parameter.name.text, parameter.kind.text, bound, choices, parameter.doc))
    return Signature(blueprint.name.text, blueprint.doc, tuple(infos))


def _bound(scope: Scope, parameter: Parameter) -> Static | Poison:
    value = scope.read(parameter.name)
    assert not isinstance(value, Value)
    return value


def require_known(blueprint: Blueprint, names: Iterable[str]) -> None:
    """Raises `UnknownParameter` for the first of `names` that the blueprint does not have."""
    known = [parameter.name.text for parameter in all_parameters(blueprint)]
    for name in names:
        if name not in known:
            listed = f"it takes {', '.join(known)}" if known else "it takes none"
            raise UnknownParameter(
                blueprint=blueprint.name.text, name=name, suggestion=did_you_mean(name, known, listed)
            )


def parse_settings(signature: Signature, settings: Iterable[str]) -> dict[str, ParameterValue]:
    """The values that `--set name=value` options give, by the kinds of the parameters.

    Raises `BadSetting`, `UnknownParameter` or `WrongParameterKind`; domains are checked when lowering.
    """
    kinds = {info.name: info.kind for info in signature.parameters}
    values: dict[str, ParameterValue] = {}
    for setting in settings:
        name, equals, text = (part.strip() for part in setting.partition("="))
        if not equals or not name or not text:
            raise BadSetting(text=setting, example=f"{next(iter(kinds), 'width')}=64")
        if name not in kinds:
            listed = f"it takes {', '.join(kinds)}" if kinds else "it takes none"
            raise UnknownParameter(
                blueprint=signature.name, name=name, suggestion=did_you_mean(name, kinds, listed)
            )
        values[name] = _parse_value(name, kinds[name], text)
    return values


def _parse_value(name: str, kind: str, text: str) -> ParameterValue:
    meant = f"did you mean `{text.lower()}`?" if text.lower() in ("true", "false") else ""
    wrong = WrongParameterKind(
        name=name, found=f"`{text[:40]}`", expected=KINDS[kind], suggestion=meant if kind == "bool" else ""
    )
    if kind in ("op", "dtype", "choice"):
        return text
    if kind == "bool":
        if text not in ("true", "false"):
            raise wrong
        return text == "true"
    if not (_NUMBER if kind == "float" else _INTEGER).fullmatch(text):
        raise wrong
    try:
        return float(text) if kind == "float" else int(text)
    except ValueError:  # of more digits than Python reads
        raise wrong from None


def report_duplicates(blueprints: Iterable[Blueprint], report: Report) -> None:
    """Reports each blueprint whose name an earlier one in the file has."""
    first: dict[str, Blueprint] = {}
    for blueprint in blueprints:
        earlier = first.setdefault(blueprint.name.text, blueprint)
        if earlier is not blueprint:
            note = Note("first here", earlier.name.span)
            report.add(DuplicateBlueprint(name=blueprint.name.text), blueprint.name.span, [note])


def report_reserved(blueprints: Iterable[Blueprint], report: Report) -> None:
    """Reports each parameter whose name the Python face takes for something else."""
    for blueprint in blueprints:
        for parameter in all_parameters(blueprint):
            if parameter.name.text in ARGUMENT_NAMES:
                way_out = "name the parameter differently: `esper.compile` takes an argument of this name"
                report.add(ReservedWord(word=parameter.name.text, way_out=way_out), parameter.name.span)
