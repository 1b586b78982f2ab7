"""What is shown of a song on its way: its sound, coloured as far as it is sung, and the time it takes."""

from __future__ import annotations

import torch

from singer_core.audio.waveform import Waveform
from singer_core.render.preview import SUNG, UNSUNG, Pace, loudness_of, minutes, strip


def test_the_sound_is_drawn_as_loud_as_it_is_and_coloured_as_far_as_it_is_sung():
    samples = torch.zeros(2, 1000)
    samples[0, 250:500], samples[1, 750:] = 0.25, -0.5
    levels = loudness_of(Waveform(samples, 8_000), 8)
    assert levels.tolist() == [0, 0, 0.5, 0.5, 0, 0, 1, 1]
    picture = strip(levels, 9, 7 / 8)
    assert picture.shape == (3, 9, 8)
    assert picture.any(0).sum(0).tolist() == [1, 1, 5, 5, 1, 1, 9, 9]
    torch.testing.assert_close(picture[:, 4, 6:].T, torch.tensor([SUNG, UNSUNG]))


def test_clips_that_were_there_already_do_not_promise_that_the_others_are():
    times = iter([0.0, 0.1, 0.2, 10.2, 20.2, 30.2])
    pace = Pace(lambda: next(times))
    left = [pace.left(clips) for clips in (9, 8, 7, 6, 5)]
    assert left[0] < 1 and abs(left[-1] - 50) < 1e-6


def test_times_are_said_as_players_do():
    assert [minutes(seconds) for seconds in (0.4, 59.6, 200, 3730)] == ["0:00", "1:00", "3:20", "62:10"]
