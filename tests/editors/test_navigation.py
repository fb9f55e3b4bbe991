"""Where names lead: the binding that is meant, in this file or another."""

from __future__ import annotations

from pathlib import Path

import pytest

from esper.editors.analysis import Analysis
from esper.editors.callees import DTYPES
from esper.editors.names import Role
from esper.editors.navigation import definition
from esper.lang.evaluate import language_operators
from tests.editors.marked import LIBRARY, MARK, marked

GOAL = "⌖"


def leads(text: str) -> bool:
    """Whether the name at the mark leads to the place of the goal."""
    analysis, offset = marked(text.replace(GOAL, ""))
    goal = text.replace(MARK, "").index(GOAL)
    span = definition(analysis, offset)
    return span is not None and (span.line, span.column) == analysis.source.position(goal)


@pytest.mark.parametrize(
    "text",
    [
        "blueprint b(⌖w: dim = 8) { input x: f32[N, ‸w] output x }",
        "blueprint b(⌖w: dim = 8, v: dim = 2 * ‸w) { input x: f32[N, v] output x }",
        "blueprint b() { let ⌖h = 8 input x: f32[N, ‸h] output x }",
        "blueprint b() { input ⌖x: f32[N, 8] output ‸x }",
        "blueprint b() { input x: f32[⌖N, 8] output reshape(x, [8, ‸N]) }",
        "blueprint b() { input x: f32[N, ...⌖S] output reshape(x, [N, ...‸S]) }",
        "blueprint b() { input x: f32[⌖N, 8] input y: f32[‸N, 8] output x + y }",
        "blueprint b(⌖act: op = gelu) { input x: f32[N] output x |> ‸act() }",
        "blueprint b() { input x: f32[N] ⌖h = x h = gelu(‸h) output h }",
        "blueprint b() { input x: f32[N] h = x ⌖h = gelu(h) output ‸h }",
        "blueprint b() { input x: f32[N, 8] h, ⌖m, r = layer_norm(x) output ‸m }",
        "blueprint b() { input x: f32[N] h = x repeat 2 as ⌖i { h = h * ‸i } output h }",
        "blueprint b() { input x: f32[N] ⌖h = x if true { h = gelu(h) } else { h = relu(‸h) } output h }",
        "blueprint b() { input x: f32[N] if true { let ⌖k = 1 h = x * ‸k } else { let k = 2 h = x } }",
        "blueprint b() { input x: f32[N] if true { let k = 1 h = x } else { let ⌖k = 2 h = x * ‸k } }",
        "blueprint b() { input x: f32[N] h = choice ⌖m { p => x, q => gelu(x) } "
        "output choice ‸m { p => h, q => x } }",
        "blueprint ⌖a() { input x: f32[N] output x } blueprint b() { input x: f32[N] output ‸a(x) }",
        "blueprint a(⌖w: dim = 8) { input x: f32[w] output x } "
        "blueprint b() { input x: f32[4] output a(x, ‸w=4) }",
        "blueprint a() { input ⌖x: f32[N] output x } blueprint b() { input y: f32[4] output a(‸x=y) }",
        "blueprint ⌖‸a() { input x: f32[N] output x }",
        "blueprint b() { input x: f32[N] output x + ‸h ⌖h = x }",
        "blueprint b() {\n let ⌖k = 8\n input x: f32[N, k]\n y = = linear(x, ‸k)\n output x }",
    ],
)
def test_a_name_leads_to_what_it_means(text: str) -> None:
    assert leads(text)


@pytest.mark.parametrize(
    "text",
    [
        "blueprint b() { input x: f32[N] output ‸gelu(x) }",
        "blueprint b() { input x: ‸f32[N] output x }",
        "blueprint b() { input x: f32[N] output ‸unknown }",
        "blueprint b() { input x: f32[N] if true { let k = 1 h = x } output h * ‸k }",
        "blueprint a(w: dim = 8) { input x: f32[w] output x }‸",
    ],
)
def test_what_has_no_source_leads_nowhere(text: str) -> None:
    assert definition(*marked(text)) is None


def test_names_lead_into_imported_files_and_the_library(tmp_path: Path) -> None:
    part = tmp_path / "part.esp"
    part.write_text("# é\nblueprint part() { input x: f32[N, 8] output x }\n", encoding="utf-8")
    text = 'import "part.esp"\nimport norm\nblueprint b() { input x: f32[N, 8] output norm(part(x)) }\n'

    def led(at: str) -> tuple[str, int, int] | None:
        span = definition(*marked(text.replace(at.replace(MARK, ""), at), tmp_path / "whole.esp"))
        return None if span is None else (Path(span.file).name, span.line, span.column)

    assert led("norm(‸part") == ("part.esp", 2, 11)
    assert led('"pa‸rt.esp"') == ("part.esp", 1, 1)
    library = LIBRARY["norm"]
    line, column = library.position(library.text.index("blueprint norm") + len("blueprint "))
    assert led("‸norm(part") == led("import ‸norm") == ("norm.esp", line, column)


def test_the_path_of_an_import_that_is_refused_leads_to_the_file_if_there_is_one(tmp_path: Path) -> None:
    (tmp_path / "part.esp").write_text("blueprint", encoding="utf-8")
    found = definition(*marked('import "‸part.esp"', tmp_path / "whole.esp"))
    assert found is not None and Path(found.file).name == "part.esp"
    assert definition(*marked('import "‸gone.esp"', tmp_path / "whole.esp")) is None


@pytest.mark.parametrize("name", sorted(LIBRARY))
def test_every_name_that_the_library_reads_leads_to_that_name(name: str) -> None:
    analysis = Analysis.of(LIBRARY[name])
    lines = analysis.source.lines
    for occurrence in analysis.names:
        binding = analysis.means_binding(occurrence)
        if occurrence.role is Role.READ:
            assert binding is not None or occurrence.name.text in {*language_operators(), *DTYPES}
        if binding is not None:
            line, column = binding.place
            assert lines[line - 1][column - 1 :].startswith(occurrence.name.text)
