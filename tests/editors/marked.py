"""Sources with a mark where the cursor is."""

from __future__ import annotations

from pathlib import Path

from esper.editors.analysis import Analysis
from esper.lang import Source
from esper.resources import blueprint_files

MARK = "‸"

LIBRARY = {
    file.name.removesuffix(".esp"): Source(str(file), file.read_text(encoding="utf-8"))
    for file in blueprint_files()
}
"""The library's sources by file name."""


def marked(text: str, file: str | Path = "block.esp") -> tuple[Analysis, int]:
    """The analysis of `text` without its one mark, and the offset at which that stood."""
    before, after = text.split(MARK)
    return Analysis.of(Source(str(file), before + after)), len(before)
