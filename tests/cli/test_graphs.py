"""A graph on the command line: what is wrong with the file is told with the file, and its place if known."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from esper.cli.esperc import main

TEXT = "blueprint small {\n  %x = input() : f32[N, 4]\n  %y = exp(%x) : f32[N, 4]\n  output y = %y\n}\n"


@pytest.fixture
def small(tmp_path: Path) -> Path:
    file = tmp_path / "small.ir"
    file.write_text(TEXT)
    return file


def opt(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["opt", *map(str, arguments)])


def test_a_syntax_error_is_told_at_its_place(small: Path) -> None:
    small.write_text(TEXT.replace("exp(", "exp[("))
    result = opt(small)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"{small}:3:11: error[E0501]: ")
    assert "%y = exp[(%x)" in result.stderr


def test_a_graph_that_does_not_verify_is_told_with_its_file(small: Path) -> None:
    small.write_text(TEXT.replace("exp(%x) : f32", "exp(%x) : f64"))
    result = opt(small)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"{small}: error[E0503]: node `y`")


def test_an_empty_file_is_told_as_such(small: Path) -> None:
    small.write_text("")
    assert opt(small).stderr == f"{small}: error[E0501]: IR text: it ends before the blueprint does\n"


def test_a_byte_order_mark_does_not_count(small: Path) -> None:
    small.write_text(TEXT, encoding="utf-8-sig")
    assert opt(small).exit_code == 0


def test_a_folder_takes_no_output(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in (".", "..", tmp_path):
        result = opt(small, "-o", folder)
        assert result.exit_code == 1
        assert result.stderr.startswith(f"error[E0002]: `{folder}` cannot be written: Is a directory")


@pytest.mark.parametrize(("size", "code"), [("Q=3", "E0118"), ("N=-1", "E0117")])
def test_a_size_that_the_graph_cannot_take_is_refused(small: Path, size: str, code: str) -> None:
    plain, counted = opt(small, "--size", size), opt(small, "--size", size, "--stats")
    assert plain.exit_code == 1
    assert plain.stderr == counted.stderr
