"""The plot of a song, with the motion weights of its frames below."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from singer_core.audio.motion import MotionResponse, motion_weights
from singer_core.audio.waveform import Waveform
from singer_core.evaluation.song_plot import plot_song

pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def vocals() -> Waveform:
    return Waveform(0.4 * torch.sin(torch.arange(32_000) * 0.09)[None], 16_000)


def rows_of_the_pose(path, vocals, weights) -> np.ndarray:
    """Rows of the picture, as parts of its height, that hold the pose's blue."""
    picture = np.asarray(Image.open(plot_song(path, vocals, 25.0, weights=weights)).convert("RGB")).astype(
        int
    )
    blue = (np.abs(picture - (31, 119, 180)) < 12).all(axis=2)
    return np.flatnonzero(blue.sum(axis=1) > 2) / len(picture)


def test_weights_are_drawn_in_the_lowest_row_as_they_are(tmp_path, vocals):
    beats = torch.tensor([0.5, 1.0, 1.5])
    constant = motion_weights(50, 25.0).tensor
    nodding = motion_weights(50, 25.0, MotionResponse(beat=1.0), beats=beats).tensor
    none, flat, wavy = (rows_of_the_pose(tmp_path / "a.png", vocals, w) for w in (None, constant, nodding))
    assert len(none) == 0
    assert 0.8 < flat.min() <= flat.max()
    assert 0.8 < wavy.min() <= wavy.max()
    assert np.ptp(wavy) > np.ptp(flat) + 0.02
