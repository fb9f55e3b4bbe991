"""Every code can be reached: each has a fixture in `tests/diagnostics`, or a test here makes its input."""

from __future__ import annotations

from pathlib import Path

import pytest

from esper.errors import EsperError
from esper.lang import errors

TESTS = Path(__file__).parent.parent
KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, EsperError) and kind is not EsperError
]


def test_no_code_is_used_twice() -> None:
    codes = [kind.code for kind in KINDS]
    assert len(set(codes)) == len(codes)


WITHOUT_FIXTURE = {
    "E0115": "a file of more than 4 MB",
    "E0116": "a device, a pipe, or a path that the system refuses",
    "E0118": "more errors than are shown",
    "E0219": "a long chain of files",
    "E0221": "a long chain of blueprints",
    "E0329": "a tensor that Python brings",
    "W0102": "more warnings than are shown",
}
"""Codes whose input would be no file to read: a test makes it."""


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.code)
def test_each_code_is_reached(kind: type[EsperError]) -> None:
    fixtures = (path.read_text(encoding="utf-8") for path in (TESTS / "diagnostics").glob("*.esp"))
    has_fixture = any(f"[{kind.code}]: " in text for text in fixtures)
    assert has_fixture != (kind.code in WITHOUT_FIXTURE), f"{kind.__name__} ({kind.code})"
    if not has_fixture:
        named = (path.read_text(encoding="utf-8") for path in (TESTS / "lang").glob("test_*.py"))
        assert sum(f'"{kind.code}"' in text for text in named) > 1, f"{kind.code} has no test"
