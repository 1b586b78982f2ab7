"""A made-up singer whose every number is known."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from singer_core.audio.waveform import Waveform, write_wave
from singer_core.evaluation.footage import footage_of
from singer_core.evaluation.material import Material
from singer_core.render.video import VideoWriter

RATE, FPS, SIDE = 16_000, 25.0, 96
BOX = (28, 52, 68, 92)  # around the mouth, left, top, right, bottom


@dataclass(frozen=True)
class Singer:
    """A grey face on a moving ground whose mouth is as high as the voice is loud.

    opening   (s,) 0..1;  voice  (s,) 0..1, amplitude
    """

    opening: np.ndarray
    voice: np.ndarray

    @property
    def sound(self) -> Waveform:
        """A tone of that level, each frame with one loudness."""
        frame = int(RATE / FPS)
        time = np.arange(frame * len(self.voice)) / RATE
        samples = np.repeat(0.5 * self.voice, frame) * np.sin(2 * np.pi * 250 * time)
        return Waveform(torch.from_numpy(samples.astype(np.float32))[None], RATE)

    @property
    def pictures(self) -> torch.Tensor:
        """(s, 3, H, W) in [0, 1]."""
        s = len(self.opening)
        pictures = torch.full((s, 3, SIDE, SIDE), 0.6)
        wave = torch.arange(SIDE) / SIDE
        for i, opening in enumerate(self.opening):
            pictures[i, :, 16:40] += 0.1 * torch.sin(2 * torch.pi * (wave - 0.02 * i))  # turns evenly
            high = 32 * float(opening)
            rows = torch.arange(SIDE).float()[:, None]
            inside = (1 - ((rows - 72).abs() - high / 2).clamp(0, 1)).expand(SIDE, SIDE).clone()
            inside[:, :36], inside[:, 60:] = 0, 0
            pictures[i] = pictures[i] * (1 - inside) + 0.1 * inside * (high > 0)
        return pictures

    def material(self, pictures: torch.Tensor | None = None, sound: Waveform | None = None) -> Material:
        film = footage_of(self.pictures if pictures is None else pictures, FPS)
        voice = sound or self.sound
        return Material(film, song=voice, vocals=voice, lip_box=BOX)

    def write(self, path: Path, fps: float = FPS, pictures: torch.Tensor | None = None) -> Path:
        """A video file with sound; nearly lossless."""
        shown = self.pictures if pictures is None else pictures
        sound = write_wave(path.with_suffix(".wav"), self.sound)
        size = (shown.shape[2], shown.shape[3])
        with VideoWriter(path, size, fps, frames=len(shown), audio=sound, crf=4, rounding=True) as writer:
            writer.write(shown)
        return path


def singer(seed: int = 0, frames: int = 128) -> Singer:
    """Phrases and rests of about a second; the mouth does what the voice does."""
    rng = np.random.default_rng(seed)
    voice = np.convolve(rng.uniform(0.3, 1.0, frames + 4), np.ones(5) / 5, mode="valid")
    voice = 0.6 + 0.4 * (voice - voice.min()) / (voice.max() - voice.min())
    sung = (np.arange(frames) % 48 < 24) & (np.arange(frames) > 8)
    voice = np.where(sung, voice, 0.0)
    return Singer(opening=voice, voice=voice)
