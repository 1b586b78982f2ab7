"""Lags, levels and rests of made-up voices and mouths."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from singer_core.audio.waveform import Waveform
from singer_core.evaluation import singing

RATE = 16_000


def voice(gains: list[float], seconds: float = 1.0) -> Waveform:
    """A tone with one gain for each stretch."""
    time = torch.arange(int(RATE * seconds)) / RATE
    tone = torch.sin(2 * torch.pi * 200 * time)
    return Waveform(torch.cat([gain * tone for gain in gains])[None], RATE)


def curve(seed: int = 0, frames: int = 100) -> np.ndarray:
    return np.convolve(np.random.default_rng(seed).random(frames + 4), np.ones(5) / 5, mode="valid")


@pytest.mark.parametrize("lag", [-3, 0, 3, 8])
def test_a_shifted_curve_is_found_at_its_lag(lag):
    true = curve(frames=140)
    match = singing.best_match(true[20 - lag : 120 - lag], true[20:120], reach=10)
    assert match.lag == lag and match.correlation == pytest.approx(1)


def test_a_constant_curve_matches_nothing_and_lags_near_zero_win():
    assert singing.best_match(np.ones(50), curve(frames=50), 5) is None
    wave = np.sin(2 * np.pi * np.arange(100) / 5)  # the same at lags of -5, 0 and 5
    assert singing.best_match(wave, wave, 8).lag == 0


def test_chance_is_what_other_places_of_the_song_give():
    true = curve(seed=3, frames=300)
    assert singing.best_match(true, true, 10).correlation == pytest.approx(1)
    assert 0 < singing.chance_match(true, true, 10) < 0.5  # noise, but the best of 21 lags
    beat = np.sin(2 * np.pi * np.arange(300) / 10)  # everywhere the same
    assert singing.chance_match(beat, beat, 10) > 0.9
    assert singing.chance_match(true[:50], true[:50], 10) is None
    assert singing.chance_match(np.ones(300), true, 10) is None


def test_vocal_level_is_the_amplitude_over_that_of_the_loud_frames():
    level = singing.vocal_level(voice([0.5, 0.05, 0.0005]), 25.0, 75)
    assert level[:25] == pytest.approx(np.ones(25), abs=0.02)
    assert level[26:50] == pytest.approx(np.full(24, 0.1), abs=0.02)  # -20 dB
    assert level[51:] == pytest.approx(np.full(24, 0.001), abs=1e-4)
    assert singing.vocal_level(voice([1e-6]), 25.0, 25).max() == 0


def test_rest_motion_is_the_ratio_of_steps_away_from_the_edges():
    sung = np.repeat([True, False, True], 50)
    opening = np.where(np.arange(150) % 2, 1.0, 0.0)  # steps of 1
    assert singing.rest_motion(opening, sung, 25.0) == pytest.approx(1)
    opening[50:100] *= 0.25
    assert singing.rest_motion(opening, sung, 25.0) == pytest.approx(0.25)
    still = opening.copy()
    still[55:95] = 0
    assert singing.rest_motion(still, sung, 25.0) == 0


def test_rests_need_rests_and_a_moving_mouth():
    opening = curve()
    assert singing.rest_motion(opening, np.ones(100, bool), 25.0) is None
    assert singing.rest_motion(np.zeros(100), np.repeat([True, False], 50), 25.0) is None
