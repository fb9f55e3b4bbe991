"""Bounds of sizes and proofs that they differ hold for whatever the symbols stand for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esper.ir.dims import Size, evaluate_size, floor_divide, symbol
from esper.lang.inequality import bounds, never_equal

H, T, N = symbol("H"), symbol("T"), symbol("N")

NUMBERS = st.integers(-40, 40)


def _grown(inner: st.SearchStrategy[Size]) -> st.SearchStrategy[Size]:
    return st.one_of(
        st.builds(lambda a, b: a + b, inner, inner),
        st.builds(lambda a, b: a - b, inner, inner),
        st.builds(lambda a, b: a * b, inner, inner),
        st.builds(floor_divide, inner, st.integers(1, 9)),
        st.builds(lambda a, b: floor_divide(a, b * b + 1), inner, inner),
    )


SIZES = st.recursive(st.one_of(st.sampled_from([H, T, N]), NUMBERS), _grown, max_leaves=5)
VALUES = st.fixed_dictionaries({name: st.integers(1, 30) for name in ("H", "T", "N")})


@given(SIZES, VALUES)
def test_a_size_lies_between_its_bounds(size: Size, values: dict[str, int]) -> None:
    least = min(values.values())
    low, high = bounds(size, least)
    assert low <= evaluate_size(size, values) <= high


@given(SIZES, SIZES, VALUES)
def test_what_is_proved_to_differ_differs(one: Size, other: Size, values: dict[str, int]) -> None:
    if never_equal(one, other, min(values.values())):
        assert evaluate_size(one, values) != evaluate_size(other, values)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (H, H // 2),
        (H, H + 1),
        (H, 4 * H),
        (2 * (T // 2), 767),  # an even number and an odd one
        (H * H, 10007),  # a prime
        (6 * T + 4 * N, 2 * H + 1),
        (H * T, -1),
        (4, 8),
    ],
)
def test_proofs(one: Size, other: Size) -> None:
    assert never_equal(one, other)
    assert never_equal(other, one)


@pytest.mark.parametrize(
    ("one", "other"), [(H, 100 * (H // 100)), (H * H, 10000), (H // 64, 7), (H * T, 1009), (H, 1), (H, T)]
)
def test_what_some_sizes_make_equal_is_not_proved_to_differ(one: Size, other: Size) -> None:
    assert not never_equal(one, other)
    assert not never_equal(other, one)
