"""Faults of known size are found with that size, and what is clean is not accused."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from made_up import FPS, SIDE

from singer_core.audio.waveform import Waveform
from singer_core.evaluation.evaluate import evaluate
from singer_core.evaluation.footage import footage_of
from singer_core.evaluation.material import Material


def found(material: Material):
    return evaluate(material)


def test_a_clean_singer_is_not_accused(clean):
    result = found(clean.material())
    assert result.findings == ()
    assert result.values["singing_lag"] == 0 and result.values["singing_sync"] > 0.95
    assert result.values["rest_motion"] < 0.05
    assert result.values["extra_frames"] == 0


def test_drawn_people_are_not_accused():
    pytest.importorskip("skia")
    from builtin.world import Identity, Performance, Song
    from singer_core.evaluation.mouth import lip_box, track_of
    from singer_core.portrait.landmarks import FaceLandmarks

    for seed in (11,):
        song = Song.random(seed, 4.0, "pop", accompaniment=False)
        show = Performance(Identity.random(seed), song, size=64)
        film = footage_of(torch.from_numpy(np.stack([show.frame(i) for i in range(100)])).movedim(3, 1), 25.0)
        points = [show.landmarks(i) for i in range(100)]
        voice = Waveform(torch.from_numpy(song.vocals)[None], song.rate)
        box = lip_box(FaceLandmarks(torch.from_numpy(points[0])), (64, 64))
        seen = evaluate(Material(film, song=voice, vocals=voice, lip_box=box))
        marked = evaluate(Material(film, song=voice, vocals=voice, faces=track_of(points)))
        assert seen.findings == () and marked.findings == ()
        assert seen.values["singing_sync"] > 0.5 and marked.values["singing_sync"] > 0.75


def test_a_seam_every_16_frames_is_found_with_its_ratio(clean):
    """Frames from a seam on are brighter by turns: the step there is 0.012 * 255 = 3.06 levels more."""
    pictures = clean.pictures.clone()
    clip = torch.arange(len(pictures)) // 16
    pictures += 0.012 * (clip % 2)[:, None, None, None]
    steps = np.diff((pictures * 255).round().numpy(), axis=0)
    size = np.abs(steps).mean(axis=(1, 2, 3))
    seam = np.arange(1, len(pictures)) % 16 == 0
    result = found(clean.material(pictures))
    assert result.values["seam_ratio"] == pytest.approx(size[seam].mean() / size[~seam].mean(), rel=1e-4)
    assert result.values["seam_ratio"] > 1.5
    assert any(sentence.startswith("Seams") for sentence in result.findings)
    elsewhere = found(dataclasses.replace(clean.material(pictures), clip_frames=13))
    assert not any(sentence.startswith("Seams") for sentence in elsewhere.findings)


@pytest.mark.parametrize("levels", [5.0, -5.0])
def test_a_drift_of_five_grey_levels_is_five(clean, levels):
    """Linear over the video: from the middle of the first clip to that of the last it is 5."""
    frames = len(clean.opening)
    drift = levels * torch.arange(frames) / (frames - 16) / 255
    pictures = clean.pictures + drift[:, None, None, None]
    still = found(clean.material()).values["colour_drift"]
    result = found(clean.material(pictures))
    assert result.values["colour_drift"] - still == pytest.approx(levels, abs=0.1)
    assert [s for s in result.findings if "drift" in s]


@pytest.mark.parametrize("late", [3, -3])
def test_sound_that_lags_by_three_frames_is_found(clean, late):
    """The sound comes later, so the mouth is early."""
    samples = torch.roll(clean.sound.samples, late * int(clean.sound.rate / FPS), dims=1)
    result = found(clean.material(sound=Waveform(samples, clean.sound.rate)))
    assert result.values["singing_lag"] == -late
    assert result.values["singing_sync"] > 0.9
    [sentence] = result.findings
    assert sentence == f"The mouth is 3 frames (120 ms) {'early' if late > 0 else 'late'}."


def test_a_frozen_mouth_is_found(clean):
    frozen = dataclasses.replace(clean, opening=np.full_like(clean.opening, 0.4))
    result = found(frozen.material())
    assert result.values["mouth_range"] == pytest.approx(0, abs=1e-3)
    assert [s for s in result.findings if "frozen" in s]
    assert result.values["singing_sync"] == 0


def test_a_mouth_that_moves_in_rests_is_found_with_its_share(clean):
    """In rests it goes up and down by 0.2 a frame."""
    rest = clean.voice == 0
    chatter = np.where(rest, 0.2 + 0.2 * (np.arange(len(rest)) % 2), clean.opening)
    result = found(dataclasses.replace(clean, opening=chatter).material())
    both = ~rest[1:] & ~rest[:-1]
    expected = 0.2 / np.abs(np.diff(clean.opening))[both].mean()
    assert result.values["rest_motion"] == pytest.approx(expected, rel=0.1)  # the mouth is read from pixels
    assert [s for s in result.findings if "rests" in s]


def test_a_mouth_that_ignores_the_song_is_found(clean):
    other = np.random.default_rng(5).permutation(clean.opening)
    result = found(dataclasses.replace(clean, opening=other).material())
    assert [s for s in result.findings if "does not follow" in s]


def test_flicker_is_found_with_its_size(clean):
    pictures = clean.pictures + (4 / 255) * (torch.arange(len(clean.opening)) % 2)[:, None, None, None]
    result = found(clean.material(pictures))
    assert result.values["flicker"] == pytest.approx(4, abs=0.3)
    assert result.values["static_motion"] == pytest.approx(4, abs=0.1)
    assert [s for s in result.findings if "flickers" in s]


def test_blur_that_grows_is_a_loss_of_sharpness(clean):
    kernel = torch.ones(1, 1, 3, 3) / 9
    pictures = clean.pictures.reshape(-1, 1, SIDE, SIDE) + 0.1 * torch.rand(1, 1, SIDE, SIDE)
    blurred = torch.nn.functional.conv2d(
        torch.nn.functional.pad(pictures, (1,) * 4, mode="replicate"), kernel
    )
    share = torch.linspace(0, 0.5, len(clean.opening)).repeat_interleave(3)[:, None, None, None]
    faded = ((1 - share) * pictures + share * blurred).reshape(-1, 3, SIDE, SIDE)
    result = found(clean.material(faded))
    assert result.values["sharpness_change"] < -20
    assert [s for s in result.findings if "sharpness" in s]


def test_the_true_video_as_reference_is_matched(clean):
    material = dataclasses.replace(clean.material(), reference=footage_of(clean.pictures, FPS))
    result = found(material)
    assert (result.values["psnr"], result.values["ssim"]) == (100.0, pytest.approx(1.0))
    assert result.values["mouth_match"] == pytest.approx(1) and result.values["mouth_match_lag"] == 0


def test_a_reference_of_another_level_has_the_psnr_of_the_formula(clean):
    material = dataclasses.replace(clean.material(), reference=footage_of(clean.pictures + 10 / 255, FPS))
    assert found(material).values["psnr"] == pytest.approx(20 * np.log10(255 / 10), abs=0.05)


def test_a_video_of_too_few_frames_is_short_by_that_many(clean):
    result = found(clean.material(clean.pictures[:-5]))
    assert result.values["extra_frames"] == -5
    assert "The video is 5 frames shorter than the song." in result.findings
