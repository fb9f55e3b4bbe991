"""Finding blueprints: by path, or by name in the library that travels with the package."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from esper.errors import require_kind
from esper.lang.ast import Blueprint, Program
from esper.lang.diagnostics import BlueprintRejected, Report
from esper.lang.errors import SeveralBlueprints, UnknownBlueprint
from esper.lang.names import did_you_mean
from esper.lang.parameters import Signature, report_duplicates, report_reserved, signature_of
from esper.lang.parse import parse
from esper.lang.render import as_text
from esper.lang.source import Source, read_source
from esper.resources import blueprint_files


@dataclass(frozen=True, slots=True)
class Loaded:
    """One blueprint with the source that it stands in."""

    blueprint: Blueprint
    source: Source


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


def parse_file(path: Path) -> tuple[Source, Program, Report]:
    """The program in a file, with what is wrong with its syntax; raises nothing."""
    source, report = read_source(path)
    if report.has_errors:
        return source, Program(source.file, ()), report
    program = parse(source, report)
    report_duplicates(program.blueprints, report)
    report_reserved(program.blueprints, report)
    return source, program, report


def reject(report: Report, source: Source) -> None:
    """Raises `BlueprintRejected` if `report` has errors."""
    errors = [diagnostic for diagnostic in report.diagnostics if diagnostic.is_error]
    if errors:
        text = as_text(errors, {source.file: source}).rstrip("\n")
        raise BlueprintRejected(span=errors[0].span, text=text, diagnostics=tuple(errors))


def load(blueprint: str | Path, name: str | None = None) -> Loaded:
    """The blueprint in the file `blueprint`, or in the library under that name.

    name: which of a file's blueprints, if it has several. Raises `BlueprintRejected` for errors in the
    source, `SeveralBlueprints`, `UnknownBlueprint` and `WrongArgument`.
    """
    require_kind("blueprint", blueprint, (str, Path), "a path, or the name of a library blueprint")
    if not is_path(blueprint):
        return _from_library(str(blueprint))
    source, program, report = parse_file(Path(blueprint))
    reject(report, source)
    names = [found.name.text for found in program.blueprints]
    if name is None:
        if len(names) > 1:
            raise SeveralBlueprints(where=f"`{blueprint}`", names=", ".join(names))
        return Loaded(program.blueprints[0], source)
    if name not in names:
        suggestion = did_you_mean(name, names, f"it has {', '.join(names)}")
        raise UnknownBlueprint(name=name, where=f"`{blueprint}`", suggestion=suggestion)
    return Loaded(program.blueprints[names.index(name)], source)


def is_path(blueprint: str | Path) -> bool:
    """Whether `blueprint` names a file: a `Path`, or text that ends in `.esp` or holds a separator."""
    return isinstance(blueprint, Path) or blueprint.endswith(".esp") or "/" in blueprint or "\\" in blueprint


@cache
def _library() -> dict[str, Loaded]:
    found: dict[str, Loaded] = {}
    for resource in blueprint_files():
        source = Source(str(resource), resource.read_text(encoding="utf-8"))
        report = Report(source.file)
        for blueprint in parse(source, report).blueprints:
            found[blueprint.name.text] = Loaded(blueprint, source)
        reject(report, source)
    return found


def library_entry(name: str) -> LibraryEntry:
    """The library's blueprint called `name`. Raises `UnknownBlueprint`."""
    return _entry(_from_library(name))


def library() -> list[LibraryEntry]:
    """The library's blueprints, by file name."""
    return [_entry(found) for found in _library().values()]


def _entry(found: Loaded) -> LibraryEntry:
    return LibraryEntry(signature_of(found.blueprint), found.source.file)


def _from_library(name: str) -> Loaded:
    found = _library().get(name)
    if found is None:
        known = f"it has {', '.join(_library())}"
        raise UnknownBlueprint(
            name=name, where="the library", suggestion=did_you_mean(name, _library(), known)
        )
    return found
