"""Loudness, vocal activity, levelling, beats and motion weights."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from singer_core.audio import motion
from singer_core.audio.activity import level_vocals, loudness_curve, vocal_activity, with_activity
from singer_core.audio.logmel import LogMelFrontEnd
from singer_core.audio.motion import MotionResponse, beat_pulses, beat_times, motion_weights
from singer_core.audio.waveform import Waveform


def mono(samples: np.ndarray, rate: int) -> Waveform:
    return Waveform(torch.from_numpy(samples)[None], rate)


@pytest.mark.parametrize(("rate", "fps"), [(16000, 25), (44100, 25), (44100, 30), (48000, 29.97)])
def test_loudness_of_a_sine_is_its_power(rate, fps, sine):
    level = loudness_curve(mono(sine(rate, 1.0, 2000, amplitude=0.5), rate), fps)
    torch.testing.assert_close(
        level[:-1], torch.full_like(level[:-1], 20 * np.log10(0.5 / 2**0.5)), atol=0.3, rtol=0
    )


def test_loudness_of_silence_and_beyond_the_end(sine):
    level = loudness_curve(mono(sine(16000, 1.0), 16000), 25, frames=40)
    assert level.shape == (40,)
    assert torch.all(level[25:] == -100)


@pytest.mark.parametrize("bleed_db", [-200, -30, -24])
@pytest.mark.parametrize("seed", [0, 1])
def test_activity_is_right_with_drums_bleeding_into_the_stem(bleed_db, seed, voice_and_drums):
    voice, drums, sung = voice_and_drums(30, 44100, seed)
    activity = vocal_activity(mono(voice + np.float32(10 ** (bleed_db / 20)) * drums, 44100), 25)
    truth = torch.from_numpy(sung.reshape(-1, 1764).mean(axis=1) > 0.5)
    assert ((activity > 0.5) == truth).float().mean() >= 0.95
    assert activity.min() >= 0 and activity.max() <= 1


def test_activity_does_not_depend_on_volume(voice_and_drums):
    voice, _, _ = voice_and_drums(10, 16000, 0)
    quiet = vocal_activity(mono(0.1 * voice, 16000), 25)
    torch.testing.assert_close(quiet, vocal_activity(mono(voice, 16000), 25), atol=1e-3, rtol=0)


def test_an_empty_stem_is_inactive(sine):
    assert vocal_activity(mono(1e-5 * sine(16000, 2.0), 16000), 25).max() == 0


def test_short_pauses_are_bridged_and_short_bursts_removed(sine):
    on = np.ones(50, bool)
    on[20:24] = False  # 0.16 s pause
    gate = np.repeat(np.concatenate([on, np.zeros(30, bool), [True, True], np.zeros(30, bool)]), 640)
    activity = vocal_activity(mono(sine(16000, len(gate) / 16000) * gate, 16000), 25)
    assert activity[:50].min() == 1 and activity[52:].max() == 0


def test_features_carry_the_activity_with_silent_padding(noise):
    sound = noise(1, 17_000)
    features = with_activity(LogMelFrontEnd(2, 8).encode(sound, 25), sound)
    assert features.activity.shape == (features.features.shape[0],) == (32,)
    assert features.activity[: features.frames].min() > 0 and features.activity[features.frames :].max() == 0


def test_levelling_brings_verses_together_and_leaves_gaps(sine):
    loud, quiet = sine(16000, 6.0), 0.3 * sine(16000, 6.0)
    gap = 0.001 * sine(16000, 8.0)
    sound = mono(np.concatenate([loud, gap, quiet]), 16000)
    before, after = loudness_curve(sound, 25), loudness_curve(level_vocals(sound), 25)
    middle_of_loud, middle_of_gap, middle_of_quiet = 75, 250, 425
    assert before[middle_of_loud] - before[middle_of_quiet] > 10
    assert abs(after[middle_of_loud] - after[middle_of_quiet]) < 1
    assert abs(after[middle_of_gap] - before[middle_of_gap]) < 0.1
    assert level_vocals(sound).samples.abs().max() <= 1


def test_levelling_by_nothing_changes_nothing(noise):
    sound = noise(2, 40_000)
    torch.testing.assert_close(level_vocals(sound, strength=0).samples, sound.samples)
    with pytest.raises(ValueError, match="strength is 2"):
        level_vocals(sound, strength=2)


def clicks(seconds: float, per_minute: float) -> Waveform:
    samples = np.zeros(int(seconds * 22050), np.float32)
    for time in np.arange(0.25, seconds - 0.1, 60 / per_minute):
        first = int(time * 22050)
        samples[first : first + 1000] = np.hanning(2000)[1000:] * np.sin(0.3 * np.arange(1000))
    return mono(samples, 22050)


def test_beats_of_a_click_track():
    pytest.importorskip("librosa")
    found = beat_times(clicks(12, 120))
    distance = ((found - 0.25) / 0.5 - ((found - 0.25) / 0.5).round()).abs() * 0.5
    assert len(found) >= 20 and distance.max() < 0.06
    torch.testing.assert_close(
        found.diff().median(), torch.tensor(0.5, dtype=torch.float64), atol=0.02, rtol=0
    )


def test_beats_in_stretches_neither_repeat_nor_miss(monkeypatch):
    pytest.importorskip("librosa")
    monkeypatch.setattr(motion, "WINDOW_SECONDS", 8)
    monkeypatch.setattr(motion, "CONTEXT_SECONDS", 3)
    found = beat_times(clicks(24, 120))
    assert found.diff().min() > 0.4 and found.diff().max() < 0.6 and len(found) > 40


def test_no_rhythm_no_beats():
    pytest.importorskip("librosa")
    assert beat_times(mono(np.zeros(22050 * 3, np.float32), 22050)).numel() == 0


def test_missing_librosa_names_its_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "librosa", None)
    with pytest.raises(RuntimeError, match="pip install librosa"):
        beat_times(clicks(1, 120))


def test_motion_weights_are_constant_by_default():
    weights = motion_weights(10, 25, activity=torch.zeros(10), loudness=torch.zeros(10), beats=torch.ones(3))
    torch.testing.assert_close(weights, torch.ones(10, 3))
    constants = motion_weights(4, 25, MotionResponse(pose=0.5, face=0.0, lip=2.0))
    torch.testing.assert_close(constants, torch.tensor([[0.5, 0.0, 2.0]]).expand(4, 3))


def test_beats_move_the_pose_only():
    weights = motion_weights(50, 25, MotionResponse(pose=2.0, beat=0.5), beats=torch.tensor([0.5, 1.5]))
    pose = weights[:, 0]
    assert int(pose[:25].argmax()) == 12 and int(pose[25:].argmax()) == 12
    assert float(pose.max()) == pytest.approx(3.0, rel=0.03)
    assert float(pose.min()) == pytest.approx(2.0, rel=0.03)
    torch.testing.assert_close(weights[:, 1:], torch.ones(50, 2))


def test_beat_pulses_are_those_of_the_nearest_beat():
    times = (torch.arange(100, dtype=torch.float64) + 0.5) / 25
    given = torch.tensor([0.3, 1.0, 1.15, 3.9], dtype=torch.float64)
    expected = torch.exp(-(times[:, None] - given).square() / 0.02).amax(dim=1)
    torch.testing.assert_close(beat_pulses(100, 25, given), expected.float())


def test_loudness_moves_the_face_and_silence_closes_the_lips():
    loudness = torch.tensor([-60.0, -40.0, -30.0, -20.0, 0.0])
    response, activity = MotionResponse(loudness=0.4, silence=1.0), torch.tensor([0, 0.5, 1, 1, 1])
    pose, face, lip = motion_weights(7, 25, response, activity, loudness).T
    torch.testing.assert_close(face, torch.tensor([0.6, 0.8, 1.0, 1.2, 1.4, 1.4, 1.4]))
    torch.testing.assert_close(lip, torch.tensor([0, 0.5, 1, 1, 1, 0, 0]))
    torch.testing.assert_close(pose, torch.ones(7))


@pytest.mark.parametrize("bad", [{"pose": -1}, {"beat": -0.1}, {"loudness": 1.5}, {"silence": -1}])
def test_impossible_responses_are_refused(bad):
    with pytest.raises(ValueError, match=f"`{next(iter(bad))}` is"):
        MotionResponse(**bad)
