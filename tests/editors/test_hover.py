"""What is shown of a name: types as elaborated, documentation, signatures."""

from __future__ import annotations

from pathlib import Path

import pytest

from esper.editors.analysis import Analysis
from esper.editors.hover import hover
from esper.editors.vocabulary import KEYWORDS, QUANTITIES
from esper.ir.operator import OPERATORS
from esper.lang import keywords as language
from esper.lang.evaluate import language_operators
from esper.lang.statements import QUANTITIES as BOUNDED
from tests.editors.marked import LIBRARY, marked

BLOCK = """## A block for tests.
blueprint block(
    width: dim = 64,  ## how many features
    heads: int = 4 in {2, 4},
    act: op = gelu,
) {
    require width % heads == 0: "the heads share the width"
    let hidden = 2 * width
    input x: f32[N, ...S, width]
    h = x |> linear(hidden, init=zeros) |> act()
    m = choice mixing { wide => linear(h, width), narrow => x }
    repeat 2 as i { m = m * i }
    output m
    output share = sigmoid(m)
}
"""


def shown(text: str, at: str, file: str | Path = "block.esp") -> str:
    """What is shown at `‸` in `at`, which stands once in `text` but for that mark."""
    plain = at.replace("‸", "")
    assert text.count(plain) == 1, plain
    found = hover(*marked(text.replace(plain, at), file))
    return found.markdown if found is not None else ""


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("‸h = x", "h: f32[N, S.0, S.1, 2*width]"),
        ("linear(‸h, width)", "h: f32[N, S.0, S.1, 2*width]"),
        ("let ‸hidden", "let hidden = 2*width"),
        ("linear(hidde‸n,", "let hidden = 2*width"),
        ("input ‸x", "input x: f32[N, S.0, S.1, width]"),
        ("...‸S", "S = [S.0, S.1]"),
        ("[‸N", "```esp\nN\n```\na size"),
        ("as ‸i", "i = 0\n```\nthe index of a `repeat`"),
        ("require ‸width", "width: dim = 64"),
        ("require ‸width", "how many features"),
        ("require ‸width", "a size: an integer of at least 1"),
        ("% ‸heads", "heads: int = 4 in {2, 4}"),
        ("|> ‸act()", "here: `f32[N, S.0, S.1, 2*width]`"),
        ("choice ‸mixing", "chooses a branch: `wide`, `narrow`"),
        ("‸wide =>", "a branch of the choice"),
        ("output ‸share", "an output"),
        ("width: ‸dim", "a size: an integer of at least 1"),
        ("x: ‸f32", "an element type"),
        ("int = 4 ‸in", "what a search chooses"),
        ("‸let hidden", "Binds a static value once"),
        ("blueprint ‸block", "block(x, width=64, heads=4, act=gelu, mixing=wide) -> result, share"),
        ("blueprint ‸block", "A block for tests."),
        ("= ‸sigmoid", OPERATORS["sigmoid"].doc),
        ("= ‸sigmoid", "here: `f32[N, S.0, S.1, width]`"),
        ("‸init=zeros", "of `linear`"),
        ("init=‸zeros", "a value of `init: string"),
    ],
)
def test_a_name_is_shown_with_what_is_known_of_it(at: str, expected: str) -> None:
    assert expected in shown(BLOCK, at)


def test_nothing_is_shown_between_names_and_of_names_that_nothing_binds() -> None:
    assert shown(BLOCK, "2 ‸* width") == ""
    assert shown(BLOCK.replace("sigmoid(m)", "sigmoyd(m)"), "= ‸sigmoyd") == ""


def test_names_have_their_types_beside_a_syntax_error() -> None:
    broken = BLOCK.replace("repeat 2 as", "repeat 2 2 as")
    assert "h: f32[N, S.0, S.1, 2*width]" in shown(broken, "‸h = x")


def test_a_statement_that_cannot_be_read_shows_what_its_names_mean() -> None:
    broken = BLOCK.replace("output share = ", "output share = = ")
    assert OPERATORS["sigmoid"].doc in shown(broken, "= = ‸sigmoid")
    assert "m: f32[N, S.0, S.1, width]" in shown(broken, "sigmoid(‸m)")


def test_an_import_shows_what_it_makes_callable(tmp_path: Path) -> None:
    (tmp_path / "part.esp").write_text(BLOCK, encoding="utf-8")
    text = 'import "part.esp"\nimport norm\nblueprint b() { input x: f32[N, 8] output norm(block(x)) }\n'
    path = tmp_path / "whole.esp"
    assert "block(x, width=64" in shown(text, 'import "pa‸rt', path)
    assert "norm(" in shown(text, "import ‸norm", path)
    assert "A block for tests." in shown(text, "norm(‸block", path)
    assert "here: `f32[N, 8]`" in shown(text, "output ‸norm", path)


@pytest.mark.parametrize("name", sorted(LIBRARY))
def test_every_name_in_the_library_shows_something(name: str) -> None:
    analysis = Analysis.of(LIBRARY[name])
    for token in analysis.tokens:
        if token.type == "NAME":
            assert token.start_pos is not None
            found = hover(analysis, token.start_pos)
            assert found is not None and found.markdown, token
            assert (found.span.line, found.span.column) == (token.line, token.column)


def test_every_operator_of_the_language_is_shown_with_all_its_arguments() -> None:
    for name in language_operators():
        entry = OPERATORS[name]
        found = hover(*marked(f"blueprint b() {{ input x: f32[N] output ‸{name}(x) }}"))
        assert found is not None
        text = found.markdown
        assert entry.doc in text
        assert all(attribute.doc in text for attribute in entry.attributes if attribute.name != "offset")


def test_every_word_of_the_language_is_explained() -> None:
    assert {word.upper() for word in KEYWORDS} == set(language.KEYWORDS)
    assert QUANTITIES.keys() == set(BOUNDED)
