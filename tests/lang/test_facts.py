"""What `require` statements and domains say of sizes that a check does not know."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esper.ir.dims import Size, evaluate_size, product, symbol
from esper.lang import check
from esper.lang.facts import Facts

A, B, C = symbol("a"), symbol("b"), symbol("c")
SYMBOLS = frozenset({"a", "b", "c"})

UNKNOWNS = st.sampled_from([A, B, C])
SIZES = st.lists(UNKNOWNS | st.sampled_from([2, 3, 4, 6]), min_size=1, max_size=3).map(product)


def _learned(*equations: tuple[Size, Size]) -> Facts:
    facts = Facts(SYMBOLS)
    for one, other in equations:
        facts.learn(one, other)
    return facts


@pytest.mark.parametrize(
    ("equations", "size", "is_known_as"),
    [
        ([(A % B, 0)], B * (A // B), A),
        ([(0, A % B)], B * (A // B), A),
        ([(A % B, 0), (B % C, 0)], C * (A // C), A),
        ([(B % C, 0), (A % B, 0)], C * (A // C), A),
        ([(A % 4, 0), (A % 6, 0)], 12 * (A // 12), A),
        ([(A % 6, 0), (A % 4, 0)], 12 * (A // 12), A),
        ([((A // B) % 2, 0), (A % B, 0)], 2 * B * (A // (2 * B)), A),
        ([(A % B, 0), ((A // B) % 2, 0)], 2 * B * (A // (2 * B)), A),
        ([((2 * A) % 4, 0)], 2 * (A // 2), A),
        ([((A + 2) % 4, 0)], 4 * ((A + 2) // 4), A + 2),
        ([(A, B * B)], B * (A // B), A),
        ([(A, 8)], A * B, 8 * B),
        ([(A, B), (B, C)], A * B, C * C),
    ],
)
def test_sizes_are_equal_by_what_was_learned(
    equations: list[tuple[Size, Size]], size: Size, is_known_as: Size
) -> None:
    facts = _learned(*equations)
    assert facts.of(size) == facts.of(is_known_as)
    assert not facts.doubted


@pytest.mark.parametrize("equations", [[(A % B, 0), (A % C, 0)], [(A * B, 12)], [(A % 2, 1), (A % 3, 1)]])
def test_the_symbols_of_equations_without_a_solution_are_doubted(equations: list[tuple[Size, Size]]) -> None:
    assert _learned(*equations).doubted


def test_nothing_is_learned_of_sizes_that_a_run_decides() -> None:
    facts = _learned((symbol("T") % 2, 0), (symbol("T"), A))
    assert facts.count == 0


@given(st.lists(st.tuples(SIZES, SIZES, st.booleans()), max_size=4), SIZES, st.data())
def test_what_is_learned_holds_for_all_values_that_the_equations_allow(
    pairs: list[tuple[Size, Size, bool]], size: Size, data: st.DataObject
) -> None:
    equations = [(one % other, 0) if divides else (one, other) for one, other, divides in pairs]
    facts = _learned(*equations)
    for _ in range(20):
        values = {name: data.draw(st.integers(1, 12)) for name in sorted(SYMBOLS)}
        if all(evaluate_size(one, values) == evaluate_size(other, values) for one, other in equations):
            assert evaluate_size(facts.of(size), values) == evaluate_size(size, values)


HEADS = "input x: f32[N, width] output x |> reshape([N, heads, width // heads])"


@pytest.mark.parametrize(
    "body",
    [
        f'require width % heads == 0: "b" {HEADS}',
        f'require 0 == width % heads: "b" {HEADS}',
        f'let rest = width % heads require rest == 0: "b" {HEADS}',
        f'require heads > 1 and width % heads == 0: "b" {HEADS}',
        f'require width % (2 * heads) == 0: "b" {HEADS}',
        f'require heads * heads == width: "b" {HEADS}',
        f'require not (width % heads != 0): "b" {HEADS}',
        f'require width % heads == 0 or width == 7 * heads: "b" {HEADS}',
        'require heads % groups == 0 and width % heads == 0: "b" input x: f32[N, width] '
        "output x |> reshape([N, groups, heads // groups, width // heads])",
        'require width % heads == 0: "b" require heads % groups == 0: "c" input x: f32[N, width] '
        "output x |> reshape([N, groups, heads // groups, width // heads])",
        'require width % heads == 0 and width % groups == 0: "b" input x: f32[N, width] '
        "output x |> reshape([N, groups, width // groups]) |> reshape([N, heads, width // heads])",
    ],
)
def test_a_check_takes_what_is_required_for_granted(tmp_path: Path, body: str) -> None:
    path = tmp_path / "b.esp"
    groups = ", groups: dim = 2" if "groups" in body else ""
    path.write_text(f"blueprint b(width: dim = 64, heads: dim = 8{groups}) {{ {body} }}", encoding="utf-8")
    assert check(path) == []


def test_an_equation_without_a_solution_hides_no_mismatch_that_nothing_mends(tmp_path: Path) -> None:
    path = tmp_path / "b.esp"
    condition = "width % heads == 0 and width % groups == 0"
    path.write_text(
        f'blueprint b(width: dim = 64, heads: dim = 8, groups: dim = 2) {{ require {condition}: "b" '
        "input x: f32[N, width] output x |> reshape([N, heads, groups, 1 + width * width]) }",
        encoding="utf-8",
    )
    assert [d.code for d in check(path)] == ["E0301"]


@pytest.mark.parametrize(("domain", "codes"), [("{8, 20}", []), ("4..64 step 4", []), ("{8, 10}", ["E0301"])])
def test_a_domain_says_what_divides_its_values(tmp_path: Path, domain: str, codes: list[str]) -> None:
    path = tmp_path / "b.esp"
    body = "input x: f32[N, width] output x |> reshape([N, 4, width // 4])"
    path.write_text(f"blueprint b(width: dim = 8 in {domain}) {{ {body} }}", encoding="utf-8")
    assert [d.code for d in check(path)] == codes


def test_what_a_called_blueprint_requires_is_known_to_its_callers(tmp_path: Path) -> None:
    path = tmp_path / "b.esp"
    path.write_text(
        "blueprint inner(size: dim = 8, parts: dim = 2) {\n"
        '    require size % parts == 0: "parts share the size"\n'
        "    input x: f32[N, size]\n\n    output relu(x)\n}\n"
        "blueprint outer(width: dim = 8, heads: dim = 2) {\n    input x: f32[N, width]\n"
        "    h = x |> inner(size=width, parts=heads)\n"
        "    output h |> reshape([N, heads, width // heads])\n}\n",
        encoding="utf-8",
    )
    assert check(path) == []


def test_a_mismatch_that_a_require_would_mend_names_it(tmp_path: Path) -> None:
    path = tmp_path / "b.esp"
    path.write_text(f"blueprint b(width: dim = 64, heads: dim = 8) {{ {HEADS} }}", encoding="utf-8")
    (found,) = check(path)
    assert found.help == 'say so where it is true: require width % heads == 0: "why"'
