"""The grammar is LALR(1) without conflicts, and its keywords are the ones that the code knows."""

from __future__ import annotations

import logging

import pytest
from lark import Lark, logger

from esper.lang.keywords import KEYWORDS
from esper.resources import grammar_text


def test_the_grammar_has_no_conflicts(caplog: pytest.LogCaptureFixture) -> None:
    # Lark resolves shift/reduce conflicts silently and only says so at this level; others it raises.
    logger.addHandler(caplog.handler)
    try:
        with caplog.at_level(logging.DEBUG, logger=logger.name):
            Lark(grammar_text("blueprint.lark"), parser="lalr", lexer="basic", debug=True)
    finally:
        logger.removeHandler(caplog.handler)
    assert "conflict" not in caplog.text.lower()


def test_every_keyword_is_known_to_the_messages() -> None:
    lark = Lark(grammar_text("blueprint.lark"), parser="lalr", lexer="basic")
    words = {t.name for t in lark.terminals if t.pattern.type == "str" and t.pattern.value.isalpha()}
    assert words == KEYWORDS
