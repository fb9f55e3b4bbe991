"""Each `.esp` file here ends with what `esperc check` prints for it, as comments.

`--update-golden` writes those comments; look at the difference before keeping it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from esper.lang import as_text, check_files, library_entry

HERE = Path(__file__).parent
LIBRARY = Path(library_entry("norm").file).parent
MARK = "\n# esperc check:\n"


def _told(path: Path) -> str:
    checked = check_files([path])
    return (
        as_text(checked.diagnostics, checked.sources)
        .replace(f"{path.parent}/", "")
        .replace(f"{LIBRARY}/", "")
    )


def _as_comments(text: str) -> str:
    return "".join(f"# {line}".rstrip() + "\n" for line in text.splitlines())


@pytest.mark.parametrize("path", sorted(HERE.glob("*.esp")), ids=lambda path: path.stem)
def test_check_tells_what_the_file_says_it_tells(path: Path, request: pytest.FixtureRequest) -> None:
    text = path.read_text(encoding="utf-8")
    source, _, expected = text.partition(MARK)
    if request.config.getoption("--update-golden"):
        path.write_text(source.rstrip("\n") + "\n" + MARK, encoding="utf-8")
        expected = _as_comments(_told(path))
        path.write_text(source.rstrip("\n") + "\n" + MARK + expected, encoding="utf-8")
    assert _as_comments(_told(path)) == expected
