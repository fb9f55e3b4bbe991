"""What a check says of numbers and conditions that it leaves open: nothing that lowering might disprove."""

from __future__ import annotations

from pathlib import Path

import pytest

from esper.lang import check, lower


def _codes(tmp_path: Path, head: str, body: str) -> list[str]:
    path = tmp_path / "b.esp"
    path.write_text(f"blueprint b({head}) {{ {body} }}", encoding="utf-8")
    return [diagnostic.code for diagnostic in check(path)]


RIGHT = [
    ("width: dim = 4", "input x: f32[N, 4, 32] input y: f32[N, 4, 8] output max_pool(x, width) + y"),
    ("width: dim = 4", "input x: f32[N, 4, 32] output x |> max_pool(width) |> reshape([N, 32])"),
    ("width: dim = 4", "input x: f32[N, 32] input y: f32[N, 8] output chunk(x, width, index=0, axis=1) + y"),
    ("width: dim = 4", "input x: f32[N, 8, 8] input y: f32[N, 8, 32] output interpolate(x, scale=width) + y"),
    ("width: dim = 4", "input x: f32[N, 8, 8] input y: f32[N, 8, 16] output pad(x, [width, width]) + y"),
    (
        "width: dim = 2",
        "input x: f32[N, 4 * width * width, 8, 8] input y: f32[N, 4, 8 * width, 8 * width] "
        "output pixel_shuffle(x, width) + y",
    ),
    ("width: dim = 2", "input x: f32[N, width] output softmax(x, axis=width - 1)"),
    ("width: dim = 64", "input x: f32[N, width] output dropout(x, 1 / width)"),
    ("width: dim = 2", "input x: f32[N, width] output x ** width"),
    (
        "width: dim = 2",
        "input x: f32[N, 4] input y: f32[N, 12] h = x repeat width { h = concat(h, x, axis=1) } output h + y",
    ),
    ("width: dim = 2", "input x: f32[N, width] h = x repeat width as i { h = linear(h, i + 1) } output h"),
    (
        "width: dim = 64",
        "input x: f32[N, width] h = x repeat width as i { if i > 0 { h = h + x } } output h",
    ),
    (
        "width: dim = 4",
        "input x: f32[N, width] input y: f32[N, 4] h = x if width == 4 { h = x + y } output h",
    ),
    (
        "width: dim = 8",
        "input x: f32[N, width] h = x "
        "if width % 2 == 0 { h = reshape(x, [N, 2, width // 2]) |> reshape([N, width]) } output h",
    ),
    ("width: dim = 8", 'input x: f32[N, width] if width > 64 { require false: "too wide" } output x'),
    (
        "width: dim = 4, c: dim = 8",
        "input x: f32[N, width] input y: f32[N, c] h = x if width != c { h = linear(x, c) } output h + y",
    ),
    ("width: dim = 4", "input x: f32[N, width] if width > 4 { output x } else { output linear(x, 3) }"),
]


@pytest.mark.parametrize(("head", "body"), RIGHT)
def test_what_lowers_is_not_refused(head: str, body: str, tmp_path: Path) -> None:
    assert not [code for code in _codes(tmp_path, head, body) if code.startswith("E")]
    assert lower(tmp_path / "b.esp").outputs


WRONG = [
    # whatever the number is
    ("width: dim", "input x: f32[N, width] output max_pool(x, width)", "E0301"),
    ("width: dim", "input x: f32[N, 8] input y: f32[N, 9] output dropout(x, 1 / width) + y", "E0301"),
    # whether or not the branch is taken
    (
        "width: dim",
        "input x: f32[N, width] h = x if width > 4 { h = x + linear(x, 2 * width) } output h",
        "E0301",
    ),
    ("width: dim", "input x: f32[N, width] h = x if width > 4 { h = relu(y) } output h", "E0202"),
    ("width: dim", "input x: f32[N, 8] h = x if width > 4 { h = linear(x, 9) + x } output h", "E0301"),
    # whichever branch was taken
    (
        "width: dim",
        "input x: f32[N, 8] h = x if width > 4 { h = linear(x, 9) } else { h = linear(x, 9) } output h + x",
        "E0301",
    ),
    # after any number of turns
    ("width: dim", "input x: f32[N, 8] h = x repeat width { h = relu(h) } output h + linear(x, 9)", "E0301"),
    ("width: dim", "input x: f32[N, 8] repeat width { h = linear(x, 9) + x } output x", "E0301"),
]


@pytest.mark.parametrize(("head", "body", "code"), WRONG)
def test_what_no_number_mends_is_an_error(head: str, body: str, code: str, tmp_path: Path) -> None:
    assert code in _codes(tmp_path, head, body)


OPEN = [
    ("width: dim = 4", 'require width % 5 == 0: "by five" input x: f32[N, width] output x', "E0401"),
    ("width: dim = 3", "input x: f32[N, 8, width] output group_norm(x, groups=width)", "E0301"),
    ("width: dim = 3", "let a = 2 - width input x: f32[N, width] output linear(x, a)", "E0322"),
    ("width: dim = 64", "input x: f32[N, width] output dropout(x, 1 / (width - 63))", "E0301"),
    ("width: dim = 9", 'input x: f32[N, 8] if width > 8 { require false: "wide" } output x', "E0401"),
]


@pytest.mark.parametrize(("head", "body", "code"), OPEN)
def test_what_was_left_open_is_checked_with_the_defaults(
    head: str, body: str, code: str, tmp_path: Path
) -> None:
    assert _codes(tmp_path, head, body) == [code]
    assert not _codes(tmp_path, "width: dim", body)


@pytest.mark.parametrize(
    ("head", "body", "code"),
    [
        ("width: dim = 2147483648", "input x: f32[N, width] output x", "E0405"),
        ("", "input x: f32[N, 4] output x |> linear(9223372036854775807)", "E0322"),
        ("", "input x: f32[N, 4] output x |> linear(2147483647) |> linear(2147483647)", "E0301"),
    ],
)
def test_sizes_that_no_tensor_has_are_refused_where_they_stand(
    head: str, body: str, code: str, tmp_path: Path
) -> None:
    assert _codes(tmp_path, head, body) == [code]
