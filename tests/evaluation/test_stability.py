"""Seams, drift, flicker and sharpness of curves and pictures whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from singer_core.evaluation import stability
from singer_core.evaluation.reading import read_frame


def test_seam_ratio_is_the_motion_at_seams_over_the_motion_inside():
    step = np.ones(161)
    step[0] = 0
    step[16::16] = 1.5
    found = stability.seams(step, 16)
    assert found.ratio == pytest.approx(1.5) and found.visible
    # of clips that are cut elsewhere, the same video has no seams
    assert not stability.seams(step[5:], 16).visible


def test_a_cross_fade_spreads_its_seam_over_one_step_more_than_it_has_frames():
    """Clips of 16 that share 2 start every 14 frames; the steps to frames 14, 15 and 16 are the seam."""
    assert np.flatnonzero(stability.at_seams(34, 14, 2)).tolist() == [14, 15, 16, 28, 29, 30]
    step = np.ones(160)
    step[stability.at_seams(160, 14, 2)] = 1.5
    found = stability.seams(step, 14, 2)
    assert found.ratio == pytest.approx(1.5) and found.visible
    assert not stability.seams(step[4:], 14, 2).visible
    assert stability.seams(step, 8, 4) is None  # nothing lies between two seams


def test_lively_motion_without_seams_is_not_accused():
    accused = 0
    for seed in range(50):
        step = np.random.default_rng(seed).gamma(2.0, size=200)
        accused += stability.seams(step, 16).visible
    assert accused <= 5


def test_too_short_or_still_videos_have_no_seam_ratio():
    assert stability.seams(np.ones(31), 16) is None
    assert stability.seams(np.zeros(100), 16) is None


def test_drift_is_last_clip_minus_first_for_each_channel():
    colour = np.full((40, 3), 100.0)
    colour[-16:] += [5, 0, -2]
    assert stability.colour_drift(colour, 16) == pytest.approx([5, 0, -2])
    assert stability.colour_drift(colour[:31], 16) is None


def test_a_trend_of_sharpness_is_told_from_chance():
    rng = np.random.default_rng(0)
    lively = 100 + 10 * rng.standard_normal(160)
    assert abs(stability.trend(lively, 16)) < 4
    assert stability.trend(lively - np.linspace(0, 60, 160), 16) < -4
    assert stability.trend(lively[:60], 16) == 0
    assert stability.sharpness_change(np.repeat([100.0, 93.0], 16), 16) == pytest.approx(-7)


def test_flicker_ignores_fades_and_what_moves_and_finds_every_other_frame():
    fade = np.linspace(100, 120, 30)[:, None] * np.ones(64)
    fade[:, :20] += 50 * np.random.default_rng(0).random((30, 20))  # moves
    assert stability.flicker(fade) == pytest.approx(0, abs=1e-9)
    assert stability.flicker(fade + 2 * (np.arange(30) % 2)[:, None]) == pytest.approx(2, abs=0.1)
    assert stability.flicker(fade[:2]) is None


def test_one_frame_is_read_against_the_frame_before():
    """A flat picture, then one whose lower right corner is 8 levels brighter in green."""
    first = torch.full((3, 16, 24), 50, dtype=torch.uint8)
    second = first.clone()
    second[1, -2:, -3:] += 8
    reading = read_frame(second, first)
    assert reading.step == pytest.approx(8 * 6 / (3 * 16 * 24))
    assert reading.corners == pytest.approx([0, 0, 0, 8 / 3])
    assert reading.colour == pytest.approx([50, 50 + 8 * 6 / (16 * 24), 50])
    assert read_frame(first, None).step == 0
    assert stability.static_motion(np.stack([reading.corners] * 2)) == 0
    assert stability.static_motion(reading.corners[None]) is None


def test_sharpness_is_the_variance_of_the_laplacian():
    ndimage = pytest.importorskip("scipy.ndimage")
    picture = torch.randint(
        0, 256, (3, 20, 20), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )
    grey = (picture.numpy().astype(float) * np.array([0.299, 0.587, 0.114])[:, None, None]).sum(0)
    expected = ndimage.laplace(grey)[1:-1, 1:-1].var()
    assert read_frame(picture, None).sharpness == pytest.approx(expected, rel=1e-5)
