"""Columns of the protocol are code units; the compiler's are code points. Each converts into the other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esper.editors.positions import Positions
from esper.lang import Source

TEXTS = st.text(st.sampled_from("ab \t\r\nä𝔸 \x0b"), max_size=60)
ENCODINGS = {"utf-8": 1, "utf-16": 2, "utf-32": 4}


def positions(text: str, encoding: str = "utf-16") -> Positions:
    return Positions(Source("block.esp", text), encoding)


@given(TEXTS, st.sampled_from(sorted(ENCODINGS)))
def test_a_position_leads_back_to_its_offset(text: str, encoding: str) -> None:
    found = positions(text, encoding)
    for offset in range(len(text) + 1):
        inside_line_end = text[offset - 1 : offset + 1] == "\r\n" and offset > 0
        if not inside_line_end:
            assert found.offset(*found.position(offset)) == offset


@given(TEXTS, st.sampled_from(sorted(ENCODINGS)))
def test_columns_count_the_code_units_of_the_line(text: str, encoding: str) -> None:
    codec, width = ("utf-8", 1) if encoding == "utf-8" else (f"{encoding}-le", ENCODINGS[encoding])
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    assert positions(text, encoding).position(len(text)) == (
        len(lines) - 1,
        len(lines[-1].encode(codec)) // width,
    )


@pytest.mark.parametrize(
    ("encoding", "column"), [("utf-8", 12), ("utf-16", 8), ("utf-32", 7)], ids=list(ENCODINGS)
)
def test_text_that_is_not_ascii_shifts_what_is_behind_it(encoding: str, column: int) -> None:
    text = "# ä𝔸 é x"
    assert positions(text, encoding).position(text.index("x")) == (0, column)
    assert positions(text, encoding).offset(0, column) == text.index("x")


def test_a_span_behind_a_comment_line_with_wide_characters_is_found() -> None:
    source = Source("block.esp", '# 𝔸\nrequire "𝔸𝔸": x')
    span = source.span(source.text.index("x"), source.text.index("x") + 1)
    assert Positions(source).range(span) == ((1, 16), (1, 17))


@pytest.mark.parametrize(("line", "column"), [(0, 99), (7, 0), (7, 7)])
def test_positions_past_an_end_stand_for_that_end(line: int, column: int) -> None:
    text = "ab\r\ncd"
    assert positions(text).offset(line, column) == (2 if line == 0 else len(text))


def test_the_middle_of_a_surrogate_pair_stands_for_its_character() -> None:
    assert positions("a𝔸b").offset(0, 2) == 1
