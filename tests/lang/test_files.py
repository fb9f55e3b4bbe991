"""Files that hold no readable source are told as diagnostics, never as tracebacks."""

from __future__ import annotations

from pathlib import Path

import pytest

from esper.lang import check
from esper.lang.source import MAX_BYTES

GOOD = "blueprint b(width: dim = 4) { input x: f32[N, width] output x }"


def _codes(path: Path) -> list[str]:
    return [diagnostic.code for diagnostic in check(path)]


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "E0114"),
        (b"\n\n# nothing\n", "E0114"),
        (b"\x7fELF\x00\x00", "E0113"),
        ("blueprint é".encode("latin-1"), "E0112"),
        (b"#" * (MAX_BYTES + 1), "E0115"),
    ],
)
def test_unusable_content_has_a_code_of_its_own(content: bytes, code: str, tmp_path: Path) -> None:
    path = tmp_path / "a.esp"
    path.write_bytes(content)
    assert _codes(path) == [code]


def test_a_missing_file_names_the_one_it_resembles(tmp_path: Path) -> None:
    (tmp_path / "mlp_block.esp").write_text(GOOD)
    (found,) = check(tmp_path / "mlp_blok.esp")
    assert found.code == "E0110"
    assert "mlp_block.esp" in found.help


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    assert _codes(tmp_path) == ["E0111"]


def test_a_path_that_the_system_refuses_is_unreadable() -> None:
    assert _codes(Path("a\0b")) == ["E0116"]


def test_a_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "a.esp"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    assert _codes(path) == []
