"""The tables of the parser that are made ahead: they are what the grammar gives, and used only then."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from esper.cli.parser_table import main
from esper.lang.grammar_table import GRAMMAR, TABLE, made, parser, table_of
from esper.resources import grammar_text

FILE = Path(__file__).parents[2] / "grammar" / TABLE
TEXT = grammar_text(GRAMMAR)


@pytest.fixture(scope="module")
def of_the_grammar() -> str:
    return table_of(made(TEXT), TEXT)


def test_the_tables_are_those_of_the_grammar(of_the_grammar: str, request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--update-golden"):
        FILE.write_text(of_the_grammar, encoding="utf-8")
    assert FILE.read_text(encoding="utf-8") == of_the_grammar, f"{FILE} is not up to date: make docs"
    assert CliRunner().invoke(main, []).stdout == of_the_grammar


def test_the_parser_that_reads_them_has_the_states_of_the_one_made_of_the_grammar(
    of_the_grammar: str,
) -> None:
    assert table_of(parser(TEXT, of_the_grammar), TEXT) == of_the_grammar


@pytest.mark.parametrize("part", ["grammar", "lark"])
def test_tables_of_another_grammar_or_another_version_of_lark_are_not_used(
    part: str, of_the_grammar: str
) -> None:
    foreign = json.loads(of_the_grammar)
    foreign["of"][part] += "?"
    foreign["states"] = foreign["states"][:1]
    assert table_of(parser(TEXT, json.dumps(foreign)), TEXT) == of_the_grammar
