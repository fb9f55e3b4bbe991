"""MNIST-1D, generated: ten one-dimensional digit templates, distorted until they are hard to tell apart.

The procedure and its constants are those of Greydanus, "Scaling down deep learning" (2020,
arXiv:2011.14439): pad, dilate, scale, translate, correlated noise, white noise, shear, subsample.
A model that knows about translation does well, one that does not does badly, which is what makes
the set useful for judging a grown module. All examples of a class are drawn at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

TEMPLATES = (
    (5, 6, 6.5, 6.75, 7, 7, 7, 7, 6.75, 6.5, 6, 5),
    (5, 3, 3, 3.4, 3.8, 4.2, 4.6, 5, 5.4, 5.8, 5, 5),
    (5, 6, 6.5, 6.5, 6, 5.25, 4.75, 4, 3.5, 3.5, 4, 5),
    (5, 6, 6.5, 6.5, 6, 5, 5, 6, 6.5, 6.5, 6, 5),
    (5, 4.4, 3.8, 3.2, 2.6, 2.6, 5, 5, 5, 5, 5, 5),
    (5, 3, 3, 3, 3, 5, 6, 6.5, 6.5, 6, 4.5, 5),
    (5, 4, 3.5, 3.25, 3, 3, 3, 3, 3.25, 3.5, 4, 5),
    (5, 7, 7, 6.6, 6.2, 5.8, 5.4, 5, 4.6, 4.2, 5, 5),
    (5, 4, 3.5, 3.5, 4, 5, 5, 4, 3.5, 3.5, 4, 5),
    (5, 4, 3.5, 3.5, 4, 5, 5, 5, 5, 4.7, 4.3, 5),
)


@dataclass(frozen=True)
class Distortion:
    """The published constants. Lengths are in samples of the dilated signal, scales in its units."""

    padding: tuple[int, int] = (36, 60)
    max_translation: int = 48
    scale: float = 0.4
    correlated_noise: float = 0.25
    correlation_length: float = 2.0
    white_noise: float = 0.02
    shear: float = 0.75
    length: int = 40


def templates() -> Array:
    """The ten digits, [10, 12]: each standardised, then shifted to start at zero, then divided by six."""
    digits = np.asarray(TEMPLATES, dtype=np.float64)
    digits = (digits - digits.mean(1, keepdims=True)) / digits.std(1, keepdims=True)
    whitened: Array = (digits - digits[:, :1]) / 6.0
    return whitened


def draw(
    count: int, rng: np.random.Generator, distortion: Distortion = Distortion()
) -> tuple[Array, NDArray[np.int64]]:
    """`count` examples, classes balanced to within one, in random order: x [count, 40], y [count].

    x is not standardised: the caller does that with the training split's mean and deviation.
    """
    digits = templates()
    labels = np.arange(count, dtype=np.int64) % len(digits)
    low, high = distortion.padding
    dilated_length = digits.shape[1] + high
    padded_lengths = digits.shape[1] + rng.integers(low, high + 1, size=count)
    signals = _dilate(digits[labels], padded_lengths, dilated_length)
    inside = _support(padded_lengths, dilated_length, digits.shape[1])

    signals *= 1.0 + distortion.scale * (rng.random((count, 1)) - 0.5)
    shifts = rng.integers(0, distortion.max_translation, size=count)
    rolled = (np.arange(dilated_length) - shifts[:, None]) % dilated_length
    signals = np.take_along_axis(signals, rolled, axis=1)
    inside = np.take_along_axis(inside, rolled, axis=1)

    noise = distortion.correlated_noise * rng.standard_normal(signals.shape)
    smooth = noise @ _gaussian_smoothing(dilated_length, distortion.correlation_length).T
    signals = np.where(inside, signals, smooth)
    signals += distortion.white_noise * rng.standard_normal(signals.shape)

    slopes = distortion.shear * (rng.random((count, 1)) - 0.5)
    signals -= slopes * np.linspace(-0.5, 0.5, dilated_length)
    signals = signals @ _resampling(dilated_length, distortion.length).T

    order = rng.permutation(count)
    return signals[order], labels[order]


def _dilate(digits: Array, padded_lengths: NDArray[np.int64], length: int) -> Array:
    """Each digit, padded with zeros to its own length, resampled linearly to `length`: [count, length]."""
    positions = np.linspace(0.0, 1.0, length) * (padded_lengths[:, None] - 1)
    left = np.floor(positions).astype(np.int64)
    padded = np.zeros((len(digits), int(padded_lengths.max()) + 1))
    padded[:, : digits.shape[1]] = digits
    fraction = positions - left
    low = np.take_along_axis(padded, left, axis=1)
    high = np.take_along_axis(padded, left + 1, axis=1)
    return low * (1.0 - fraction) + high * fraction


def _support(padded_lengths: NDArray[np.int64], length: int, width: int) -> NDArray[np.bool_]:
    """Where the dilated signal is the digit and not padding: the interpolation touches a template sample."""
    positions = np.linspace(0.0, 1.0, length) * (padded_lengths[:, None] - 1)
    return np.asarray(positions < width, dtype=np.bool_)


def _gaussian_smoothing(length: int, sigma: float) -> Array:
    """The matrix of a Gaussian filter cut at four deviations, with half-sample mirrored ends."""
    radius = int(4.0 * sigma + 0.5)
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    weights /= weights.sum()
    matrix = np.zeros((length, length))
    for row in range(length):
        for offset, weight in zip(offsets, weights, strict=True):
            column = (row + int(offset)) % (2 * length)
            matrix[row, min(column, 2 * length - 1 - column)] += weight
    return matrix


def _resampling(length: int, target: int) -> Array:
    """The matrix of linear interpolation from `length` evenly spaced samples to `target`."""
    positions = np.linspace(0.0, length - 1.0, target)
    left = np.minimum(np.floor(positions).astype(np.int64), length - 2)
    fraction = positions - left
    matrix = np.zeros((target, length))
    matrix[np.arange(target), left] = 1.0 - fraction
    matrix[np.arange(target), left + 1] += fraction
    return matrix
