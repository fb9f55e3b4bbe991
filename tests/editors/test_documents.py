"""One parse and one elaboration a version of a document, and answers at every stage of its writing."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esper.editors.analysis import Analysis
from esper.editors.completion import complete
from esper.editors.documents import Documents
from esper.editors.fixes import fixes
from esper.editors.hover import hover
from esper.editors.navigation import definition
from esper.editors.outline import Symbol, outline
from esper.editors.positions import Positions
from esper.editors.problems import problems
from esper.lang import Source, format_program, insight
from tests.editors.marked import LIBRARY
from tests.lang.mutations import mutated, seeds

URI = "file:///block.esp"


def ask_everything(analysis: Analysis, offset: int) -> None:
    """Every question that the server asks of an analysis."""
    hover(analysis, offset)
    definition(analysis, offset)
    complete(analysis, offset)
    fixes(analysis, offset, offset)
    problems(analysis)
    if analysis.insight.has_syntax:
        format_program(analysis.source, analysis.program)
    for symbol in outline(analysis):
        require_within(analysis.source, symbol)


def require_within(source: Source, symbol: Symbol) -> None:
    """A symbol's name lies within it, as the protocol wants."""
    positions = Positions(source)
    start, end = positions.range(symbol.span)
    first, last = positions.range(symbol.name_span)
    assert start <= first <= last <= end, symbol
    for child in symbol.children:
        require_within(source, child)


@pytest.mark.parametrize("name", ["unet_up", "transformer_llama", "mlp_block"])
def test_a_version_is_parsed_and_elaborated_once_however_much_is_asked(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, counts, documents = LIBRARY[name], Counter[str](), Documents()
    for work in ("parse", "check_unit"):
        original = getattr(insight, work)

        def counted(*arguments: object, work: str = work, original: object = original) -> object:
            counts[work] += 1
            assert callable(original)
            return original(*arguments)

        monkeypatch.setattr(insight, work, counted)
    for version in (1, 2):
        documents.put(URI, source.file, version, source.text + "\n" * version)
        for offset in range(0, len(source.text), 50):
            analysis = documents.analysis(URI)
            assert analysis is not None
            ask_everything(analysis, offset)
        assert counts == {"parse": version, "check_unit": version}
    assert documents.analyses == 2


def test_a_version_that_nothing_asks_about_costs_nothing() -> None:
    documents = Documents()
    for version in range(100):
        documents.put(URI, "block.esp", version, LIBRARY["norm"].text)
    assert documents.analyses == 0
    assert documents.analysis(URI) is documents.analysis(URI) is not None
    assert documents.analyses == 1
    documents.close(URI)
    assert documents.analysis(URI) is None


def test_a_byte_order_mark_is_no_part_of_a_text() -> None:
    documents = Documents()
    documents.put(URI, "block.esp", 1, "\ufeff" + LIBRARY["norm"].text)
    analysis = documents.analysis(URI)
    assert analysis is not None and analysis.insight.diagnostics == ()


def test_what_imports_is_looked_at_again_when_another_file_changes(tmp_path: Path) -> None:
    documents = Documents()
    documents.put("a", str(tmp_path / "a.esp"), 1, 'import "b.esp"\n')
    documents.put("b", str(tmp_path / "b.esp"), 1, LIBRARY["norm"].text)
    assert documents.forget_importers(str(tmp_path / "b.esp")) == []
    before = documents.analysis("a")
    assert documents.analysis("b") is not None
    assert documents.forget_importers(str(tmp_path / "a.esp")) == []
    assert documents.forget_importers(str(tmp_path / "b.esp")) == ["a"]
    assert documents.analysis("a") is not before


@given(st.randoms(use_true_random=False), st.sampled_from(seeds()), st.floats(0, 1))
def test_changed_sources_can_be_asked_about(random: Random, text: str, share: float) -> None:
    changed = mutated(text, random)
    for at in (int(share * len(changed)), len(changed)):
        ask_everything(Analysis.of(Source("changed.esp", changed)), at)


@pytest.mark.parametrize("name", ["shuffle_block", "glu_block"])
def test_every_prefix_can_be_asked_about(name: str) -> None:
    source = LIBRARY[name]
    for end in range(len(source.text) + 1):
        ask_everything(Analysis.of(Source(source.file, source.text[:end])), end)


@pytest.mark.parametrize("name", ["mlp_block", "norm"])
def test_every_character_may_be_missing(name: str) -> None:
    source = LIBRARY[name]
    for at in range(len(source.text)):
        ask_everything(Analysis.of(Source(source.file, source.text[:at] + source.text[at + 1 :])), at)
