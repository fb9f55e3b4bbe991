"""One mistake hides no other, and is told once: what it leaves unbound or unread is not reported as well."""

from __future__ import annotations

from pathlib import Path

import pytest

from esper.lang import check_files
from esper.lang.mistakes import MISTAKES, Context

ABOVE = """blueprint wide(width: dim = 64) {
    input x: f32[N, width]
    input y: f32[N, width]
    let hidden = 4 * width
    h = gelo(x)
    g = relu(x)
    """
BELOW = """
    b = linear(x, hidden) + x
    output b = b
    output h = h
    output g = g + y
}
"""
SEVERAL = {"input x: f32 output x", "if x }", "if x { } else }", "output"}
"""They end the blueprint, hold a second statement, or go on in the line below."""


def _statements() -> list[str]:
    found = []
    for mistake in MISTAKES:
        for text in mistake.wrong:
            line = text.replace("$", mistake.foreign[0] if mistake.foreign else "")
            if mistake.context is Context.VALUE:
                line = f"g = {line}"
            elif mistake.context not in (Context.BODY, Context.LINE):
                continue
            if "\n" not in line and line not in SEVERAL:
                found.append(line)
    return found


def _codes(path: Path, text: str) -> list[str]:
    path.write_text(text, encoding="utf-8")
    return [found.code for found in check_files([path]).diagnostics]


@pytest.mark.parametrize("statement", _statements())
def test_a_mistake_in_a_statement_leaves_those_above_and_below(statement: str, tmp_path: Path) -> None:
    above, wrong, *below = _codes(tmp_path / "a.esp", f"{ABOVE}{statement}{BELOW}")
    assert (above, wrong[:3], below) == ("E0201", "E01", ["E0301"])


@pytest.mark.parametrize(
    "statement",
    [
        "let k 3",
        "let k: 3",
        "let mut k = 3",
        "let j, k = 3",
        "let k = 2 width",
        "const k = 3",
        "input k f32[N, width]",
        "input f32[N, width] k",
        "inptu k: f32[N, width]",
        "tensor k: f32[N, width]",
        "f32[N, width] k",
        "k := relu(x)",
        "k = relu x",
        "k = x[0]",
        "k = ",
        "j, k = (x, x)",
        "k = x & x",
    ],
)
def test_a_name_of_a_broken_statement_is_not_called_unknown(statement: str, tmp_path: Path) -> None:
    text = f"blueprint b(width: dim = 4) {{\ninput x: f32[N, width]\n{statement}\noutput x * k\n}}"
    assert {code[:3] for code in _codes(tmp_path / "a.esp", text)} == {"E01"}


@pytest.mark.parametrize(
    "parameter",
    [
        "k",
        "k = 3",
        "k: 3",
        "k: = 3",
        "int k = 3",
        "const k: int = 3",
        "*k",
        "k: int 3",
        "k: f32[N]",
        "k int = 3",
    ],
)
@pytest.mark.parametrize("around", ["{}, width: dim = 4", "width: dim = 4, {}", "{},\nwidth: dim = 4,"])
def test_a_broken_parameter_is_told_once(parameter: str, around: str, tmp_path: Path) -> None:
    header = f"blueprint b({around.format(parameter)})"
    text = f"{header} {{\ninput x: f32[N, width]\noutput linear(x, width + k) + gelo(x)\n}}"
    wrong, unknown = _codes(tmp_path / "a.esp", text)
    assert (wrong[:3], unknown) == ("E01", "E0201")


@pytest.mark.parametrize(
    ("header", "end"),
    [
        ("b {", "}"),
        ("b[width: dim = 4] {", "}"),
        ("b(width: dim = 4) -> f32 {", "}"),
        ("b(width: dim = 4)", "}"),
        ("b(width: dim = 4)", ""),
        ("b(width: dim = 4):", ""),
        ("b(width: dim = 4) {", ""),
    ],
)
def test_the_body_after_a_broken_header_is_checked(header: str, end: str, tmp_path: Path) -> None:
    text = f"blueprint {header}\n    input x: f32[N, 4]\n    output gelo(x)\n{end}"
    wrong, unknown = _codes(tmp_path / "a.esp", text)
    assert (wrong[:3], unknown) == ("E01", "E0201")


def test_three_unrelated_mistakes_come_in_one_run(tmp_path: Path) -> None:
    text = """blueprint wide(width dim = 64, depth: int = 2) {
    input x: f32[N, width]
    h = x |> linear(width) |> relu
    output h + linear(x, 2 * depth)[0]
}

blueprint deep(depth: int = 2) {
    input x: f32[N, 8]
    repeat depth { x = linear(x, 4) + x }
    output y
}
"""
    assert _codes(tmp_path / "a.esp", text) == ["E0101", "E0108", "E0101", "E0301", "E0202"]


def test_two_errors_of_one_statement_are_one(tmp_path: Path) -> None:
    text = "blueprint b() {\ninput x: f32[N]\nh = x + * / relu x y\noutput h\n}"
    assert _codes(tmp_path / "a.esp", text) == ["E0101"]
