"""What outcomes so far say about points that have none: a Gaussian process over a space.

It models not objectives but their ranks, as quantiles of the normal distribution: any increasing function
of an objective gives the same model, nothing is too large for it, and what breaks constraints or is refused
is simply behind (normal scores; arXiv:1909.13595). Its covariance is a sum of two: one linear in the
coordinates, for what each parameter does by itself, and one that falls with the square of the distance, for
what they do together. How much of each, how far the second reaches, and how much of a rank is noise are those
of a few under which the ranks are likeliest (Rasmussen and Williams 2006, chapters 2 and 5).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from esper.tezzeret.algorithms.coordinates import Coordinates, Rows
from esper.tezzeret.space import Point, Space

SHARES = (0.0, 0.3, 0.7)
"""Of the variance, what the linear covariance may have."""
REACHES = (0.25, 0.5, 1.0)
"""Of the other one, in the greatest distance that there is between two points."""
NOISES = (0.003, 0.03, 0.2)
"""The variance of what no covariance explains, where ranks vary by 1."""
DOUBT = 2.0
"""Deviations by which a point may be better than expected: how much the unknown is worth a look."""
AGAIN = 1.5
"""By so much more has to be known before the covariance is chosen anew."""


@dataclass(frozen=True)
class _Covariance:
    """centre, scale: of the linear part, so that it varies by `share` over what was learned from."""

    share: float
    reach: float
    noise: float

    def between(self, one: Rows, other: Rows, centre: Rows, scale: float) -> Rows:
        squares = (one**2).sum(1)[:, None] + (other**2).sum(1)[None, :] - 2 * one @ other.T
        found: Rows = (1 - self.share) * np.exp(-np.maximum(squares, 0.0) / self.reach**2)
        if self.share:
            found += self.share * scale * ((one - centre) @ (other - centre).T)
        return found


class Surrogate:
    """Learns from points and their ranks, the less the better, and tells which others promise most."""

    def __init__(self, space: Space) -> None:
        self._coordinates = Coordinates(space)
        self._covariance: _Covariance | None = None
        self._chosen_at = 0

    def learn(self, points: Sequence[Point], ranks: Sequence[tuple[float, ...]]) -> None:
        """From these alone: two or more points, and what is less for a better one."""
        rows, scores = self._coordinates.rows(points), normal_scores(ranks)
        self._rows = rows
        self._centre = rows.mean(0)
        self._scale = 1 / max(float(((rows - self._centre) ** 2).sum(1).mean()), 1e-9)
        if self._covariance is None or len(points) >= AGAIN * self._chosen_at:
            self._covariance, self._chosen_at = self._likeliest(rows, scores), len(points)
        among = self._covariance.between(rows, rows, self._centre, self._scale)
        self._inverse = np.linalg.inv(among + self._covariance.noise * np.eye(len(rows)))
        self._weights = self._inverse @ scores

    def promise(self, points: Sequence[Point]) -> list[float]:
        """How good each may turn out to be, less for better: what is expected less `DOUBT` deviations."""
        return self.promise_of_rows(self.rows(points))

    def rows(self, points: Sequence[Point]) -> Rows:
        """[points, width]: the same for every model of the space."""
        return self._coordinates.rows(points)

    def promise_of_rows(self, rows: Rows) -> list[float]:
        """`promise` of the points whose `rows` these are."""
        assert self._covariance is not None
        share = self._covariance.share
        known = self._covariance.between(rows, self._rows, self._centre, self._scale)
        own = 1 - share + share * self._scale * ((rows - self._centre) ** 2).sum(1)
        variance = own - ((known @ self._inverse) * known).sum(1)
        found: Rows = known @ self._weights - DOUBT * np.sqrt(np.maximum(variance, 0.0))
        return [float(one) for one in found]

    def _likeliest(self, rows: Rows, scores: Rows) -> _Covariance:
        longest = math.sqrt(self._coordinates.parameters)
        found: list[tuple[float, _Covariance]] = []
        for share, reach in itertools.product(SHARES, REACHES):
            bare = _Covariance(share, reach * longest, 0.0)
            values, vectors = np.linalg.eigh(bare.between(rows, rows, self._centre, self._scale))
            along = (vectors.T @ scores) ** 2
            for noise in NOISES:
                spread = np.maximum(values, 0.0) + noise
                unlikely = float((along / spread + np.log(spread)).sum())
                found.append((unlikely, _Covariance(share, bare.reach, noise)))
        return min(found, key=lambda entry: entry[0])[1]


def normal_scores(ranks: Sequence[tuple[float, ...]]) -> Rows:
    """The normal quantile of each rank's place among them, equal for equal ones: mean 0, variance 1 or 0."""
    places: dict[tuple[float, ...], list[int]] = {}
    for place, rank in enumerate(sorted(ranks)):
        places.setdefault(rank, []).append(place)
    normal = NormalDist()
    quantiles = {
        rank: normal.inv_cdf((sum(among) / len(among) + 0.5) / len(ranks)) for rank, among in places.items()
    }
    found = np.array([quantiles[rank] for rank in ranks])
    found -= found.mean()
    deviation = float(found.std())
    return found / deviation if deviation > 0 else found
