"""docs/language.md: its examples are right, or wrong as they say, and laid out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from esper.lang import Source, check, format_source

PAGE = Path(__file__).resolve().parents[2] / "docs" / "language.md"
EXAMPLES = re.findall(r"^```esp\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_the_page_has_examples() -> None:
    assert len(EXAMPLES) >= 8


@pytest.mark.parametrize("text", EXAMPLES, ids=lambda text: re.findall(r"blueprint (\w+)", text)[0])
def test_an_example_is_as_the_page_says(text: str, tmp_path: Path) -> None:
    path = tmp_path / "example.esp"
    path.write_text(text, encoding="utf-8")
    assert [found.code for found in check(path)] == re.findall(r"^# error: (\w+)$", text, re.MULTILINE)
    assert format_source(Source("example", text)) == text
