"""The MNIST-1D generator, against the published procedure and scipy's operators."""

import numpy as np
from scipy.interpolate import interp1d  # type: ignore[import-untyped]
from scipy.ndimage import gaussian_filter  # type: ignore[import-untyped]

from esper.simic import mnist1d


def interpolated(signal: mnist1d.Array, length: int) -> mnist1d.Array:
    line = interp1d(np.linspace(0, 1, len(signal)), signal)
    return np.asarray(line(np.linspace(0, 1, length)))


def test_templates_start_and_end_at_zero() -> None:
    digits = mnist1d.templates()
    assert digits.shape == (10, 12)
    assert np.allclose(digits[:, [0, -1]], 0.0)


def test_smoothing_is_the_gaussian_filter_of_scipy() -> None:
    noise = np.random.default_rng(1).standard_normal(72)
    assert np.allclose(mnist1d._gaussian_smoothing(72, 2.0) @ noise, gaussian_filter(noise, 2), atol=1e-12)


def test_subsampling_is_linear_interpolation() -> None:
    signal = np.random.default_rng(1).standard_normal(72)
    assert np.allclose(mnist1d._resampling(72, 40) @ signal, interpolated(signal, 40), atol=1e-12)


def test_dilation_is_interpolation_of_the_padded_digit() -> None:
    digits = mnist1d.templates()
    for padding in (36, 47, 60):
        padded = np.concatenate([digits[3], np.zeros(padding)])
        dilated = mnist1d._dilate(digits[3:4], np.array([12 + padding]), 72)[0]
        assert np.allclose(dilated, interpolated(padded, 72), atol=1e-12)


def test_without_distortion_an_example_is_its_resampled_template() -> None:
    plain = mnist1d.Distortion(
        padding=(60, 60), max_translation=1, scale=0, correlated_noise=0, white_noise=0, shear=0
    )
    x, y = mnist1d.draw(10, np.random.default_rng(0), plain)
    digits = np.concatenate([mnist1d.templates(), np.zeros((10, 60))], axis=1)
    for signal, label in zip(x, y, strict=True):
        assert np.allclose(signal, interpolated(digits[label], 40), atol=1e-12)


def test_equal_seeds_draw_equal_examples_and_classes_are_balanced() -> None:
    first, labels = mnist1d.draw(200, np.random.default_rng(5))
    again, _ = mnist1d.draw(200, np.random.default_rng(5))
    assert np.array_equal(first, again)
    assert np.bincount(labels).tolist() == [20] * 10
