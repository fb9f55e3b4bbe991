"""What is offered: all that may be written at a place, and what cannot be is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from esper.editors.analysis import Analysis
from esper.editors.completion import complete
from esper.editors.names import Role
from esper.lang import Source
from esper.lang.evaluate import language_operators
from tests.editors.marked import LIBRARY, marked

BLOCK = """import norm

blueprint part(width: dim = 8, kind: op = gelu in {gelu, relu}, deep: bool = false) {
    input x: f32[N, width]
    output x
}

blueprint block(width: dim = 64, act: op = gelu) {
    let hidden = 2 * width
    input x: f32[N, ...S, width]
    h = x |> linear(hidden) |> act()
    if width > 8 {
        let inner = 3
        a = h * inner
    } else {
        b = h
    }
    HERE
    late = h
    output late
}
"""


def offered(text: str, file: str | Path = "block.esp") -> set[str]:
    """The labels offered at the mark in `text`, which is a whole source or takes the place of `HERE`."""
    is_whole = text.startswith(("blueprint", "import", "\n"))
    whole = text if is_whole else BLOCK.replace("HERE", text)
    return {completion.label for completion in complete(*marked(whole, file))}


def test_an_expression_may_read_what_is_bound_before_it() -> None:
    labels = offered("y = ‸")
    assert {"x", "h", "a", "b", "hidden", "width", "act", "N", "S", "linear", "part", "norm", "not"} <= labels
    assert not {"late", "inner", "block", "let", "mlp_block", "param"} & labels


def test_a_block_sees_its_own_names_and_not_those_of_the_other() -> None:
    inside = BLOCK.replace("b = h", "b = ‸h").replace("HERE", "")
    labels = {completion.label for completion in complete(*marked(inside))}
    assert "h" in labels and not {"a", "inner"} & labels


def test_a_step_of_a_pipeline_is_a_call() -> None:
    labels = offered("y = x |> ‸")
    assert {"linear", "part", "norm", "act"} <= labels
    assert not {"x", "hidden", "not"} & labels


def test_arguments_are_offered_until_they_are_given() -> None:
    assert {"features=", "bias=", "h"} <= offered("y = linear(x, ‸)")
    labels = offered("y = linear(x, bias=false, ‸)")
    assert "features=" in labels and "bias=" not in labels
    assert {"width=", "kind=", "x="} <= offered("y = part(‸)")
    assert {"width=", "kind=", "x="}.isdisjoint(offered("y = part(x + ‸)"))


def test_the_values_of_an_argument_come_first() -> None:
    analysis, offset = marked(BLOCK.replace("HERE", "y = part(x, kind=‸)"))
    values = [completion.label for completion in complete(analysis, offset)][:2]
    assert values == ["gelu", "relu"]
    assert {"zeros"} <= offered("y = linear(x, 8, init=‸)")
    assert {"true", "false"} <= offered("y = part(x, deep=‸)")


def test_statements_start_with_keywords_or_with_tensors() -> None:
    labels = offered("‸")
    assert {"let", "output", "require", "repeat", "h"} <= labels
    assert "linear" not in labels


@pytest.mark.parametrize(
    ("text", "expected", "absent"),
    [
        ("\n‸", "blueprint import", "let linear"),
        ("blueprint b() {}\n‸", "blueprint import", "let linear"),
        ("blueprint b() {}\nimport ‸", "norm", "let linear"),
        ("blueprint b() {}\nimport norm\n‸", "blueprint import", "let linear"),
        ("import n‸", "norm mlp_block", "linear import"),
        ("blueprint b(width: ‸", "dim op dtype", "choice f32 linear"),
        ("blueprint b(width: dim ‸", "in", "linear let"),
        ("blueprint b(act: op = ‸", "gelu relu", "true let"),
        ("blueprint b(act: op = gelu in {‸", "gelu relu", "true let"),
        ("blueprint b(t: dtype = ‸", "f32 bf16", "gelu"),
        ("blueprint b(flag: bool = ‸", "true false", "gelu f32"),
        ("blueprint b(width: dim = 8, wide: dim = ‸", "width", "wide gelu"),
        ("blueprint b(width: dim = 8, wide: dim = 2 * (3 * ‸", "width", "wide gelu"),
        ("blueprint b() { input x: ‸", "f32 i64 bool", "gelu let"),
        ("blueprint b(w: dim = 8) { input x: f32[‸", "w", "let"),
        ("blueprint b() { input x: f32[N, ...S] y = reshape(x, [N, ...‸", "S", "N x gelu"),
        ("blueprint b() { precision ‸", "f32 bf16 f16", "i64 gelu"),
        ("blueprint b() { constraint ‸", "params latency_ms", "gelu"),
    ],
)
def test_a_place_takes_what_the_grammar_takes_there(text: str, expected: str, absent: str) -> None:
    labels = offered(text)
    assert set(expected.split()) <= labels
    assert not set(absent.split()) & labels


@pytest.mark.parametrize(
    "text",
    [
        "# a comm‸",
        "## a comm‸",
        'require x: "te‸xt"',
        'require x: "te‸xt',
        "let ‸",
        "input ‸",
        "repeat 2 as ‸",
        "y = choice ‸",
        "y = choice c { ‸",
        "y = 12‸",
        "blueprint ‸",
        "blueprint b(‸",
        "blueprint b(w: dim = 8, ‸",
    ],
)
def test_nothing_is_offered_where_anything_may_be_called_or_nothing_is_read(text: str) -> None:
    assert offered(text) == set()


def test_names_of_statements_with_mistakes_are_offered() -> None:
    assert "g" in offered("g = linear(x,, 8)\n    y = ‸")


def test_what_is_written_is_replaced_from_its_start() -> None:
    analysis, offset = marked(BLOCK.replace("HERE", "y = lin‸"))
    assert {completion.start for completion in complete(analysis, offset)} == {offset - 3}


def test_only_what_the_language_may_call_is_offered() -> None:
    callables = {
        completion.label
        for completion in complete(*marked(BLOCK.replace("HERE", "y = ‸")))
        if completion.sort == "operator"
    }
    assert callables == set(language_operators())


def test_imported_blueprints_are_offered(tmp_path: Path) -> None:
    (tmp_path / "two.esp").write_text(BLOCK.replace("HERE", ""), encoding="utf-8")
    labels = offered('import "two.esp"\nblueprint b() { y = ‸', tmp_path / "whole.esp")
    assert {"part", "block"} <= labels and "norm" not in labels


ARE_NEW = (Role.BLUEPRINT, Role.BRANCH, Role.OUTPUT, Role.BINDING)


@pytest.mark.parametrize("name", sorted(LIBRARY))
def test_every_word_of_the_library_is_offered_while_it_is_typed(name: str) -> None:
    """After its first letter, with nothing behind it: but for names that are made up there."""
    source = LIBRARY[name]
    whole = Analysis.of(source)
    for token in whole.tokens:
        assert token.start_pos is not None and token.line is not None and token.column is not None
        occurrence = whole.names.at((token.line, token.column)) if token.type == "NAME" else None
        is_new = token.type == "NAME" and (occurrence is None or occurrence.role in ARE_NEW)
        if is_new or not str(token).isidentifier():
            continue
        offset = token.start_pos + 1
        typed = Analysis.of(Source(source.file, source.text[:offset]))
        labels = {completion.label for completion in complete(typed, offset)}
        assert {str(token), f"{token}="} & labels, (token, token.line)
