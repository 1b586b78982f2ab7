"""Frame counts, and the two front ends: the same contract."""

from __future__ import annotations

from fractions import Fraction
from math import ceil

import numpy as np
import pytest
import torch
from verification.hearing import authors_frame_count

from singer_core.audio import logmel, scratch
from singer_core.audio.features import frame_count, padded_count
from singer_core.audio.logmel import LogMelFrontEnd, equalised, level
from singer_core.audio.waveform import Waveform


@pytest.mark.parametrize("rate", [8000, 16000, 44100, 48000])
@pytest.mark.parametrize("fps", ["25", "30", "30000/1001", "24000/1001", "25/2"])
def test_frame_count_is_the_exact_ceiling(rate, fps):
    fps = Fraction(fps)
    for samples in [1, 639, 640, 641, 4480, 7 * rate, 10800 * rate, 10800 * rate + 1]:
        assert frame_count(samples, rate, float(fps)) == ceil(Fraction(samples, rate) * fps)


def test_the_authors_floats_add_a_frame_now_and_then():
    assert frame_count(4480, 16000, 25) == 7
    assert authors_frame_count(4480, 16000, 25) == 8
    assert authors_frame_count(20800, 16000, 25) == frame_count(20800, 16000, 25) == 33


def test_padding_goes_up_to_whole_clips():
    assert [padded_count(n, 16) for n in (1, 16, 17, 32)] == [16, 16, 32, 32]
    with pytest.raises(ValueError, match="clip_length is 0"):
        padded_count(5, 0)


@pytest.mark.parametrize("fps", [0, -25, float("inf"), float("nan")])
def test_impossible_frame_rates_are_refused(fps):
    with pytest.raises(ValueError, match="fps is"):
        frame_count(16000, 16000, fps)


@pytest.mark.parametrize("fps", [25, 30, 29.97, 12.5])
def test_log_mel_shapes(fps, noise):
    sound = noise(2, 44100, rate=44100)
    encoded = LogMelFrontEnd(4, 24).encode(sound, fps)
    assert encoded.frames == ceil(fps) and encoded.fps == fps and encoded.activity is None
    assert encoded.features.shape == (padded_count(encoded.frames, 16), 4, 24)
    assert encoded.features.dtype == torch.float32


def test_log_mel_of_white_noise_is_zero_and_of_padding_the_floor(noise):
    encoded = LogMelFrontEnd(2, 16, levelled=False).encode(noise(1, 10 * 16000), 25)
    inner = encoded.features[5:240]
    assert inner[..., 1:-1].mean().abs() < 0.1  # log of a mean of few bins lies a little below 0
    assert torch.all(encoded.features[encoded.frames + 2 :] == -2)


def test_log_mel_does_not_depend_on_volume(noise):
    sound = noise(1, 16000)
    quiet = Waveform(sound.samples * 0.1, 16000)
    loud, soft = (LogMelFrontEnd(4, 16).encode(w, 25).features for w in (sound, quiet))
    torch.testing.assert_close(loud, soft, atol=1e-3, rtol=0)


@pytest.mark.parametrize("db", [-np.inf, -65])
def test_a_stem_without_voice_is_silence(db, noise, caplog):
    stem = Waveform(noise(1, 32_000, gain=1).samples * 10 ** (db / 20), 16_000)
    assert (LogMelFrontEnd(4, 32).encode(stem, 25).features == -2).all()
    assert "the mouth stays closed" in caplog.text


def test_a_long_intro_without_voice_is_silence_before_and_behind_the_floor(noise):
    voice, hiss = noise(1, 16_000, gain=0.002), noise(1, 160_000, gain=0.0005, seed=1)  # -54 and -66 dB
    song = Waveform(torch.cat([hiss.samples, voice.samples], 1), 16_000)
    features = LogMelFrontEnd(4, 32, levelled=False).encode(song, 25).features
    assert (features[:249] == -2).all() and features[251:275].mean() > 0.1


def test_log_mel_puts_a_tone_into_its_band_and_frame(sine):
    tone = sine(16000, 2.0, hertz=1000)
    tone[:16000] = 0
    front_end = LogMelFrontEnd(4, 32, levelled=False)
    encoded = front_end.encode(Waveform(torch.from_numpy(tone)[None], 16000), 25).features
    mel = 2595 * np.log10(1 + np.array([1000.0, 8000.0]) / 700)
    band = round(mel[0] / (mel[1] / 33)) - 1
    assert int(encoded[40].mean(dim=0).argmax()) == band
    assert encoded[10].max() == -2 and encoded[40, :, band].min() > 0


@pytest.mark.parametrize("bands", [16, 32])
def test_levels_are_those_of_songs_whatever_the_microphone(bands):
    """A long song's mean becomes that of singing; what an equaliser did to it is gone, silence stays."""
    song = np.random.default_rng(0).normal(-0.5, 0.02, (1000, 4, bands)).astype(np.float32)
    song[100:200] = -2
    colour = np.linspace(-0.3, 0.3, bands, dtype=np.float32)
    other = np.where(song > -2, song + colour, song)
    level(song)
    level(other)
    assert np.abs(song - other).mean() < 0.04 * np.abs(colour).mean()
    wanted = np.interp((np.arange(bands) + 0.5) / bands, (np.arange(16) + 0.5) / 16, logmel.SUNG)
    voiced = np.delete(other, range(100, 200), 0)
    np.testing.assert_allclose(voiced.mean((0, 1)), wanted, atol=0.05)
    assert (other[100:200] == -2).all() and other.min() == -2


def test_short_sounds_keep_their_own_levels():
    """A tenth of a second is one vowel: its mean tells which."""
    sound = np.full((3, 4, 16), -0.5, dtype=np.float32)
    sound[..., :8] = 0.5
    before = sound.copy()
    level(sound)
    np.testing.assert_allclose(sound - before, 12 / 112 * (np.float32(logmel.SUNG) - before), atol=1e-3)


def test_silence_has_no_level():
    silence = np.full((20, 4, 16), -2, dtype=np.float32)
    level(silence)
    assert (silence == -2).all()


def test_an_equaliser_changes_bands_alike_at_all_times_and_no_silence():
    energies = torch.tensor([-2.0, -1.5, -1.0, 0.5])[:, None].expand(4, 32)
    silent, faint, first, loud = equalised(energies, 0.2, torch.Generator().manual_seed(0)) - energies
    torch.testing.assert_close(first, loud)
    torch.testing.assert_close(faint, loud / 2)
    assert not silent.any()
    assert 0.02 < loud.std() < 0.4 and loud.diff().abs().max() < 0.2


def test_log_mel_sub_frames_are_in_order_of_time():
    """A click moves through the sub-frames: the loudest of frame 10 is the one that it falls into."""
    for j in range(4):
        click = torch.zeros(1, 16000)
        click[0, 640 * 10 + 160 * j + 80] = 1.0
        power = LogMelFrontEnd(4, 8).encode(Waveform(click, 16000), 25).features[10].mean(dim=1)
        assert int(power.argmax()) == j


def test_log_mel_in_blocks_equals_one_block(monkeypatch, noise):
    whole = LogMelFrontEnd(4, 16).encode(noise(1, 50_000), 25).features
    monkeypatch.setattr(logmel, "BLOCK_FRAMES", 7)
    torch.testing.assert_close(LogMelFrontEnd(4, 16).encode(noise(1, 50_000), 25).features, whole)


def test_log_mel_refuses_empty_sizes():
    with pytest.raises(ValueError, match="layers = 0"):
        LogMelFrontEnd(0, 16)


def test_large_features_are_mapped_and_equal(monkeypatch, noise):
    in_memory = LogMelFrontEnd(4, 16).encode(noise(1, 50_000), 25).features
    monkeypatch.setattr(scratch, "IN_MEMORY_BYTES", 1000)
    torch.testing.assert_close(LogMelFrontEnd(4, 16).encode(noise(1, 50_000), 25).features, in_memory)


def test_progress_rises_to_one(noise):
    seen: list[float] = []
    LogMelFrontEnd(2, 8).encode(noise(1, 16000 * 30), 25, progress=seen.append)
    assert seen == sorted(seen) and seen[-1] == 1.0 and len(seen) > 2
