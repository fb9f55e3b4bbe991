"""Gaussian processes: what scikit-learn fits is what NumPy evaluates, written down or not."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern

from esper.tezzeret.prediction import gaussian
from esper.tezzeret.prediction.gaussian import Gaussian, fitted


@pytest.fixture(scope="module")
def process() -> Gaussian:
    rng = np.random.default_rng(0)
    points = rng.uniform(4, 12, (30, 2))
    targets = np.sin(points[:, 0]) + 0.1 * points[:, 1] + rng.normal(0, 0.01, 30)
    return fitted(points.tolist(), targets.tolist(), [0.01] * 30)


def test_a_smooth_function_is_recovered_between_its_points(process: Gaussian) -> None:
    points = np.random.default_rng(1).uniform(5, 11, (40, 2))
    means, _ = process(points)
    errors = means - (np.sin(points[:, 0]) + 0.1 * points[:, 1])
    assert np.median(np.abs(errors)) < 0.05


def test_mean_and_deviation_are_those_of_scikit_learn(process: Gaussian) -> None:
    kernel = ConstantKernel(process.amplitude, "fixed") * Matern(process.lengths, "fixed", nu=1.5)
    theirs = GaussianProcessRegressor(kernel, alpha=process.variances, optimizer=None)
    theirs.fit(process.points / process.scale, process.targets)
    points = np.random.default_rng(2).uniform(0, 16, (25, 2))
    means, deviations = theirs.predict(points / process.scale, return_std=True)
    ours = process(points)
    np.testing.assert_allclose(ours[0], means + process.offset, atol=1e-8)
    np.testing.assert_allclose(ours[1], deviations, atol=1e-6)


def test_far_from_all_points_the_offset_is_left_with_the_whole_uncertainty(process: Gaussian) -> None:
    means, deviations = process(np.array([[500.0, 500.0]]))
    assert means[0] == pytest.approx(process.offset, abs=1e-6)
    assert deviations[0] == pytest.approx(process.amplitude**0.5, rel=1e-6)


def test_what_is_written_down_predicts_alike(process: Gaussian) -> None:
    again = Gaussian.from_document(json.loads(json.dumps(process.to_document())))
    points = np.random.default_rng(3).uniform(0, 16, (5, 2))
    for ours, theirs in zip(process(points), again(points), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("name", ["targets", "lengths", "scale", "variances"])
def test_a_vector_of_another_size_is_refused(process: Gaussian, name: str) -> None:
    document = process.to_document()
    document[name] = document[name][:-1]
    with pytest.raises(ValueError, match=name):
        Gaussian.from_document(document)


def test_of_many_points_all_count_for_the_mean_and_the_first_for_the_deviation(
    process: Gaussian, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = np.random.default_rng(3).uniform(4, 12, (10, 2))
    few = replace(
        process, points=process.points[:20], targets=process.targets[:20], variances=process.variances[:20]
    )
    (means, least), (_, expected) = process(points), few(points)
    monkeypatch.setattr(gaussian, "SETTLING", 20)
    found = replace(process)(points)
    np.testing.assert_allclose(found[0], means)
    np.testing.assert_allclose(found[1], expected)
    assert (expected >= least).all()
