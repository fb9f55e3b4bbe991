"""Means over paired seeds with 95 % intervals, and paired tests: Student's t throughout.

The seeds of two arms are the same data, initial host and order of batches, so differences are taken seed by
seed. Several tests of one table are corrected by Holm's procedure (Holm 1979).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from esper.errors import MissingPackage

try:
    from scipy.stats import t as student  # type: ignore[import-untyped]
except ImportError as error:
    raise MissingPackage(package="scipy", purpose="a study's intervals", extra="growth") from error

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean, and the ends of its 95 % interval."""

    mean: float
    low: float
    high: float

    @property
    def in_points(self) -> Interval:
        """Hundredths of what it is in."""
        return Interval(100 * self.mean, 100 * self.low, 100 * self.high)


@dataclass(frozen=True)
class PairedTest:
    """The mean difference of two arms with its interval, the standard deviation of the pairs, and p.

    p: of a difference that is what was supposed, two-sided, by the paired t test.
    """

    difference: Interval
    deviation: float
    p: float


def interval(values: Sequence[float]) -> Interval:
    """Mean ± t(0.975, n - 1) sd / sqrt(n); a single value has an interval of no width."""
    mean = fmean(values)
    if len(values) < 2:
        return Interval(mean, mean, mean)
    reach = student.ppf(0.5 + CONFIDENCE / 2, len(values) - 1) * stdev(values) / math.sqrt(len(values))
    return Interval(mean, mean - float(reach), mean + float(reach))


def paired(first: Sequence[float], second: Sequence[float], supposed: float = 0.0) -> PairedTest:
    """`first` minus `second`, seed by seed; both in the order of the same seeds."""
    differences = [a - b for a, b in zip(first, second, strict=True)]
    spread = stdev(differences) if len(differences) > 1 else 0.0
    beyond = abs(fmean(differences) - supposed)
    if spread == 0.0:
        return PairedTest(interval(differences), 0.0, 1.0 if beyond == 0.0 else 0.0)
    statistic = beyond * math.sqrt(len(differences)) / spread
    p = 2.0 * float(student.sf(statistic, len(differences) - 1))
    return PairedTest(interval(differences), spread, p)


def holm(ps: Sequence[float]) -> list[float]:
    """The values of p adjusted for their number: the k-th smallest of m times m - k + 1, never falling."""
    order = sorted(range(len(ps)), key=lambda index: ps[index])
    adjusted = [0.0] * len(ps)
    greatest = 0.0
    for rank, index in enumerate(order):
        greatest = max(greatest, min(1.0, (len(ps) - rank) * ps[index]))
        adjusted[index] = greatest
    return adjusted
