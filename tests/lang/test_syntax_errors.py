"""Every kind of syntax error that is recognized is told as what it is, with an example that is valid."""

from __future__ import annotations

from pathlib import Path

import pytest

from esper.lang import Diagnostic, parse_source
from esper.lang.mistakes import CHARACTERS, MISTAKES, Context, Mistake
from esper.lang.parse import grammar
from esper.lang.recognize import read_examples
from esper.lang.tree import FILE

FIXTURES = Path(__file__).parent.parent / "diagnostics"


def _told(text: str) -> list[Diagnostic]:
    return [found for found in parse_source(text)[1] if found.code != "W0101"]


def _name(mistake: Mistake) -> str:
    return f"{mistake.context.name.lower()}: {mistake.hint}"


def test_the_parser_stops_at_every_example_and_knows_its_kind() -> None:
    reset = FILE.set("a.esp")
    try:
        assert [example.text for example in read_examples(grammar()) if example.place is None] == []
    finally:
        FILE.reset(reset)


@pytest.mark.parametrize("mistake", MISTAKES, ids=_name)
def test_a_mistake_is_told_with_its_way_out(mistake: Mistake) -> None:
    for text, _ in mistake.examples():
        first = _told(text)[0]
        assert mistake.hint in first.help, text
        assert first.code == ("E0119" if mistake.foreign else "E0101"), text


@pytest.mark.parametrize("mistake", MISTAKES, ids=_name)
def test_a_way_out_shows_a_valid_example(mistake: Mistake) -> None:
    contexts = (mistake.context, Context.FILE, Context.PARAMETERS, Context.BODY, Context.VALUE)
    around = [surroundings for context in contexts for surroundings in context.value]
    assert any(_told(surroundings.replace("□", mistake.right)) == [] for surroundings in around)


@pytest.mark.parametrize("mistake", MISTAKES, ids=_name)
def test_a_mistake_has_a_fixture(mistake: Mistake) -> None:
    fixtures = [path.read_text(encoding="utf-8") for path in FIXTURES.glob("*.esp")]
    assert any(f"#   help: {mistake.way_out}\n" in fixture for fixture in fixtures)


@pytest.mark.parametrize("character", CHARACTERS)
def test_a_character_that_starts_no_token_is_told_with_what_was_meant(character: str) -> None:
    (found,) = _told(f"blueprint b() {{\n    let a = 1 {character} 2\n    output a\n}}")
    assert (found.code, found.help) == ("E0102", CHARACTERS[character])
    example = found.help.rpartition(": ")[2].strip("`")
    around = (*Context.VALUE.value, *Context.BODY.value, "blueprint z() { input x: f32[□] }")
    assert any(_told(surroundings.replace("□", example)) == [] for surroundings in around)
