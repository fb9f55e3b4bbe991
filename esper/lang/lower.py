"""From a blueprint to its graph: `lower`, and `check`, which says all that is wrong with a file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from esper.errors import EsperError
from esper.ir.graph import BlueprintIR
from esper.ir.types import DType
from esper.lang.diagnostics import Diagnostic, Report
from esper.lang.elaborate import Elaborated, elaborate
from esper.lang.errors import UnknownPrecision, UnknownSize
from esper.lang.library import Loaded, load, reject
from esper.lang.names import did_you_mean
from esper.lang.parameters import ParameterValue, Signature, require_known, signature_of
from esper.lang.settings import PRECISIONS, Settings
from esper.lang.sizes import SizeValue, ranks_of
from esper.lang.source import Source
from esper.lang.statements import Bound
from esper.lang.units import Unit, load_unit


def lower(
    blueprint: str | Path,
    *,
    name: str | None = None,
    sizes: Mapping[str, SizeValue] | None = None,
    precision: str | DType | None = None,
    **params: ParameterValue,
) -> BlueprintIR:
    """The graph of a blueprint, its parameters bound to `params` or their defaults.

    blueprint: a path, or the name of a library blueprint; name: which of a file's several blueprints.
    sizes: size symbols to values, as in `{"N": 32, "S": (28, 28)}`. Only the number of axes in each
        `...S` matters here: without a value it is two. precision: f32, bf16 or f16 in place of f32.
    Raises `BlueprintRejected` with all diagnostics, or an error of the E02xx and E04xx ranges.
    """
    return lower_loaded(load(blueprint, name), dict(params), sizes or {}, precision)[0]


def lower_loaded(
    loaded: Loaded,
    params: Mapping[str, ParameterValue],
    sizes: Mapping[str, SizeValue],
    precision: str | DType | None = None,
) -> tuple[BlueprintIR, tuple[Bound, ...]]:
    """`lower` for a blueprint that was loaded already, with the constraints that it states."""
    require_known(loaded.blueprint, params)
    report = Report(loaded.source.file)
    settings = settings_of(params, sizes, precision)
    elaborated = elaborate(loaded.unit, loaded.blueprint, settings, report)
    reject(report, loaded.unit.sources)
    for size in sizes:
        if size not in elaborated.sizes:
            listed = f"it has {', '.join(elaborated.sizes) or 'none'}"
            raise UnknownSize(
                blueprint=loaded.blueprint.name.text,
                name=size,
                suggestion=did_you_mean(size, elaborated.sizes, listed),
            )
    assert elaborated.ir is not None
    return elaborated.ir, elaborated.constraints


def settings_of(
    params: Mapping[str, ParameterValue], sizes: Mapping[str, SizeValue], precision: str | DType | None
) -> Settings:
    """The settings under which `lower_loaded` elaborates. Raises `BadSize` and `UnknownPrecision`."""
    return Settings(params, ranks_of(sizes), _precision(precision))


def _precision(precision: str | DType | None) -> DType | None:
    if precision is None:
        return None
    name = precision.value if isinstance(precision, DType) else precision
    if name not in PRECISIONS:
        raise UnknownPrecision(name=name)
    return PRECISIONS[name]


@dataclass(frozen=True, slots=True)
class Checked:
    """The diagnostics of several files, and the sources that they point into."""

    diagnostics: list[Diagnostic]
    sources: dict[str, Source]


def check(path: str | Path) -> list[Diagnostic]:
    """All errors and warnings of a file, `dim` parameters left as symbols; raises nothing."""
    return check_files([path]).diagnostics


def check_files(paths: Iterable[str | Path]) -> Checked:
    """All errors and warnings of several files, file by file; raises nothing."""
    checked = Checked([], {})
    for path in paths:
        unit, report = load_unit(Path(path))
        check_unit(unit, report)
        checked.sources.update(unit.sources)
        checked.diagnostics.extend(report.diagnostics)
    return checked


def check_unit(unit: Unit, report: Report) -> list[Elaborated]:
    """The unit's own blueprints, elaborated as far as they can be; what is wrong with them is reported."""
    elaborated: list[Elaborated] = []
    settings = Settings(symbolic=True)
    for blueprint in unit.program.blueprints:
        try:
            elaborated.append(elaborate(unit, blueprint, settings, report))
        except EsperError as error:
            report.add(error, blueprint.name.span)
    return elaborated


def signature(blueprint: str | Path, name: str | None = None) -> Signature:
    """A blueprint's name, documentation and parameters. Raises as `lower` does."""
    return signature_of(load(blueprint, name).blueprint)
