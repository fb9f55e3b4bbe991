"""The index of decisions lists every page, under its own title."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "decisions"


def test_the_index_lists_every_page() -> None:
    index = (FOLDER / "README.md").read_text(encoding="utf-8")
    for page in FOLDER.glob("*.md"):
        if page.name != "README.md":
            title = page.read_text(encoding="utf-8").split("\n", 1)[0].removeprefix("# ")
            assert f"- [{title}]({page.name})\n" in index
