"""What a checked source is known to mean: types and values by the places of names, past mistakes."""

from __future__ import annotations

from pathlib import Path

from esper.lang import Insight, Source, check, inspect_source
from esper.resources import blueprint_files

TEXT = """blueprint block(width: dim = 64, heads: int = 4, act: op = gelu) {
    require width % heads == 0: "the heads share the width"
    let hidden = 2 * width
    input x: f32[N, ...S, width]
    h = x |> linear(hidden) |> act()
    h, mean, rstd = layer_norm(h)
    output linear(h, width // heads)
}
"""


def insight(text: str) -> Insight:
    return inspect_source(Source("block.esp", text))


def texts_of(text: str, name: str) -> list[tuple[str, ...]]:
    """The texts at each place where `name` is written, in order."""
    found, lines = insight(text).texts, text.split("\n")
    places = sorted(place for place in found if lines[place[0] - 1][place[1] - 1 :].startswith(name))
    return [found[place] for place in places]


def test_names_have_types_and_values_in_the_users_names() -> None:
    assert texts_of(TEXT, "hidden") == [("2*width",)]
    assert texts_of(TEXT, "x:") == [("f32[N, S.0, S.1, width]",)]
    assert texts_of(TEXT, "h ") == [("f32[N, S.0, S.1, 2*width]",)]
    assert texts_of(TEXT, "mean") == [("f32[N, S.0, S.1, 1]",)]


def test_called_operators_have_the_types_of_their_results() -> None:
    assert texts_of(TEXT, "act()") == [("f32[N, S.0, S.1, 2*width]",)]
    assert texts_of(TEXT, "linear(h, ") == [("f32[N, S.0, S.1, width//4]",)]


def test_a_mistake_leaves_the_rest_known() -> None:
    broken = TEXT.replace("linear(hidden)", "linear(hiden)")
    assert texts_of(broken, "hidden") == [("2*width",)]
    assert texts_of(broken, "h =") == [("",)]
    assert not insight(broken.replace("require", "requir")).has_syntax


def test_a_repeated_statement_has_the_types_of_its_first_time() -> None:
    text = """blueprint twice() {
    input x: f32[N, 8]
    h = x
    repeat 2 { h = concat(h, h, axis=1) }
    output h
}
"""
    assert texts_of(text, "h = concat") == [("f32[N, 16]",)]


def test_the_diagnostics_are_those_of_a_check(tmp_path: Path) -> None:
    path = tmp_path / "block.esp"
    path.write_text(TEXT.replace("x |>", "y |>"), encoding="utf-8")
    source = Source(str(path), path.read_text(encoding="utf-8"))
    assert list(inspect_source(source).diagnostics) == check(path) != []


def test_imports_are_read_from_beside_the_named_file(tmp_path: Path) -> None:
    (tmp_path / "block.esp").write_text(TEXT, encoding="utf-8")
    text = """import "block.esp"
blueprint user() {
    input x: f32[N, 8]
    output block(x)
}
"""
    found = inspect_source(Source(str(tmp_path / "unsaved.esp"), text))
    assert found.diagnostics == ()
    assert found.texts[4, 12] == ("f32[N, 2]",)
    assert sorted(found.unit.callable) == ["block", "user"]


def test_a_source_larger_than_files_may_be_is_not_read() -> None:
    found = insight("# é\n" * 900_000)
    assert [diagnostic.code for diagnostic in found.diagnostics] == ["E0115"]
    assert not found.unit.program.blueprints


def test_every_binding_of_the_library_is_known_where_nothing_is_wrong() -> None:
    for file in blueprint_files():
        found = inspect_source(Source(str(file), file.read_text(encoding="utf-8")))
        is_known = all(text for texts in found.texts.values() for text in texts)
        assert found.texts and (is_known or any(d.is_error for d in found.diagnostics)), file.name
