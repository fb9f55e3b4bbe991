"""Gaussian process regression that is fitted by scikit-learn and evaluated by NumPy from plain numbers.

The kernel is Matern's with exponent 3/2, since times have kinks, with a length for each figure, plus noise
(Rasmussen & Williams 2006, section 4.2 and algorithm 2.1); its parameters are those of the greatest marginal
likelihood. Of many points the first alone settle the parameters and the deviation, which is then an upper
bound; all count for the mean. Data and parameters are all that is kept: factors are computed again, so a fit
can be written down as JSON and nothing in a file runs.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from esper.errors import MissingPackage

Floats = NDArray[np.float64]

LEAST_SPREAD = 0.5
"""A figure that hardly differs in the data is divided by this, not by its own deviation."""

LENGTHS = (0.2, 50.0)
AMPLITUDES = (1e-3, 1e2)
NOISES = (1e-5, 1.0)
SETTLING = 600
"""Points that settle the parameters and the deviation: the time of both grows with their cube."""


@dataclass(frozen=True)
class Gaussian:
    """A fitted process of n points with d figures.

    points: [n, d], as given. targets: [n], around `offset`. variances: [n], of the noise of each point.
    amplitude: the process's variance. lengths: [d], in units of `scale`.
    """

    points: Floats
    targets: Floats
    variances: Floats
    offset: float
    scale: Floats
    amplitude: float
    lengths: Floats

    @cached_property
    def _covariance(self) -> Floats:
        found: Floats = self._kernel(self.points) + np.diag(self.variances)
        return found

    @cached_property
    def _weights(self) -> Floats:
        """Of the points in the mean."""
        return np.linalg.solve(self._covariance, self.targets).astype(np.float64)

    @cached_property
    def _inverse(self) -> Floats:
        """The inverse of the lower factor of the covariance of the points that settle the deviation."""
        found: Floats = np.linalg.inv(np.linalg.cholesky(self._covariance[:SETTLING, :SETTLING]))
        return found

    def __call__(self, points: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation [m] of the process at `points` [m, d], noise left out."""
        kernel = self._kernel(points)
        known = np.sum((self._inverse @ kernel[:, :SETTLING].T) ** 2, axis=0)
        deviation: Floats = np.sqrt(np.maximum(self.amplitude - known, 0.0))
        return kernel @ self._weights + self.offset, deviation

    @property
    def noise(self) -> float:
        """The standard deviation of the noise of a typical point."""
        return float(np.sqrt(np.median(self.variances)))

    def _kernel(self, points: Floats) -> Floats:
        steps = self.scale * self.lengths
        ours, theirs = points / steps, self.points / steps
        squares = np.sum(ours**2, 1)[:, None] + np.sum(theirs**2, 1)[None] - 2 * ours @ theirs.T
        distances = np.sqrt(3.0 * np.maximum(squares, 0.0))
        found: Floats = self.amplitude * (1.0 + distances) * np.exp(-distances)
        return found

    def to_document(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "points": self.points.tolist(),
            "targets": self.targets.tolist(),
            "variances": self.variances.tolist(),
            "offset": self.offset,
            "scale": self.scale.tolist(),
            "amplitude": self.amplitude,
            "lengths": self.lengths.tolist(),
        }

    @staticmethod
    def from_document(found: dict[str, Any]) -> Gaussian:
        """What `to_document` gave. Raises `KeyError`, `TypeError` or `ValueError` for anything else."""
        arrays = {
            name: np.array(found[name], dtype=np.float64)
            for name in ("points", "targets", "variances", "scale", "lengths")
        }
        count, width = arrays["points"].shape
        shapes = {"targets": (count,), "variances": (count,), "scale": (width,), "lengths": (width,)}
        for name, shape in shapes.items():
            if arrays[name].shape != shape:
                raise ValueError(f"`{name}` has the shape {arrays[name].shape}, not {shape}")
        offset, amplitude = float(found["offset"]), float(found["amplitude"])
        if not np.isfinite([offset, amplitude, *(array.sum() for array in arrays.values())]).all():
            raise ValueError("a number is not finite")
        points, targets, variances, scale, lengths = arrays.values()
        return Gaussian(points, targets, variances, offset, scale, amplitude, lengths)


def fitted(points: Sequence[Sequence[float]], targets: Sequence[float], known: Sequence[float]) -> Gaussian:
    """The process that explains `targets` [n] at `points` [n, d] best.

    known: [n], standard deviations of each target's own noise; what all share is found beside it.
    Raises `MissingPackage`.
    """
    try:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel
    except ImportError:
        purpose = "fitting a device's profile"
        raise MissingPackage(package="scikit-learn", purpose=purpose, extra="search") from None

    x, y = np.array(points, dtype=np.float64), np.array(targets, dtype=np.float64)
    scale = np.maximum(x.std(axis=0), LEAST_SPREAD)
    offset = float(np.median(y))
    noise = np.array(known, dtype=np.float64) ** 2
    shape = Matern(np.full(x.shape[1], 2.0), LENGTHS, nu=1.5)
    start = ConstantKernel(max(float(np.var(y)), 0.01), AMPLITUDES) * shape
    own = np.maximum(noise, 1e-8)[:SETTLING]
    model = GaussianProcessRegressor(start + WhiteKernel(0.01, NOISES), alpha=own)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a parameter at its bound is a figure of no use
        model.fit((x / scale)[:SETTLING], (y - offset)[:SETTLING])
    smooth, white = model.kernel_.k1, model.kernel_.k2
    return Gaussian(
        points=x,
        targets=y - offset,
        variances=noise + float(white.noise_level),
        offset=offset,
        scale=scale,
        amplitude=float(smooth.k1.constant_value),
        lengths=np.atleast_1d(np.array(smooth.k2.length_scale, dtype=np.float64)) * np.ones(x.shape[1]),
    )
