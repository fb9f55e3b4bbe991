"""Size arithmetic: sympy as the oracle, evaluation as the meaning, printing as a round trip."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import sympy
from hypothesis import assume, given
from hypothesis import strategies as st

from esper.ir import Dim, Size, evaluate_size, parse_size, product, size_symbols, substitute, symbol
from esper.ir.dims import Quotient, floor_divide
from esper.ir.errors import SizeOverflow, UnboundSize

N, M = symbol("N"), symbol("M")


def sizes(divisions: bool = True) -> st.SearchStrategy[Size]:
    """Sums, differences, products and, if asked for, floor divisions by small positive sizes."""
    leaves: st.SearchStrategy[Size] = st.one_of(st.integers(-9, 9), st.sampled_from((N, M, symbol("S.0"))))

    def grow(inner: st.SearchStrategy[Size]) -> st.SearchStrategy[Size]:
        operations: list[Callable[[Size, Size], Size]] = [
            lambda a, b: a + b,
            lambda a, b: a - b,
            lambda a, b: a * b,
        ]
        grown = [st.builds(operation, inner, inner) for operation in operations]
        if divisions:
            grown.append(st.builds(floor_divide, inner, st.sampled_from((1, 2, 3, N, 2 * M, N + 1))))
        return st.one_of(grown)

    return st.recursive(leaves, grow, max_leaves=6)


VALUES = st.fixed_dictionaries({name: st.integers(1, 12) for name in ("N", "M", "S.0")})


def to_sympy(size: Size) -> sympy.Expr:
    """The same polynomial in sympy, built term by term; nothing is parsed."""
    if isinstance(size, int):
        return sympy.Integer(size)
    total = sympy.Integer(0)
    for monomial, coefficient in size.terms:
        term = sympy.Integer(coefficient)
        for atom, power in monomial:
            if isinstance(atom, Quotient):
                value = sympy.floor(to_sympy(atom.numerator) / to_sympy(atom.denominator))
            else:
                value = sympy.Symbol(atom, positive=True, integer=True)
            term *= value**power
        total += term
    return total


@given(sizes(divisions=False), sizes(divisions=False))
def test_polynomials_are_those_of_sympy(a: Size, b: Size) -> None:
    for ours, theirs in ((a + b, to_sympy(a) + to_sympy(b)), (a * b, to_sympy(a) * to_sympy(b))):
        assert sympy.expand(to_sympy(ours) - theirs) == 0


@given(sizes(divisions=False), sizes(divisions=False))
def test_equal_polynomials_have_one_form(a: Size, b: Size) -> None:
    assert (a == b) is (sympy.expand(to_sympy(a) - to_sympy(b)) == 0)


@given(sizes(), sizes(), VALUES)
def test_arithmetic_on_forms_is_arithmetic_on_values(a: Size, b: Size, values: dict[str, int]) -> None:
    x, y = evaluate_size(a, values), evaluate_size(b, values)
    assert evaluate_size(a + b, values) == x + y
    assert evaluate_size(a - b, values) == x - y
    assert evaluate_size(a * b, values) == x * y


@given(sizes(), st.sampled_from((1, 2, 3, 7, N, M, 2 * N, N * M, N + 1)), VALUES)
def test_division_rounds_down_and_the_remainder_is_left(a: Size, b: Size, values: dict[str, int]) -> None:
    x, y = evaluate_size(a, values), evaluate_size(b, values)
    assert evaluate_size(floor_divide(a, b), values) == x // y
    assert evaluate_size(a - b * floor_divide(a, b), values) == x % y


@given(sizes(), sizes(divisions=False))
def test_a_product_divides_by_its_factor(a: Size, b: Size) -> None:
    assume(b != 0)
    assert floor_divide(a * b, b) == a
    assert a * b - b * floor_divide(a * b, b) == 0


@given(sizes())
def test_a_size_reads_back_from_its_printed_form(size: Size) -> None:
    assert parse_size(str(size)) == size


@given(sizes(), VALUES)
def test_substituting_all_symbols_is_evaluation(size: Size, values: dict[str, int]) -> None:
    assert substitute(size, values) == evaluate_size(size, values)


@given(sizes(), sizes())
def test_equal_sizes_hash_alike(a: Size, b: Size) -> None:
    assert a != b or hash(a) == hash(b)
    assert hash(a + b) == hash(b + a)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (N * 2 + 3, "2*N + 3"),
        ((N - 1) // 2 + 1, "(N - 1)//2 + 1"),
        (N * M - N, "M*N - N"),
        (4 * N // 2, "2*N"),
        (N // N, "1"),
        (N - N, "0"),
    ],
)
def test_sizes_print_in_normal_form(size: Size, text: str) -> None:
    assert str(size) == text


def test_a_result_without_symbols_is_an_integer() -> None:
    assert type(N - N + 3) is int
    assert type(evaluate_size(N, {"N": 3})) is int


def test_the_symbols_of_a_size_include_those_inside_divisions() -> None:
    assert size_symbols((N + 1) // (2 * M)) == {"N", "M"}


def test_a_symbol_without_a_value_is_named() -> None:
    with pytest.raises(UnboundSize, match="`M` in `M \\+ N`"):
        evaluate_size(N + M, {"N": 1})


def test_a_size_that_would_grow_beyond_bounds_is_refused() -> None:
    size: Size = N
    with pytest.raises(SizeOverflow):
        for _ in range(80):
            size = size * (N + 1)
    with pytest.raises(SizeOverflow):
        product([N * 2**40, 2**40])


def test_a_size_may_reach_each_bound_and_not_pass_it() -> None:
    many = parse_size(" + ".join(f"N{index}" for index in range(64)))
    deep = product([N] * 16)
    great = N * (2**63 - 1)
    for size, more in ((many, M), (great, N)):
        with pytest.raises(SizeOverflow):
            _ = size + more
    with pytest.raises(SizeOverflow):
        _ = deep * N


def test_division_by_zero_is_refused() -> None:
    with pytest.raises(ZeroDivisionError):
        _ = N // 0


def test_a_size_is_no_integer_however_it_is_asked() -> None:
    assert isinstance(N, Dim)
    assert N != 1
