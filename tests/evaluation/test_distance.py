"""Frechet's distance against scipy's matrix root, LSE against its definition."""

from __future__ import annotations

import numpy as np
import pytest
from lip_sync import lip_sync_error, pair_distances

from singer_core.evaluation.fidelity import frechet_distance

linalg = pytest.importorskip("scipy.linalg")


@pytest.mark.parametrize(("count", "width"), [(200, 6), (12, 30), (2, 3)])  # full rank, and far from it
def test_frechet_distance_is_that_of_scipys_root(count, width):
    rng = np.random.default_rng(count)
    x = rng.normal(size=(count, width)) @ rng.normal(size=(width, width))
    y = 1.5 * rng.normal(size=(count + 5, width)) + 0.3
    a, b = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    offset = 1e-9 * np.eye(width)  # scipy's root of a singular matrix is inexact
    root = linalg.sqrtm((a + offset) @ (b + offset)).real
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(a + b - 2 * root)
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-3, abs=1e-3)


def test_frechet_distance_of_equal_sets_is_zero_and_of_a_shift_its_square():
    x = np.random.default_rng(0).normal(size=(50, 8))
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(x, x + 2) == pytest.approx(8 * 4)
    assert frechet_distance(x, 3 * x - 2 * x.mean(0)) == pytest.approx(4 * np.trace(np.cov(x.T)))


@pytest.mark.parametrize("shapes", [((1, 3), (5, 3)), ((5, 3), (5, 4)), ((5,), (5,))])
def test_frechet_distance_refuses_too_few_or_unlike_features(shapes):
    with pytest.raises(ValueError, match="Features have shapes"):
        frechet_distance(*(np.zeros(shape) for shape in shapes))


def test_lse_is_least_and_median_minus_least_of_the_mean_distances():
    distances = np.array([[9.0, 8, 3, 8, 9], [11, 8, 5, 10, 9]])  # means 10, 8, 4, 9, 9
    assert lip_sync_error(distances) == (5.0, 4.0, 0)
    assert lip_sync_error(distances[:, ::-1].copy()[:, [0, 2, 1, 3, 4]])[2] == -1


def test_sound_that_comes_two_frames_late_is_found_at_that_offset():
    rng = np.random.default_rng(1)
    lips = rng.normal(size=(40, 8))
    sounds = np.concatenate([rng.normal(size=(2, 8)), lips[:-2]])
    distances = pair_distances(lips, sounds, reach=5)
    assert distances.shape == (40, 11)
    assert distances[3, 5] == pytest.approx(np.linalg.norm(lips[3] - sounds[3]))
    confidence, distance, offset = lip_sync_error(distances[:38])
    assert offset == 2 and distance == pytest.approx(0) and confidence > 2
