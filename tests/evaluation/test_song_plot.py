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


def blue_of_the_pose(path, vocals, weights) -> np.ndarray:
    """(H, W): where the picture has the colour of the pose weight."""
    plot_song(path, vocals, 25.0, weights=weights)
    picture = np.asarray(Image.open(path).convert("RGB")).astype(int)
    return (np.abs(picture - (31, 119, 180)) < 50).all(axis=2)


def test_weights_are_drawn_in_the_lowest_row_and_rise_on_beats(tmp_path, vocals):
    beats = torch.tensor([0.5, 1.0, 1.5])
    response = MotionResponse(face=0.5, lip=0.2, beat=1.0)
    nodding = motion_weights(50, 25.0, response, beats=beats)
    assert not blue_of_the_pose(tmp_path / "a.png", vocals, None).any()
    curve = blue_of_the_pose(tmp_path / "a.png", vocals, nodding)
    rows = np.flatnonzero(curve.any(axis=1)) / len(curve)
    assert 0.8 < rows.min() < rows.max() - 0.04
    top = np.flatnonzero(curve[int(rows.min() * len(curve)) :][:8].any(axis=0))
    assert 1 + (np.diff(top) > 40).sum() == 3
