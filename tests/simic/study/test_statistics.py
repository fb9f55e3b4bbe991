"""Intervals and paired tests, against scipy's own; Holm's procedure, by its definition."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats  # type: ignore[import-untyped]

from esper.simic.study.statistics import holm, interval, paired

SAMPLES = st.lists(st.floats(0.0, 1.0, allow_subnormal=False), min_size=3, max_size=20).filter(
    lambda values: max(values) - min(values) > 1e-6
)
PS = st.lists(st.floats(0.0, 1.0), min_size=1, max_size=12)


@given(SAMPLES)
def test_interval_is_students(values: list[float]) -> None:
    found = interval(values)
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)


@given(SAMPLES)
def test_paired_test_is_scipys(first: list[float]) -> None:
    second = [value * 0.5 + 0.1 * ((index * 7) % 5) for index, value in enumerate(first)]
    found = paired(first, second)
    expected = stats.ttest_rel(first, second)
    assert found.p == pytest.approx(expected.pvalue, abs=1e-9)
    assert found.difference.mean == pytest.approx(sum(first) / len(first) - sum(second) / len(second))


@given(SAMPLES, st.floats(-0.1, 0.1))
def test_a_supposed_difference_is_tested_as_scipy_does(first: list[float], supposed: float) -> None:
    found = paired(first, [0.0] * len(first), supposed)
    assert found.p == pytest.approx(stats.ttest_1samp(first, supposed).pvalue, abs=1e-9)


def test_equal_arms_differ_by_nothing() -> None:
    found = paired([0.5, 0.7, 0.6], [0.5, 0.7, 0.6])
    assert (found.difference.mean, found.p) == (0.0, 1.0)


def test_single_value_has_an_interval_of_no_width() -> None:
    found = interval([0.4])
    assert found.low == found.mean == found.high == 0.4


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


@given(PS)
def test_holm_keeps_the_order_and_never_lowers(ps: list[float]) -> None:
    adjusted = holm(ps)
    assert all(p <= a <= 1.0 for p, a in zip(ps, adjusted, strict=True))
    order = sorted(range(len(ps)), key=lambda index: ps[index])
    assert [adjusted[i] for i in order] == sorted(adjusted)
    assert max(adjusted) <= min(1.0, len(ps) * max(ps))
