"""Every code can be reached: each has a fixture in `tests/diagnostics` or a test here that names it."""

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


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.code)
def test_each_code_is_reached(kind: type[EsperError]) -> None:
    fixtures = (path.read_text(encoding="utf-8") for path in (TESTS / "diagnostics").glob("*.esp"))
    named = (path.read_text(encoding="utf-8") for path in (TESTS / "lang").glob("test_*.py"))
    reached = any(f"[{kind.code}]: " in text for text in fixtures) or any(
        f'"{kind.code}"' in text for text in named
    )
    assert reached, f"{kind.__name__} ({kind.code}) has no fixture and no test"
