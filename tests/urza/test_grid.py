"""Extents: evaluated, printed and stored without evaluating code."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esper.urza.errors import MalformedExtent
from esper.urza.grid import CeilDiv, Extent, Product, Sum, evaluate, from_json, to_json, to_text

leaves = st.integers(0, 1000) | st.sampled_from(["M", "N", "BLOCK_M"])
extents: st.SearchStrategy[Extent] = st.recursive(
    leaves,
    lambda inner: (
        st.builds(Product, st.lists(inner, max_size=3).map(tuple))
        | st.builds(Sum, st.lists(inner, max_size=3).map(tuple))
        | st.builds(CeilDiv, inner, st.integers(1, 64))
    ),
)


@given(extents)
def test_json_round_trips(extent: Extent) -> None:
    assert from_json(to_json(extent)) == extent


def test_a_grid_is_evaluated_and_printed() -> None:
    extent = Product((CeilDiv("M", "BLOCK_M"), 3))
    assert evaluate(extent, {"M": 65, "BLOCK_M": 64}) == 6
    assert to_text(extent) == "ceil(M / BLOCK_M) * 3"
    beside = Product((Sum((extent, 1)), 2))
    assert evaluate(beside, {"M": 65, "BLOCK_M": 64}) == 14
    assert to_text(beside) == "(ceil(M / BLOCK_M) * 3 + 1) * 2"


@pytest.mark.parametrize("data", [True, None, 1.5, {}, [], ["pow", 1, 2], ["ceil_div", 1], ["product", [1]]])
def test_anything_else_is_refused(data: object) -> None:
    with pytest.raises(MalformedExtent):
        from_json(data)


@pytest.mark.parametrize("extent", ["missing", CeilDiv(4, 0)])
def test_what_has_no_value_is_named(extent: Extent) -> None:
    with pytest.raises(MalformedExtent, match=r"`missing`|`ceil\(4 / 0\)`"):
        evaluate(extent, {})
