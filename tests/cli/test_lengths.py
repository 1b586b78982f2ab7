"""`singer sing` for songs of any length: exactly their frames, with the sound where it was."""

from __future__ import annotations

import wave

import numpy as np
import pytest
import tiny

from singer_core.audio.waveform import read_audio
from singer_core.cli import main
from singer_core.render.video import probe_video

RATE = 16_000


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Portrait and masks."""
    folder = tmp_path_factory.mktemp("inputs")
    tiny.write_portrait(folder, (128, 128), face=(30, 30, 100, 110), lip=(50, 80, 80, 100))
    return folder


def clicks(sound: np.ndarray) -> list[float]:
    """Seconds at which loud stretches begin."""
    loud = np.flatnonzero(np.abs(sound) > 0.2) / RATE
    return [float(time) for time in loud[np.diff(loud, prepend=-1.0) > 0.02]]


@pytest.mark.parametrize(
    ("frames", "mode"),
    [(1, "official"), (3, "enhanced"), (4, "official"), (5, "official"), (5, "enhanced"), (13, "enhanced")],
)
def test_every_frame_once_and_the_sound_in_its_place(
    pictures, tiny_checkpoint, tiny_vae_folder, tmp_path, frames, mode
):
    """Clips of four frames. The song ends within its last frame, and clicks in its first and in its last."""
    fps = 20 if frames == 1 else 25  # a song has at least 0.05 s
    seconds = 0.05 if frames == 1 else (frames - 0.4) / fps
    sound = 0.01 * np.sin(2 * np.pi * 220 * np.arange(round(seconds * RATE)) / RATE)
    moments = sorted({0.01, (frames - 1) / fps + 0.01})
    for moment in moments:
        at = round(moment * RATE)
        sound[at : at + 80] = 0.8 * np.sin(np.arange(80))
    with wave.open(str(tmp_path / "song.wav"), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes((sound * 32767).astype("<i2").tobytes())
    film, clips = tmp_path / "film.mp4", ["--set", "clip_frames=4", "--set", "overlap=2"]
    line = ["sing", pictures / "portrait.png", tmp_path / "song.wav", "--checkpoint", tiny_checkpoint]
    line += ["--vae", tiny_vae_folder, "--face-mask", pictures / "face.png", "--crop", "squash"]
    line += ["--lip-mask", pictures / "lip.png", "--device", "cpu", "--quiet", "--mode", mode, "--out", film]
    line += ["--steps", "1", "--fps", fps, "--work-dir", tmp_path / "work"]
    line += clips if mode == "enhanced" else clips[:2]
    assert main([str(word) for word in line]) == 0
    assert probe_video(film).frames == frames
    assert clicks(read_audio(film, RATE, mono=True).samples[0].numpy()) == pytest.approx(moments, abs=0.01)
