"""Beat alignment against its formula."""

from __future__ import annotations

import numpy as np
import pytest

from singer_core.evaluation.singing import beat_alignment, chance_alignment, motion_beats

BEATS = np.arange(0.5, 10, 0.5)


def test_coinciding_beats_score_one():
    assert beat_alignment(BEATS, BEATS) == 1.0
    assert beat_alignment(BEATS, np.arange(0.25, 10, 0.25)) == 1.0  # more movements do not harm


@pytest.mark.parametrize("late", [0.05, 0.1, -0.2])
def test_late_movements_score_by_the_gaussian(late):
    assert beat_alignment(BEATS, BEATS + late) == pytest.approx(np.exp(-(late**2) / (2 * 0.1**2)))


def test_every_beat_counts_by_its_nearest_movement():
    expected = (1 + np.exp(-0.5) + np.exp(-2)) / 3
    assert beat_alignment(np.array([1, 2, 3]), np.array([1.0, 2.1, 2.8])) == pytest.approx(expected)


def test_seconds_not_frames_decide():
    """The same performance at 25 and at 30 frames a second."""
    scores = []
    for fps in (25.0, 30.0):
        times = (np.arange(10 * fps) + 0.5) / fps  # a frame shows the middle of its interval
        speed = np.abs(np.diff(np.cos(2 * np.pi * times), prepend=1.0)) * fps
        movements = motion_beats(speed, fps)
        assert np.abs(movements - np.round(2 * movements) / 2).max() < 0.5 / fps  # a turn every half second
        scores.append(beat_alignment(BEATS, movements))
    assert min(scores) > 0.97


def test_no_movement_scores_zero_and_no_beats_are_an_error():
    assert beat_alignment(BEATS, np.zeros(0)) == 0.0
    assert motion_beats(np.zeros(50), 25.0).size == 0
    with pytest.raises(ValueError, match="no beats"):
        beat_alignment(np.zeros(0), BEATS)


def test_dense_movements_are_aligned_by_chance():
    dense, sparse = np.arange(0, 10, 0.1), np.arange(0.5, 10, 1.0)
    assert chance_alignment(BEATS, dense, 10.0) > 0.9
    assert chance_alignment(sparse, sparse, 10.0) < 0.4
