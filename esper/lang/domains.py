"""The domain of a parameter: what it may be, and what a search may choose.

`in {3, 5}` is a set, `in 1..8 step 2` the same as `in {1, 3, 5, 7}`, and `in 0.001..0.1 log` an interval.
"""

from __future__ import annotations

from dataclasses import dataclass

from esper.lang.ast import Range
from esper.lang.errors import BadRange
from esper.lang.values import Static, describe, is_size, shown

MAX_VALUES = 10_000


@dataclass(frozen=True, slots=True)
class Interval:
    """All numbers from `low` to `high`, both included; is_log: a search draws them evenly by magnitude."""

    low: float
    high: float
    is_log: bool = False

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int | float) and self.low <= value <= self.high

    def __str__(self) -> str:
        return f"{self.low}..{self.high}{' log' if self.is_log else ''}"


Domain = tuple[Static, ...] | Interval


def spelled(domain: Domain) -> str:
    """A domain as a source writes it after `in`."""
    return str(domain) if isinstance(domain, Interval) else "{" + ", ".join(map(shown, domain)) + "}"


def range_of(written: Range, kind: str, low: Static, high: Static, step: Static | None) -> Domain:
    """The domain that a range with these bounds is, for a parameter of `kind`. Raises `BadRange`."""
    scale = "" if written.scale is None else written.scale.text
    if kind not in ("dim", "int", "float"):
        raise _bad(written, f"a range of {kind} values", "list them: in {…}")
    if scale not in ("", "log"):
        raise _bad(written, f"`{scale}` after a range", "only `log` may stand there")
    numbers = [value for value in (low, high, step) if value is not None]
    if kind != "float" and not all(isinstance(value, int) and is_size(value) for value in numbers):
        raise _bad(
            written, f"a range of {kind} values from {describe(low)} to {describe(high)}", "use integers"
        )
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in numbers):
        raise _bad(written, f"a range from {describe(low)} to {describe(high)}", "use numbers")
    assert isinstance(low, int | float) and isinstance(high, int | float)
    if low > high:
        raise _bad(written, f"a range from {low} up to {high}", "the smaller bound comes first")
    if scale and (kind != "float" or step is not None or low <= 0):
        raise _bad(written, "`log` here", "it is for ranges of floats above 0 without a step")
    if kind == "float" and step is None:
        return Interval(float(low), float(high), bool(scale))
    stride = 1 if step is None else step
    assert isinstance(stride, int | float)
    if stride <= 0:
        raise _bad(written, f"a step of {stride}", "a step is above 0")
    count = int((high - low) / stride + 1e-9) + 1
    if count > MAX_VALUES:
        raise _bad(written, f"a range of {count} values", f"take a larger step: at most {MAX_VALUES} values")
    values = (low + index * stride for index in range(count))
    return tuple(float(value) if kind == "float" else value for value in values)


def _bad(written: Range, reason: str, way_out: str) -> BadRange:
    return BadRange(reason=reason, way_out=way_out, span=written.span)
