"""The forms in which diagnostics are printed."""

from __future__ import annotations

import json

from esper.errors import Span
from esper.lang import Diagnostic, Note, Source, as_github, as_json, as_sarif, as_text, parse_source
from esper.lang.diagnostics import MAX_TEXT, Report
from esper.lang.errors import UnknownOperator

SOURCE = Source("a.esp", "first\n\tx = wrong, more\n")
FOUND = Diagnostic(
    "E0202",
    "`wrong` is not bound\nhere",
    Span("a.esp", 2, 6, 2, 11),
    "bind it",
    (Note("first", Span("a.esp", 1, 1, 1, 6)),),
)
WARNING = Diagnostic("W0201", "unused", Span("b.esp", 1, 1, 1, 1))


def test_text_points_at_the_place_under_tabs_too() -> None:
    assert as_text([FOUND], {"a.esp": SOURCE}) == (
        "a.esp:2:6: error[E0202]: `wrong` is not bound\nhere\n"
        "  \tx = wrong, more\n"
        "  \t    ^^^^^\n"
        "  help: bind it\n"
        "a.esp:1:1: note: first\n"
        "  first\n"
        "  ^^^^^\n"
    )


def test_a_place_without_source_is_still_named() -> None:
    assert as_text([WARNING], {}) == "b.esp:1:1: warning[W0201]: unused\n"


def test_a_long_line_is_shown_around_the_place() -> None:
    source = Source("a.esp", "x" * 5000)
    lines = as_text([Diagnostic("E0101", "m", Span("a.esp", 1, 2001, 1, 2003))], {"a.esp": source}).split(
        "\n"
    )
    assert len(lines[1]) < 200
    assert lines[2].strip() == "^^"


def test_json_has_the_fields_of_the_contract() -> None:
    document = json.loads(as_json([FOUND]))
    assert document["schema_version"] == 1
    assert document["diagnostics"][0] == {
        "code": "E0202",
        "severity": "error",
        "message": "`wrong` is not bound\nhere",
        "file": "a.esp",
        "line": 2,
        "column": 6,
        "end_line": 2,
        "end_column": 11,
        "help": "bind it",
    }


def test_sarif_has_a_rule_and_a_place_for_each_result() -> None:
    log = json.loads(as_sarif([FOUND, WARNING], "1.0"))
    (run,) = log["runs"]
    assert log["version"] == "2.1.0"
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == ["E0202", "W0201"]
    assert [result["level"] for result in run["results"]] == ["error", "warning"]
    region = run["results"][0]["locations"][0]["physicalLocation"]["region"]
    assert region == {"startLine": 2, "startColumn": 6, "endLine": 2, "endColumn": 11}


def test_a_github_annotation_stays_on_one_line() -> None:
    assert as_github([FOUND]) == (
        "::error file=a.esp,line=2,col=6,endLine=2,endColumn=11,title=E0202::`wrong` is not bound%0Ahere\n"
    )


def _told(text: str) -> str:
    source = Source("a.esp", text)
    return as_text(parse_source(text, "a.esp")[1], {"a.esp": source})


def test_no_text_steers_the_terminal() -> None:
    told = _told("\x1b[2J\u202eblueprint a() {}\x7f\n")
    assert "␛[2J\ufffdblueprint a() {}␡" in told
    assert not any(character in told for character in "\x1b\u202e\x7f")


def test_carets_stand_below_wide_characters() -> None:
    told = _told('blueprint a() { require true: "幅é" $ }\n').splitlines()
    line, carets = told[1:3]
    assert line.index("$") + 1 == carets.index("^")


def test_a_message_is_of_bounded_length() -> None:
    report = Report("a.esp")
    report.add(UnknownOperator(name="a" * 10_000, suggestion="b" * 10_000))
    (found,) = report.diagnostics
    assert len(found.message) == len(found.help) == MAX_TEXT + 1
    assert "aaa…aaa" in found.message
