"""Finding blueprints: by path, or by name in the library that travels with the package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from esper.errors import require_kind
from esper.lang.ast import Blueprint
from esper.lang.diagnostics import BlueprintRejected, Report
from esper.lang.elsewhere import library_names
from esper.lang.errors import SeveralBlueprints, UnknownBlueprint
from esper.lang.names import closest, did_you_mean
from esper.lang.parameters import Signature, signature_of
from esper.lang.render import as_text
from esper.lang.source import Source
from esper.lang.units import Unit, library_unit, load_unit


@dataclass(frozen=True, slots=True)
class Loaded:
    """One blueprint with the unit that it stands in."""

    blueprint: Blueprint
    unit: Unit

    @property
    def source(self) -> Source:
        return self.unit.source


@dataclass(frozen=True, slots=True)
class LibraryEntry:
    """A blueprint of the library; `file` is its source."""

    signature: Signature
    file: str

    @property
    def name(self) -> str:
        return self.signature.name

    @property
    def summary(self) -> str:
        return self.signature.summary


def reject(report: Report, sources: Mapping[str, Source]) -> None:
    """Raises `BlueprintRejected` if `report` has errors."""
    errors = [diagnostic for diagnostic in report.diagnostics if diagnostic.is_error]
    if errors:
        text = as_text(errors, sources).rstrip("\n")
        raise BlueprintRejected(span=errors[0].span, text=text, diagnostics=tuple(errors))


def load(blueprint: str | Path, name: str | None = None) -> Loaded:
    """The blueprint in the file `blueprint`, or in the library under that name.

    name: which of a file's blueprints, if it has several. Raises `BlueprintRejected` for errors in the
    source or in what it imports, `SeveralBlueprints`, `UnknownBlueprint` and `WrongArgument`.
    """
    require_kind("blueprint", blueprint, (str, Path), "a path, or the name of a library blueprint")
    if not is_path(blueprint):
        try:
            return _from_library(str(blueprint))
        except UnknownBlueprint as error:
            raise _or_a_file(error, str(blueprint)) from None
    unit, report = load_unit(Path(blueprint))
    reject(report, unit.sources)
    found = {blueprint.name.text: blueprint for blueprint in unit.program.blueprints}
    if name is None:
        if len(found) > 1:
            raise SeveralBlueprints(where=f"`{blueprint}`", names=", ".join(found))
        return Loaded(unit.program.blueprints[0], unit)
    if name not in found:
        suggestion = did_you_mean(name, found, f"it has {', '.join(found)}")
        raise UnknownBlueprint(name=name, where=f"`{blueprint}`", suggestion=suggestion)
    return Loaded(found[name], unit)


def _or_a_file(error: UnknownBlueprint, name: str) -> UnknownBlueprint:
    """`error`, or one that names a file of this folder which is more like `name` than the library's."""
    files = [path.stem for path in Path().glob("*.esp")]
    similar = closest(name, [*files, *library_names()])
    if similar not in files:
        return error
    suggestion = f"did you mean `{similar}.esp`?"
    return UnknownBlueprint(name=name, where=error.details["where"], suggestion=suggestion)


def is_path(blueprint: str | Path) -> bool:
    """Whether `blueprint` names a file: a `Path`, or text that ends in `.esp` or holds a separator."""
    return isinstance(blueprint, Path) or blueprint.endswith(".esp") or "/" in blueprint or "\\" in blueprint


def library_entry(name: str) -> LibraryEntry:
    """The library's blueprint called `name`. Raises `UnknownBlueprint`."""
    return _entry(_from_library(name))


def library() -> list[LibraryEntry]:
    """The library's blueprints, by file name."""
    return [_entry(_from_library(name)) for name in library_names()]


def _entry(found: Loaded) -> LibraryEntry:
    return LibraryEntry(signature_of(found.blueprint), found.source.file)


def _from_library(name: str) -> Loaded:
    unit, report = library_unit(name)
    reject(report, unit.sources)
    return Loaded(next(b for b in unit.program.blueprints if b.name.text == name), unit)
