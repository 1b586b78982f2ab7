"""`singer demo`: the built-in model, portrait and song are in the package and are ordinary files."""

from __future__ import annotations

import dataclasses
import wave

import numpy as np
import pytest
import torch
from PIL import Image

from singer_core.cli import main
from singer_core.cli.sing import default_options
from singer_core.demo import files
from singer_core.network.autoencoder import load_autoencoder
from singer_core.network.checkpoint import load_network, open_checkpoint
from singer_core.portrait.image import read_picture
from singer_core.portrait.landmarks import read_landmarks
from singer_core.portrait.portrait import prepare_portrait
from singer_core.render.canvas import FINE
from singer_core.render.conditioning import check_size, framing_warning
from singer_core.render.video import read_frames
from singer_core.settings import BUILT_IN, OFFICIAL, PAPER


def tone(path, seconds: float):
    samples = 12_000 * np.sin(2 * np.pi * 220 * np.arange(round(seconds * 16_000)) / 16_000)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(samples.astype("<i2").tobytes())
    return path


def decibels(picture: torch.Tensor, true: torch.Tensor) -> float:
    return float(-10 * torch.log10((picture - true).square().mean()))


@pytest.fixture(scope="module")
def built_in():
    return open_checkpoint(files.CHECKPOINT)


def test_all_weights_together_stay_below_thirty_megabytes():
    assert files.CHECKPOINT.stat().st_size + files.VAE.stat().st_size <= 30e6


def test_the_built_in_model_is_an_ordinary_checkpoint(built_in, capsys):
    assert main(["info", str(files.CHECKPOINT)]) == 0
    said = capsys.readouterr().out
    assert "MSM" in said and "made for one step without guidance (by its own training)" in said
    assert default_options(built_in) == BUILT_IN
    assert built_in.distilled_steps == BUILT_IN.steps and not BUILT_IN.guided
    trained_with = ("noise_schedule", "msm_input", "msm_scale")  # the demo changes none of these
    assert all(getattr(BUILT_IN, name) == getattr(PAPER, name) for name in trained_with)


def test_published_weights_are_sampled_as_the_authors_do(tiny_checkpoint):
    assert default_options(open_checkpoint(tiny_checkpoint)) == OFFICIAL


def test_the_built_in_portrait_and_song_fit_each_other_and_the_model(built_in):
    faces = read_landmarks(files.LANDMARKS, Image.open(files.PORTRAIT).size)
    size = built_in.architecture.trained_size
    portrait = prepare_portrait(read_picture(files.PORTRAIT), size, landmarks=faces, crop="squash")
    assert len(faces) == 1
    assert 0.05 < float(portrait.region.mean()) < 0.5
    vae = load_autoencoder(files.VAE)
    seen = vae.decode(vae.encode(portrait.image[None] * 2 - 1))[0]
    assert decibels(seen, portrait.image) > 30  # of a person it never saw
    with wave.open(str(files.SONG)) as song:
        assert song.getnframes() / song.getframerate() == 5.0


def test_the_built_in_portrait_sings_a_sound_of_the_users(tmp_path):
    out, size = tmp_path / "mine.mp4", (FINE, FINE)
    sound = tone(tmp_path / "mine.wav", 0.4)
    status = main(["demo", "--audio", str(sound), "--out", str(out), "--quiet", "--device", "cpu"])
    assert status == 0
    pictures = torch.stack(list(read_frames(out)))
    assert pictures.shape == (10, 3, *size)
    faces = read_landmarks(files.LANDMARKS)
    portrait = prepare_portrait(read_picture(files.PORTRAIT), size, landmarks=faces, crop="squash")
    assert decibels(pictures[0] / 255, portrait.image) > 22  # the very singer, in one step


def test_a_picture_of_the_users_without_a_face_is_refused(tmp_path, capsys):
    Image.new("RGB", (160, 120), (90, 120, 90)).save(tmp_path / "grass.png")
    status = main(
        ["demo", "--image", str(tmp_path / "grass.png"), "--out", str(tmp_path / "x.mp4"), "--quiet"]
    )
    assert status == 2
    assert "landmarks" in capsys.readouterr().err


def test_the_small_network_is_loaded_in_full(built_in):
    network = load_network(built_in, torch.float32)
    assert all(torch.isfinite(parameter).all() for parameter in network.parameters())


def test_a_portrait_framed_otherwise_than_the_model_learnt_is_warned_of(built_in):
    arch = built_in.architecture
    picture = read_picture(files.PORTRAIT).image.crop((0, 100, 512, 400))  # without room above

    def warning(arch, size=arch.trained_size, **how):
        portrait = prepare_portrait(picture, size, **how)
        check_size(arch, portrait)
        return framing_warning(arch, portrait) or ""

    assert warning(arch, crop="exact") == ""
    assert "down of where this model learnt mouths" in warning(arch, crop="face")
    with pytest.raises(ValueError, match="256 x 256 pixels; this model sings 192 x 192 only"):
        warning(arch, (256, 256), crop="exact")
    assert warning(dataclasses.replace(arch, predicts="frame"), crop="face") == ""
