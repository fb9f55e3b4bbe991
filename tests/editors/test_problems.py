"""What is wrong, as an editor shows it, what repairs it, and the outline of a document."""

from __future__ import annotations

from pathlib import Path

import pytest

from esper.editors.analysis import Analysis
from esper.editors.fixes import fixes
from esper.editors.outline import outline
from esper.editors.problems import problems
from esper.lang import Source, check

MISTAKES = """blueprint block(width: dim = 64) {
    let unused = 3
    input x: f32[N, width]
    h = x |> linear(widht)
    output reluu(x) + x
}
"""


def analysis(text: str, file: str | Path = "block.esp") -> Analysis:
    return Analysis.of(Source(str(file), text))


def test_a_problem_holds_the_message_and_the_way_out() -> None:
    found = {problem.code: problem for problem in problems(analysis(MISTAKES))}
    assert found["E0202"].message.endswith("\nhelp: did you mean `width`?")
    assert [problem.code for problem in found.values() if problem.is_unused] == [
        problem.code for problem in found.values() if not problem.is_error
    ]


def test_the_problems_are_those_of_a_check(tmp_path: Path) -> None:
    path = tmp_path / "block.esp"
    path.write_text(MISTAKES, encoding="utf-8")
    found = problems(analysis(MISTAKES, path))
    assert [(p.code, p.span) for p in found] == [(d.code, d.span) for d in check(path)]


def test_a_second_place_is_related() -> None:
    text = "blueprint a() { input x: f32[N] output x } blueprint a() { input x: f32[N] output x }"
    [problem] = problems(analysis(text))
    assert [note.message for note in problem.related] == ["first here"]


def test_a_mistake_in_an_imported_blueprint_is_shown_at_the_call(tmp_path: Path) -> None:
    part = "blueprint part(w: dim = 8) {\n    input x: f32[N, w]\n    output reshape(x, [N, 2, w // 2])\n}\n"
    (tmp_path / "part.esp").write_text(part, encoding="utf-8")
    text = 'import "part.esp"\nblueprint b() {\n    input x: f32[N, 7]\n    output part(x)\n}\n'
    found = [p for p in problems(analysis(text, tmp_path / "b.esp")) if p.is_error]
    assert found and all(problem.span.file == str(tmp_path / "b.esp") for problem in found)
    assert found[0].span.line == 4
    assert [Path(note.span.file).name for note in found[0].related] == ["part.esp"]


def repaired(text: str) -> str:
    """`text` after all its fixes."""
    known = analysis(text)
    for fix in sorted(fixes(known, 0, len(text)), key=lambda fix: -fix.start):
        text = text[: fix.start] + fix.text + text[fix.end :]
    return text


def test_a_misspelt_name_is_repaired_by_what_was_meant() -> None:
    assert repaired(MISTAKES) == MISTAKES.replace("widht", "width").replace("reluu", "relu")


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("blueprint b(w: dimm = 8) { input x: f32[w] output x }", "dim"),
        ("blueprint b() { input x: f32[N, 8] output linear(x, 8, bais=false) }", "bias"),
        ("import nrom\nblueprint b() { input x: f32[N, 8, H] output x }", "norm"),
        ("blueprint b() { constraint parms <= 8 input x: f32[N] output x }", "params"),
    ],
)
def test_words_of_every_kind_are_repaired(wrong: str, right: str) -> None:
    text = repaired(wrong)
    assert right in text and not any(p.is_error for p in problems(analysis(text)))


def test_fixes_are_those_of_the_place_that_is_asked_about() -> None:
    known = analysis(MISTAKES)
    at = MISTAKES.index("widht")
    assert [fix.text for fix in fixes(known, at, at)] == ["width"]
    assert fixes(known, 0, 1) == []


def test_the_outline_has_blueprints_with_parameters_inputs_and_outputs() -> None:
    text = """## Two results.
blueprint a(w: dim = 8 in {4, 8}) {
    input x: f32[N, w]
    output x
    output twice = x + x
}
blueprint b() { input x: f32[N] output x }
"""
    found = outline(analysis(text))
    assert [(symbol.name, symbol.kind, symbol.detail) for symbol in found] == [
        ("a", "blueprint", "Two results."),
        ("b", "blueprint", ""),
    ]
    assert [(child.name, child.kind, child.detail) for child in found[0].children] == [
        ("w", "parameter", "dim = 8 in {4, 8}"),
        ("x", "input", "f32[N, w]"),
        ("result", "output", ""),
        ("twice", "output", ""),
    ]


def test_the_outline_of_a_broken_document_has_what_can_be_read() -> None:
    [symbol] = outline(analysis("blueprint a(w: dim = 8) {\n input x: f32[N]\n y = = x\n output x\n"))
    assert [child.name for child in symbol.children] == ["w", "x", "result"]
