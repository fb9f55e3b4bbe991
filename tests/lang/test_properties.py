"""No text makes the compiler raise: whatever is wrong comes back as diagnostics that point into the text."""

from __future__ import annotations

from pathlib import Path
from tempfile import NamedTemporaryFile

from hypothesis import given, settings
from hypothesis import strategies as st

from esper.lang import Diagnostic, check, library, parse_source
from esper.lang.render import as_text
from esper.lang.source import Source

TEXTS = [Path(entry.file).read_text(encoding="utf-8") for entry in library()]
WORDS = ["let", "input", "output", "require", "blueprint", "in", "not", "and", "true", "repeat", "features"]
CALLS = ["relu()", "linear(x,", "f32[N]", "init=zeros", "...S", "x", "N", "0", "1.5", "1e9"]
PIECES = st.sampled_from(
    [*"()[]{},=+-*:/@%.\\\"#'!|<>\n", "|>", "...", "==", "**", "//", "##", *WORDS, *CALLS]
)


@st.composite
def mutated_blueprints(draw: st.DrawFn) -> str:
    """A library blueprint with a few pieces inserted, removed or copied."""
    text = draw(st.sampled_from(TEXTS))
    for _ in range(draw(st.integers(1, 5))):
        start = draw(st.integers(0, len(text)))
        end = draw(st.integers(start, min(len(text), start + 30)))
        replacement = draw(st.one_of(PIECES, st.text(max_size=3), st.just(text[end : end + 40])))
        text = text[:start] + replacement + text[end:]
    return text


def _assert_inside(diagnostics: list[Diagnostic], source: Source) -> None:
    for diagnostic in diagnostics:
        span = diagnostic.span
        assert 1 <= span.line <= len(source.lines)
        assert (span.line, span.column) <= (span.end_line, span.end_column)
    assert as_text(diagnostics, {source.file: source}).count("\n") >= len(diagnostics)


@settings.get_profile("language")
@given(st.text())
def test_any_text_parses_or_is_diagnosed(text: str) -> None:
    program, diagnostics = parse_source(text)
    assert program.blueprints or diagnostics
    _assert_inside(diagnostics, Source("<source>", text))


@settings.get_profile("language")
@given(st.lists(PIECES, max_size=40))
def test_any_tokens_parse_or_are_diagnosed(pieces: list[str]) -> None:
    text = " ".join(pieces)
    program, diagnostics = parse_source(text)
    assert program.blueprints or diagnostics
    _assert_inside(diagnostics, Source("<source>", text))


@settings.get_profile("language")
@given(content=st.one_of(st.binary(max_size=200), mutated_blueprints().map(str.encode)))
def test_any_file_checks(content: bytes) -> None:
    with NamedTemporaryFile(suffix=".esp") as file:
        file.write(content)
        file.flush()
        diagnostics = check(file.name)
    assert all(diagnostic.span.file == file.name for diagnostic in diagnostics)


@settings.get_profile("language")
@given(mutated_blueprints())
def test_parsing_is_deterministic(text: str) -> None:
    assert parse_source(text) == parse_source(text)
