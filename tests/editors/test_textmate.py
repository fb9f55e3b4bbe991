"""The TextMate grammar is what the rules say, and paints, line by line, what the Pygments lexer paints."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from esper.editors.textmate import main, textmate_grammar
from esper.editors.tokens import Part, scanner
from esper.lang import LibraryEntry, library
from tests.lang.mutations import mutated, seeds

FILE = Path(__file__).resolve().parent.parent.parent / "docs" / "editors" / "esper.tmLanguage.json"
PATTERNS = [
    (entry["name"], re.compile(entry["match"])) for entry in json.loads(textmate_grammar())["patterns"]
]


def by_textmate(text: str) -> list[tuple[int, str, str]]:
    """Place, text and scope of each match, as an editor finds them: in each line the first that comes."""
    found = []
    start = 0
    for line in re.split("(?<=\n)", text):
        place = 0
        while place < len(line):
            matches = [(name, match) for name, p in PATTERNS if (match := p.search(line, place)) is not None]
            if not matches:
                break
            name, first = min(matches, key=lambda item: item[1].start())
            found.append((start + first.start(), first.group(), name))
            place = first.end()
        start += len(line)
    return found


def by_rules(text: str) -> list[tuple[int, str, str]]:
    expression, parts = scanner()
    return [
        (match.start(), match.group(), parts[int(match.lastgroup[1:])].scope)
        for match in expression.finditer(text)
        if match.lastgroup is not None and match.lastgroup != "space"
    ]


def test_the_file_is_what_the_rules_say(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--update-golden"):
        FILE.write_text(textmate_grammar(), encoding="utf-8")
    assert FILE.read_text(encoding="utf-8") == textmate_grammar(), f"{FILE} is not up to date: make docs"


def test_the_command_writes_it(tmp_path: Path) -> None:
    assert CliRunner().invoke(main, []).stdout == textmate_grammar()
    done = CliRunner().invoke(main, ["-o", str(tmp_path / "a.json")])
    assert (done.exit_code, (tmp_path / "a.json").read_text()) == (0, textmate_grammar())


def test_the_grammar_has_what_editors_ask_for() -> None:
    document = json.loads(textmate_grammar())
    assert document["scopeName"] == "source.esper"
    assert document["fileTypes"] == ["esp"]
    assert all(entry.keys() == {"name", "match"} for entry in document["patterns"])
    assert {entry["name"] for entry in document["patterns"]} == {part.scope for part in Part}
    assert len({part.scope for part in Part}) == len(Part)


def test_no_expression_needs_what_oniguruma_lacks_or_looks_past_its_line() -> None:
    for _, pattern in PATTERNS:
        assert pattern.match("") is None, "an editor would stand still"
        assert not re.search(r"\(\?P|\\[Zsb]|\(\?[aiLmsux]", pattern.pattern), pattern.pattern


@pytest.mark.parametrize("entry", library(), ids=lambda entry: entry.name)
def test_the_library_is_painted_as_by_the_lexer(entry: LibraryEntry) -> None:
    text = Path(entry.file).read_text(encoding="utf-8")
    assert by_textmate(text) == by_rules(text)


@given(st.sampled_from(seeds()), st.randoms(use_true_random=False))
def test_a_broken_source_is_painted_as_by_the_lexer(text: str, generator: random.Random) -> None:
    changed = mutated(text, generator)
    assert by_textmate(changed) == by_rules(changed)
