"""Units: a file, and the blueprints that its blueprints may call: its own, and those that it imports.

A file imports what lies beside it or below, and the library by name; paths that lead elsewhere, and
cycles, are refused.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from esper.errors import EsperError
from esper.lang.ast import Blueprint, Import, Name, Program, Text
from esper.lang.diagnostics import Note, Report
from esper.lang.elsewhere import library_names
from esper.lang.errors import (
    ImportBroken,
    ImportClashes,
    ImportCycle,
    ImportEscapes,
    ImportsTooDeep,
    UnknownBlueprint,
)
from esper.lang.names import did_you_mean
from esper.lang.parameters import report_duplicates, report_reserved
from esper.lang.parse import parse
from esper.lang.source import Source, read_source
from esper.resources import blueprint_file

MAX_IMPORTS = 64  # in a chain
ANY_NAME = "*"


@dataclass(frozen=True, slots=True)
class Definition:
    """A blueprint that can be called, and the unit in which its own calls are looked up."""

    blueprint: Blueprint
    unit: Unit


@dataclass(frozen=True, slots=True, eq=False)
class Unit:
    """One file. sources: its own text and those of all that it imports, by file name.

    key: by which a loader tells it from others.
    unread: the library names that failed imports would have brought, and `ANY_NAME` for a file's.
    """

    program: Program
    source: Source
    key: str = ""
    callable: dict[str, Definition] = field(default_factory=dict)
    sources: dict[str, Source] = field(default_factory=dict)
    unread: set[str] = field(default_factory=set)


def parse_file(path: Path) -> tuple[Source, Program, Report]:
    """The program in a file, with what is wrong with its syntax; raises nothing."""
    source, report = read_source(path)
    if report.has_errors:
        return source, Program(source.file, ()), report
    return source, parse_checked(source, report), report


def parse_checked(source: Source, report: Report) -> Program:
    """The program in `source`; repeated and reserved names are errors, too."""
    program = parse(source, report)
    report_names(program, report)
    return program


def report_names(program: Program, report: Report) -> None:
    """Reports repeated and reserved names."""
    report_duplicates(program.blueprints, report)
    report_reserved(program.blueprints, report)


def load_unit(path: Path) -> tuple[Unit, Report]:
    """The file at `path` with what it imports; what is wrong with it is in the report. Raises nothing."""
    return _Loader().file(path)


def source_unit(source: Source) -> tuple[Unit, Report]:
    """A source that was read already, with what it imports from beside the file that it names."""
    report = Report(source.file)
    return parsed_unit(source, parse_checked(source, report), report)


def parsed_unit(source: Source, program: Program, report: Report) -> tuple[Unit, Report]:
    """A source that was parsed already, with what it imports."""
    return _Loader().resolved(os.path.realpath(source.file.replace("\0", "?")), source, program, report)


@cache
def library_unit(name: str) -> tuple[Unit, Report]:
    """The unit in which the library's blueprint `name` stands. Raises `UnknownBlueprint`."""
    return _Loader().library(name)


@cache
def library_program(name: str) -> tuple[Source, Program, Report]:
    """The library's file in which the blueprint `name` stands, which is one of `library_names`."""
    resource = blueprint_file(name)
    source = Source(str(resource), resource.read_text(encoding="utf-8"))
    report = Report(source.file)
    return source, parse_checked(source, report), report


class _Loader:
    """Reads each file once; `opened` is the chain of those whose imports are being resolved."""

    def __init__(self) -> None:
        self.found: dict[str, tuple[Unit, Report]] = {}
        self.opened: list[str] = []

    def file(self, path: Path) -> tuple[Unit, Report]:
        key = os.path.realpath(str(path).replace("\0", "?"))
        return self.found[key] if key in self.found else self.resolved(key, *parse_file(path))

    def library(self, name: str) -> tuple[Unit, Report]:
        if name not in library_names():
            suggestion = did_you_mean(name, library_names(), "`esperc templates` lists them")
            raise UnknownBlueprint(name=name, where="the library", suggestion=suggestion)
        source, program, report = library_program(name)
        key = f"library:{source.file}"
        return self.found[key] if key in self.found else self.resolved(key, source, program, report)

    def resolved(self, key: str, source: Source, program: Program, report: Report) -> tuple[Unit, Report]:
        unit = Unit(program, source, key, sources={source.file: source})
        self.found[key] = unit, report
        for blueprint in program.blueprints:
            unit.callable.setdefault(blueprint.name.text, Definition(blueprint, unit))
        self.opened.append(key)
        try:
            for statement in program.imports:
                if report.is_full:
                    break
                self._import(unit, statement, report)
        finally:
            self.opened.pop()
        return unit, report

    def _import(self, unit: Unit, statement: Import, report: Report) -> None:
        """Errors go to `report`, but for those of the whole chain, told by the file that was asked for."""
        try:
            self._add(unit, statement)
        except EsperError as error:
            if isinstance(error, ImportCycle | ImportsTooDeep) and len(self.opened) > 1:
                raise
            report.add(error, statement.span)
            unit.unread.add(statement.source.text if isinstance(statement.source, Name) else ANY_NAME)

    def _add(self, unit: Unit, statement: Import) -> None:
        """Makes the blueprints that `statement` names callable in `unit`. Raises what is wrong with it."""
        if len(self.opened) > MAX_IMPORTS:
            raise ImportsTooDeep(limit=MAX_IMPORTS)
        if isinstance(statement.source, Name):
            imported, report = self.library(statement.source.text)
        else:
            imported, report = self.file(_beside(unit.source.file, statement.source.value))
        if imported.key in self.opened:
            chain = [*self.opened[self.opened.index(imported.key) :], imported.key]
            raise ImportCycle(chain=" -> ".join(Path(file).name for file in chain))
        errors = [diagnostic for diagnostic in report.diagnostics if diagnostic.is_error]
        if errors:
            first, file = errors[0], imported.source.file
            if not imported.source.text:
                advice = _advice(statement, first.help, unit.source.file)
                raise ImportBroken(file=file, reason=first.message, advice=advice)
            advice = f"`esperc check {file}` shows all that is wrong with it"
            raise ImportBroken(file=file, reason=f"line {first.span.line}: {first.message}", advice=advice)
        unit.sources.update(imported.sources)
        for blueprint in imported.program.blueprints:
            name = blueprint.name.text
            if isinstance(statement.source, Name) and name != statement.source.text:
                continue
            before = unit.callable.get(name)
            if before is not None and before.blueprint is not blueprint:
                notes = (Note("the other is this one", before.blueprint.name.span),)
                raise ImportClashes(name=name, file=imported.source.file, notes=notes)
            unit.callable[name] = Definition(blueprint, imported)


def _advice(statement: Import, help: str, importer: str) -> str:
    """The way out for an import of no file: without quotes, for the library, else the file's `help`."""
    target = statement.source.value if isinstance(statement.source, Text) else ""
    if target.removesuffix(".esp") in library_names():
        return f"the library's are imported without quotes: `import {target.removesuffix('.esp')}`"
    if not target.endswith(".esp"):
        return f'a file\'s name ends in `.esp`: `import "{target}.esp"`'
    return "" if f"`{importer}`" in help else help


def _beside(file: str, target: str) -> Path:
    """The file that `target` names from the folder of `file`. Raises `ImportEscapes`."""
    if not target:
        raise ImportEscapes(reason="an import without the name of a file")
    folder = Path(file).parent
    path = folder / target
    inside = Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))
    if "\\" in target or Path(target).is_absolute() or ".." in Path(target).parts or not inside:
        raise ImportEscapes(reason=f"`{target}` leads out of the folder of the file that imports it")
    return path
