"""What `esperc check --output-format sarif` prints obeys SARIF 2.1.0, over every fixture of the diagnostics.

The models are the parts of the standard that it uses (OASIS, "Static Analysis Results Interchange Format
(SARIF) Version 2.1.0"), and allow no other property: what they require, the values of their enumerations, and
bounds. Two rules stand in the standard's text alone: a result's `ruleId` and `ruleIndex` name one descriptor,
and a region does not end before it starts.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from esper.errors import Span
from esper.lang import Diagnostic, Note, as_sarif, check_files
from tests.lang.mutations import ROOT

FIXTURES = sorted((ROOT / "tests" / "diagnostics").glob("*.esp"))


def _reference(uri: str) -> str:
    """RFC 3986's `URI-reference`: its characters, and percent signs that start an escape."""
    assert re.fullmatch(r"(?:[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=]|%[0-9A-Fa-f]{2})*", uri), uri
    return uri


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Message(Strict):
    text: Annotated[str, Field(min_length=1)]


class ArtifactLocation(Strict):
    uri: Annotated[str, AfterValidator(_reference)]


class Region(Strict):
    startLine: Annotated[int, Field(ge=1)]
    startColumn: Annotated[int, Field(ge=1)]
    endLine: Annotated[int, Field(ge=1)]
    endColumn: Annotated[int, Field(ge=1)]

    @model_validator(mode="after")
    def _ends_after_its_start(self) -> Region:
        assert (self.startLine, self.startColumn) <= (self.endLine, self.endColumn)
        return self


class PhysicalLocation(Strict):
    artifactLocation: ArtifactLocation
    region: Region


class Location(Strict):
    physicalLocation: PhysicalLocation
    message: Message | None = None


class Result(Strict):
    ruleId: str
    ruleIndex: Annotated[int, Field(ge=0)]
    level: Literal["none", "note", "warning", "error"]
    message: Message
    locations: list[Location]
    relatedLocations: list[Location] = []

    @model_validator(mode="after")
    def _is_related_once(self) -> Result:
        assert len(set(self.relatedLocations)) == len(self.relatedLocations)
        return self


class ReportingDescriptor(Strict):
    id: str
    shortDescription: Message
    help: Message


class ToolComponent(Strict):
    name: str
    version: str
    rules: list[ReportingDescriptor]


class Tool(Strict):
    driver: ToolComponent


class Run(Strict):
    tool: Tool
    columnKind: Literal["utf16CodeUnits", "unicodeCodePoints"]
    results: list[Result]

    @model_validator(mode="after")
    def _rules_are_found(self) -> Run:
        rules = [rule.id for rule in self.tool.driver.rules]
        assert len(set(rules)) == len(rules)
        assert all(rules[result.ruleIndex] == result.ruleId for result in self.results)
        return self


class Log(Strict):
    schema_: Annotated[Literal["https://json.schemastore.org/sarif-2.1.0.json"], Field(alias="$schema")]
    version: Literal["2.1.0"]
    runs: list[Run]


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_each_fixture_makes_a_log_of_the_standard(path: Path) -> None:
    found = check_files([path]).diagnostics
    (run,) = Log.model_validate_json(as_sarif(found, "1.0")).runs
    assert [(r.ruleId, r.level) for r in run.results] == [(d.code, d.severity) for d in found]
    for result, diagnostic in zip(run.results, found, strict=True):
        assert len(result.relatedLocations) == len(set(diagnostic.notes))


@pytest.mark.parametrize(
    "file", ["my blocks/a.esp", "50%.esp", "<source>", "ä.esp", "C:\\a.esp", "a#b?c.esp", "\udcff.esp"]
)
def test_every_path_is_a_uri(file: str) -> None:
    found = Diagnostic("E0101", "wrong", Span(file, 1, 1, 1, 2), "", (Note("here", Span(file, 1, 1, 1, 1)),))
    (run,) = Log.model_validate_json(as_sarif([found], "1.0")).runs
    uri = run.results[0].locations[0].physicalLocation.artifactLocation.uri
    assert "#" not in uri and "?" not in uri, "the rest would be no part of the path"
    assert ":" not in uri.partition("/")[0], "it would be the scheme"


def test_no_diagnostics_are_a_log_too() -> None:
    (run,) = Log.model_validate_json(as_sarif([], "1.0")).runs
    assert run.results == []


def test_a_place_that_is_noted_twice_is_related_once() -> None:
    note = Note("called here", Span("a.esp", 1, 1, 1, 2))
    found = Diagnostic("E0101", "wrong", Span("a.esp", 2, 1, 2, 2), "", (note, note))
    (run,) = Log.model_validate_json(as_sarif([found], "1.0")).runs
    assert len(run.results[0].relatedLocations) == 1
