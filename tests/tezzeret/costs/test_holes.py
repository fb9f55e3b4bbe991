"""What is worked out for holes is what would be worked out for the numbers in them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from esper.ir.dims import Size, floor_divide, symbol
from esper.ir.types import DType, TensorType
from esper.tezzeret.costs.holes import (
    WRITTEN_OUT,
    Apart,
    counting,
    filled,
    filled_type,
    hole,
    pattern,
    skeleton,
    standing,
)

COUNT = 3
VALUES = st.lists(st.integers(1, 12), min_size=COUNT, max_size=COUNT)


def sizes(*others: Size) -> st.SearchStrategy[Size]:
    """Sums, products and quotients of holes, small numbers and `others`."""
    leaves: st.SearchStrategy[Size] = st.one_of(
        st.integers(-3, 9), st.sampled_from((*map(hole, range(COUNT)), *others))
    )

    def grow(inner: st.SearchStrategy[Size]) -> st.SearchStrategy[Size]:
        divisors = st.sampled_from((2, 3, hole(0)))
        return st.one_of(
            st.builds(lambda a, b: a + b, inner, inner),
            st.builds(lambda a, b: a * b, inner, inner),
            st.builds(floor_divide, inner, divisors),
        )

    return st.recursive(leaves, grow, max_leaves=5)


@given(sizes(), VALUES)
def test_counting_gives_the_number_that_a_size_is(size: Size, values: list[int]) -> None:
    assert counting(size)(values) == filled(size, values)


@given(sizes(symbol("N")), VALUES, st.sampled_from((1, 4, hole(1))))
def test_holes_may_be_filled_before_or_after_arithmetic(size: Size, values: list[int], other: Size) -> None:
    assert filled(size * other, values) == filled(size, values) * filled(other, values)
    assert filled(size + other, values) == filled(size, values) + filled(other, values)
    assert filled(floor_divide(size, other), values) == floor_divide(
        filled(size, values), filled(other, values)
    )


@given(st.lists(sizes(symbol("N")), max_size=4), VALUES)
def test_a_skeleton_with_its_sizes_is_the_type(shape: list[Size], values: list[int]) -> None:
    type = TensorType(DType.F32, tuple(shape))
    found, own = skeleton(type)
    assert filled_type(filled_type(found, own), values) == filled_type(type, values)
    assert all(isinstance(filled(size, values), int) for size in own)


@given(st.lists(st.integers(-2, 2 * WRITTEN_OUT)))
def test_a_pattern_stands_for_its_values(values: list[int]) -> None:
    codes, own = pattern(values)
    assert [filled(size, own) for size in standing(codes)] == values
    assert len(set(own)) == len(own) and all(value > WRITTEN_OUT for value in own)


@given(st.lists(sizes(symbol("N")), max_size=4), VALUES)
def test_sizes_are_apart_exactly_where_filling_makes_none_equal(found: list[Size], values: list[int]) -> None:
    values = [value + index * 1000 for index, value in enumerate(values)]  # no two holes are equal
    different = {*found, 0, 1}
    if Apart.of(found).holds(values):
        assert len({filled(size, values) for size in different}) == len(different)


def test_sizes_that_meet_are_not_apart() -> None:
    found = Apart.of([hole(0), 2 * hole(0), hole(1), 3])
    assert found.holds((8, 9))
    assert not found.holds((8, 16)) and not found.holds((3, 9))
    assert Apart.of([hole(0), hole(1)]).holds((8, 9))
