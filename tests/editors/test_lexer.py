"""The lexer tells apart what Lark's lexer tells apart, on any text, and paints each piece for what it is."""

from __future__ import annotations

import random
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pygments.token import Error, Whitespace, string_to_tokentype

from esper.editors.lexer import BlueprintLexer
from esper.editors.tokens import Part, rules
from esper.lang import Report, library
from esper.lang.keywords import INFIX, KEYWORDS
from esper.lang.parse import grammar
from esper.lang.source import Source, scan
from esper.testing import esp_programs
from tests.lang.mutations import mutated, seeds

ROOT = Path(__file__).resolve().parent.parent.parent
LIBRARY = [Path(entry.file).read_text(encoding="utf-8") for entry in library()]

WORDS = {Part.DECLARATION, Part.CONSTANT, Part.WORD_OPERATOR, Part.KEYWORD}
NAMES = {Part.BLUEPRINT, Part.TYPE, Part.BRANCH, Part.BOUND, Part.OPERATOR_CALL, Part.CALL, Part.NAME}
UNSEEN = {Part.DOCUMENTATION, Part.COMMENT, Part.ILLEGAL}
KINDS = {"STRING": {Part.TEXT}, "REAL": {Part.REAL}, "INTEGER": {Part.INTEGER}, "NAME": NAMES}
PUNCTUATION = {"COMMA", "COLON", "LPAR", "RPAR", "LSQB", "RSQB", "LBRACE", "RBRACE"}


def parts_of(terminal: str) -> set[Part]:
    """What a token of Lark's may be painted as."""
    if terminal in KEYWORDS:
        return WORDS
    if terminal in KINDS:
        return KINDS[terminal]
    return {Part.PUNCTUATION} if terminal in PUNCTUATION else {Part.INFIX}


def painted(text: str) -> list[tuple[int, str, str]]:
    """The pieces that are no white space: place, text, token."""
    pieces = BlueprintLexer().get_tokens_unprocessed(text)
    return [(place, piece, str(token)) for place, token, piece in pieces if token is not Whitespace]


def require_as_lark(text: str) -> None:
    unseen = {f"Token.{part.token}" for part in UNSEEN}
    seen = [found for found in painted(text) if found[2] not in unseen]
    tokens = list(grammar().lex(scan(Source("a.esp", text), Report("a.esp"))[0]))
    assert [(place, piece) for place, piece, _ in seen] == [(t.start_pos, str(t)) for t in tokens]
    for (_, piece, token), lark in zip(seen, tokens, strict=True):
        assert token in {f"Token.{part.token}" for part in parts_of(lark.type)}, piece


def require_whole(text: str) -> None:
    pieces = list(BlueprintLexer().get_tokens_unprocessed(text))
    assert "".join(piece for _, _, piece in pieces) == text
    ends = [place + len(piece) for place, _, piece in pieces]
    assert [place for place, _, _ in pieces] == [0, *ends][: len(pieces)]


@pytest.mark.parametrize("text", LIBRARY, ids=[entry.name for entry in library()])
def test_the_library_is_painted_without_errors(text: str) -> None:
    require_as_lark(text)
    require_whole(text)
    assert Error not in {token for _, token, _ in BlueprintLexer().get_tokens_unprocessed(text)}


@given(esp_programs())
def test_a_generated_program_is_painted_without_errors(text: str) -> None:
    require_as_lark(text)
    require_whole(text)
    assert Error not in {token for _, token, _ in BlueprintLexer().get_tokens_unprocessed(text)}


@given(st.sampled_from(seeds()), st.randoms(use_true_random=False))
def test_a_broken_source_is_cut_where_lark_cuts_it(text: str, generator: random.Random) -> None:
    changed = mutated(text, generator)
    require_as_lark(changed)
    require_whole(changed)


@given(st.text())
def test_any_text_is_cut_where_lark_cuts_it(text: str) -> None:
    require_as_lark(text)
    require_whole(text)


def test_every_terminal_of_the_grammar_is_painted() -> None:
    signs = {t.name for t in grammar().terminals} - KEYWORDS - KINDS.keys() - {"COMMENT"}
    assert signs >= (INFIX - KEYWORDS) | PUNCTUATION
    for terminal in grammar().terminals:
        if terminal.pattern.type == "str":
            ((_, piece, token),) = painted(terminal.pattern.value)
            assert piece == terminal.pattern.value
            assert token in {f"Token.{part.token}" for part in parts_of(terminal.name)}


def test_every_part_is_a_token_that_styles_know() -> None:
    for part in Part:
        assert any(rule.part is part for rule in rules()), part
        assert string_to_tokentype(part.token).parent is not None


def test_each_piece_is_painted_for_what_it_is() -> None:
    text = (
        "## doc\n# why\nimport norm\nblueprint f(w: dim = 4, dt: dtype = f32 in {f32}) {\n"
        '    require w % 2 == 0: "even"\n    input x: dt[N, ...S]\n'
        "    h = x |> linear(w, bias=false) |> mine()\n"
        "    y = choice k { a => h, }\n    output not -1.5e3 é\n}\n"
    )
    found = {(piece, token.removeprefix("Token.")) for _, piece, token in painted(text)}
    assert found >= {
        ("## doc", "Literal.String.Doc"),
        ("# why", "Comment.Single"),
        ("import", "Keyword.Declaration"),
        ("f", "Name.Class"),
        ("w", "Name.Variable"),
        ("dim", "Keyword.Type"),
        ("f32", "Keyword.Type"),
        ('"even"', "Literal.String.Double"),
        ("x", "Name.Variable"),
        ("dt", "Name"),
        ("...", "Operator"),
        ("linear", "Name.Builtin"),
        ("bias", "Name.Variable"),
        ("false", "Keyword.Constant"),
        ("mine", "Name.Function"),
        ("choice", "Keyword"),
        ("a", "Name.Label"),
        ("=>", "Operator"),
        ("not", "Operator.Word"),
        ("1.5e3", "Literal.Number.Float"),
        ("é", "Error"),
    }


def test_pygments_is_told_of_the_lexer() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    module, _, name = project["entry-points"]["pygments.lexers"]["esper"].partition(":")
    assert getattr(import_module(module), name) is BlueprintLexer
    assert "*.esp" in BlueprintLexer.filenames
    assert BlueprintLexer.analyse_text(LIBRARY[0]) > 0.5 > BlueprintLexer.analyse_text("def f(x): return x")
