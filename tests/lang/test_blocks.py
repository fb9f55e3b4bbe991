"""Blocks, choices, precision, calls of blueprints and imports: each is what one would write out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from esper.errors import EsperError
from esper.ir import BlueprintIR
from esper.lang import Interval, check, lower, signature, statements


def lowered(tmp_path: Path, body: str, name: str | None = None, **params: Any) -> BlueprintIR:
    """The graph of a file with one blueprint of `body`, or with the whole text of several."""
    text = body if "blueprint " in body else f"blueprint b(width: dim = 8, depth: int = 2) {{ {body} }}"
    path = tmp_path / "b.esp"
    path.write_text(text, encoding="utf-8")
    return lower(path, name=name, **params)


def codes(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "b.esp"
    path.write_text(text, encoding="utf-8")
    return [diagnostic.code for diagnostic in check(path)]


INPUT = "input x: f32[N, width] h = x "


def test_repeat_is_its_body_written_out(tmp_path: Path) -> None:
    repeated = lowered(tmp_path, INPUT + "repeat 3 as i { let s = i + 1 h = linear(h, width) * s } output h")
    written = lowered(
        tmp_path,
        INPUT + "h = linear(h, width) * 1 h = linear(h, width) * 2 h = linear(h, width) * 3 output h",
    )
    assert repeated.hash == written.hash
    assert repeated.parameters == 3 * (8 * 8 + 8)


def test_repeating_nothing_leaves_nothing(tmp_path: Path) -> None:
    assert (
        lowered(tmp_path, INPUT + "repeat 0 { h = gelu(h) } output h").hash
        == lowered(tmp_path, INPUT + "output h").hash
    )


@pytest.mark.parametrize(("depth", "operator"), [(1, "relu"), (2, "gelu"), (3, "silu")])
def test_if_takes_the_branch_whose_condition_holds(tmp_path: Path, depth: int, operator: str) -> None:
    branches = "if depth == 1 { h = relu(h) } else if depth == 2 { h = gelu(h) } else { h = silu(h) }"
    taken = lowered(tmp_path, INPUT + branches + " output h", depth=depth)
    assert taken.hash == lowered(tmp_path, INPUT + f"h = {operator}(h) output h").hash


def test_a_check_looks_into_both_branches_where_a_dim_decides(tmp_path: Path) -> None:
    body = "if width > 4 { h = relu(h, 3) } else { h = gelu(h, 1) }"
    text = f"blueprint b(width: dim = 8) {{ {INPUT} {body} output h }}"
    assert codes(tmp_path, text) == ["E0324", "E0324"]


CHOOSES = (
    INPUT + "h = choice kind { soft => gelu(h), wide => linear(h, 2 * width) |> linear(width) } output h"
)


def test_a_choice_is_its_first_branch_unless_another_is_named(tmp_path: Path) -> None:
    assert (
        lowered(tmp_path, CHOOSES).hash
        == lowered(tmp_path, CHOOSES, kind="soft").hash
        == lowered(tmp_path, INPUT + "output gelu(h)").hash
    )
    wide = lowered(tmp_path, INPUT + "output linear(h, 2 * width) |> linear(width)")
    assert lowered(tmp_path, CHOOSES, kind="wide").hash == wide.hash


def test_a_choice_is_a_parameter_with_its_branches_for_a_domain(tmp_path: Path) -> None:
    lowered(tmp_path, CHOOSES)
    kind = signature(tmp_path / "b.esp").parameters[-1]
    assert (kind.name, kind.kind, kind.default, kind.domain) == ("kind", "choice", "soft", ("soft", "wide"))
    with pytest.raises(EsperError, match='`kind` = "hard" is not one of'):
        lowered(tmp_path, CHOOSES, kind="hard")


def test_a_precision_is_the_default_of_its_blueprint(tmp_path: Path) -> None:
    stated = lowered(tmp_path, "precision bf16 " + INPUT + "output h")
    assert str(stated.inputs[0].type) == "bf16[N, 8]"
    assert str(lowered(tmp_path, "precision bf16 " + INPUT + "output h", precision="f16").inputs[0].type) == (
        "f16[N, 8]"
    )


CALLS = """
blueprint mlp(width: dim = 64, hidden: dim = 2 * width, act: op = gelu) {
    input x: f32[N, ...S, width]
    output x |> linear(hidden) |> act() |> linear(width)
}
blueprint called() {
    input x: f32[N, T, 8]
    h = mlp(x) |> mlp(hidden=4, act=relu)
    output h
}
blueprint written() {
    input x: f32[N, T, 8]
    h = x |> linear(16) |> gelu() |> linear(8) |> linear(4) |> relu() |> linear(8)
    output h
}
"""


def test_a_call_is_its_blueprint_written_out(tmp_path: Path) -> None:
    called, written = (lowered(tmp_path, CALLS, name) for name in ("called", "written"))
    assert called.hash == written.hash
    assert [node.name for node in called.params][::4] == ["mlp.linear.weight", "mlp_2.linear.weight"]


def test_a_call_has_its_blueprints_outputs_for_results(tmp_path: Path) -> None:
    text = """
    blueprint both() { input x: f32[N] input y: f32[N] output sum = x + y output product = x * y }
    blueprint uses() { input a: f32[N] s, p = both(a, y=gelu(a)) output s output p_again = p }
    """
    ir = lowered(tmp_path, text, "uses")
    assert [ir.node(value.node).op for _, value in ir.outputs] == ["add", "mul"]
    assert codes(tmp_path, text) == []


def test_what_a_called_blueprint_requires_is_known_in_a_check(tmp_path: Path) -> None:
    text = """
    blueprint heads(width: dim = 8, count: int = 2) {
        require width % count == 0: "heads divide the width"
        input x: f32[N, width]
        output x |> reshape([N, count, width // count]) |> reshape([N, width])
    }
    blueprint uses(features: dim = 12) { input x: f32[N, features] output heads(x, count=3) }
    """
    assert codes(tmp_path, text) == []
    with pytest.raises(EsperError, match="heads divide the width"):
        lowered(tmp_path, text, "uses", features=8)


def test_a_called_blueprint_has_the_callers_precision(tmp_path: Path) -> None:
    ir = lowered(tmp_path, CALLS, "called", precision="bf16")
    assert {str(node.type.dtype) for node in ir.params} == {"bf16"}


def test_an_import_makes_blueprints_callable(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "mlp.esp").write_text(CALLS, encoding="utf-8")
    text = """
    import "below/mlp.esp"
    import norm
    blueprint uses() { input x: f32[N, T, 8] output mlp(x) |> norm() }
    """
    ir = lowered(tmp_path, text)
    assert {node.name.split(".")[0] for node in ir.params} == {"mlp", "norm"}
    spans = {Path(node.span.file).name for node in ir.nodes if node.span is not None}
    assert spans == {"b.esp", "mlp.esp", "norm.esp"}


@pytest.mark.parametrize("target", ["../x.esp", "/etc/passwd", "below/../../x.esp", "", "a\\\\b.esp"])
def test_an_import_cannot_leave_its_folder(tmp_path: Path, target: str) -> None:
    text = f'import "{target}"\nblueprint b() {{ input x: f32[N] output x }}'
    assert codes(tmp_path, text) == ["E0215"]


def test_a_link_that_leads_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "outside.esp").write_text(CALLS, encoding="utf-8")
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "link.esp").symlink_to(tmp_path / "outside.esp")
    assert codes(inside, 'import "link.esp"\nblueprint b() { input x: f32[N] output x }') == ["E0215"]


def test_files_that_import_one_another_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.esp").write_text(
        'import "b.esp"\nblueprint a() { input x: f32[N] output x }', encoding="utf-8"
    )
    assert codes(tmp_path, 'import "a.esp"\nblueprint b() { input x: f32[N] output x }') == ["E0216"]
    diagnostic = check(tmp_path / "b.esp")[0]
    assert "these files import one another: b.esp -> a.esp -> b.esp" in diagnostic.message
    own = tmp_path / "own.esp"
    own.write_text('import "own.esp"\nblueprint b() { input x: f32[N] output x }', encoding="utf-8")
    assert [diagnostic.code for diagnostic in check(own)] == ["E0216"]


def test_a_chain_of_imports_ends(tmp_path: Path) -> None:
    for index in range(80):
        (tmp_path / f"{index}.esp").write_text(
            f'import "{index + 1}.esp"\nblueprint b{index}() {{ input x: f32[N] output x }}', encoding="utf-8"
        )
    (tmp_path / "80.esp").write_text("blueprint last() { input x: f32[N] output x }", encoding="utf-8")
    assert check(tmp_path / "20.esp") == []
    assert [diagnostic.code for diagnostic in check(tmp_path / "0.esp")] == ["E0219"]


def test_a_file_is_read_once_however_often_it_is_imported(tmp_path: Path) -> None:
    (tmp_path / "leaf.esp").write_text("blueprint leaf() { input x: f32[N] output x }", encoding="utf-8")
    imports = 'import "leaf.esp"\n' * 3
    assert codes(tmp_path, f"{imports}blueprint b() {{ input x: f32[N] output leaf(x) }}") == []


def test_calls_nest_only_so_deep(tmp_path: Path) -> None:
    chain = ["blueprint b0() { input x: f32[N] output gelu(x) }"]
    chain += [f"blueprint b{i}() {{ input x: f32[N] output b{i - 1}(x) }}" for i in range(1, 100)]
    assert set(codes(tmp_path, "\n".join(chain))) == {"E0221"}


def test_calls_that_double_at_each_step_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statements, "MAX_STATEMENTS", 20_000)
    chain = ["blueprint b0() { input x: f32[N] output gelu(x) }"]
    chain += [f"blueprint b{i}() {{ input x: f32[N] output b{i - 1}(b{i - 1}(x)) }}" for i in range(1, 40)]
    path = tmp_path / "b.esp"
    path.write_text("\n".join(chain), encoding="utf-8")
    with pytest.raises(EsperError, match="elaboration takes more than 20000 statements"):
        lower(path, name="b39")


def test_an_element_type_can_be_a_parameter(tmp_path: Path) -> None:
    text = """
    blueprint b(dt: dtype = f32 in {f32, f64, bf16}) {
        input x: dt[N, 4]
        output x |> cast(dtype=f64) |> relu() |> cast(dtype=dt)
    }
    """
    assert str(lowered(tmp_path, text, dt="bf16").inputs[0].type) == "bf16[N, 4]"
    assert codes(tmp_path, text) == []
    assert signature(tmp_path / "b.esp").parameters[0].domain == ("f32", "f64", "bf16")
    with pytest.raises(EsperError, match=r"`dt` = f16 is not one of \{f32, f64, bf16\}"):
        lowered(tmp_path, text, dt="f16")


@pytest.mark.parametrize(
    ("declared", "domain"),
    [
        ("n: int = 3 in 1..8 step 2", (1, 3, 5, 7)),
        ("n: dim = 3 in 1..4", (1, 2, 3, 4)),
        ("n: float = 0.5 in 0.0..1.0 step 0.25", (0.0, 0.25, 0.5, 0.75, 1.0)),
        ("n: float = 0.01 in 0.001..0.1 log", Interval(0.001, 0.1, is_log=True)),
        ("k: int = 2, n: int = 4 in k..2 * k", (2, 3, 4)),
    ],
)
def test_a_domain_can_be_a_range(tmp_path: Path, declared: str, domain: object) -> None:
    path = tmp_path / "b.esp"
    path.write_text(f"blueprint b({declared}) {{ input x: f32[N] output x * n }}", encoding="utf-8")
    assert signature(path).parameters[-1].domain == domain


@pytest.mark.parametrize(
    ("declared", "code"),
    [
        ("n: int = 8 in 1..4", "E0402"),
        ("n: float = 0.2 in 0.001..0.1 log", "E0402"),
        ("n: int = 1 in 4..1", "E0420"),
        ("n: int = 1 in 1..4 step 0", "E0420"),
        ("n: int = 1 in 1..1000000000000", "E0420"),
        ("n: int = 1 in 0.5..4", "E0420"),
        ("n: int = 1 in 1..4 log", "E0420"),
        ("n: float = 1.0 in 0.0..4.0 log", "E0420"),
        ("n: float = 1.0 in 0.5..4.0 lin", "E0420"),
        ("n: op = relu in relu..gelu", "E0420"),
        ("n: int = 1 in 1..true", "E0420"),
    ],
)
def test_a_range_that_cannot_be_one_is_refused(tmp_path: Path, declared: str, code: str) -> None:
    assert code in codes(tmp_path, f"blueprint b({declared}) {{ input x: f32[N] output x * n }}")
