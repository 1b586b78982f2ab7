"""Weight-free front end: log-mel energies in sub-frames of every video frame, for small models."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F

from ..libraries import require
from ..progress import Progress, unwatched
from .activity import hushed
from .features import (
    RATE,
    AudioFeatures,
    NormalisedSong,
    exact_fps,
    frame_count,
    normalised_song,
    padded_count,
)
from .scratch import release_pages, scratch_array
from .waveform import Waveform

FLOOR = 1e-4  # energy relative to white noise of the file's power, -40 dB
SCALE = 2.0  # decades per unit: the features of songs lie about in [-2, 1.5]
BLOCK_FRAMES = 256  # video frames a step
EQUALISER_BANDS = 6


class LogMelFrontEnd:
    """Each video frame is cut into `layers` sub-frames of `width` mel bands: (l, d) as of a wav2vec2 encoder.

    A feature is log10(max(e, 1e-4)) / 2, where e is the mean power density of the band in a Hann window
    around the sub-frame's centre, relative to white noise of the file's power. So 0 is the level of such
    noise, -2 the floor, and the file's volume does not matter (it is normalised over the file).
    """

    def __init__(self, layers: int, width: int) -> None:
        """Raises ValueError for fewer than one sub-frame or band."""
        if layers < 1 or width < 1:
            raise ValueError(f"layers = {layers}, width = {width}; both must be at least 1. Try 4 and 32.")
        self.layers, self.width = layers, width
        self.window_samples = max(1024, 1 << (8 * width - 1).bit_length())  # 64 ms; more where bands need it

    def encode(
        self,
        waveform: Waveform,
        fps: float,
        clip_length: int = 16,
        device: torch.device | str | None = None,
        progress: Progress = unwatched,
    ) -> AudioFeatures:
        """Features of a song; the arguments are those of `Wav2Vec2FrontEnd.encode`."""
        frames = frame_count(waveform.length, waveform.rate, fps)
        total = padded_count(frames, clip_length)
        song = normalised_song(hushed(waveform))
        bank, window = self._bank().to(device), self._window().to(device)
        out = scratch_array((total, self.layers, self.width))
        for first in range(0, total, BLOCK_FRAMES):
            progress(first / total)
            last = min(first + BLOCK_FRAMES, total)
            pieces = self._pieces(song, first, last, fps).to(device)
            power = torch.fft.rfft(pieces * window).abs().square()
            energy = (power @ bank).clamp_min(FLOOR).log10() / SCALE
            out[first:last] = energy.reshape(-1, self.layers, self.width).cpu().numpy()
            release_pages(out)
        progress(1.0)
        return AudioFeatures(torch.from_numpy(out.view(np.ndarray)), fps, frames)

    def _pieces(self, song: NormalisedSong, first: int, last: int, fps: float) -> torch.Tensor:
        """((last - first) * l, window) stretches of the song around the centres of the sub-frames."""
        ratio, half = exact_fps(fps), self.window_samples // 2
        centres = [
            (2 * j + 1) * RATE * ratio.denominator // (2 * self.layers * ratio.numerator)
            for j in range(first * self.layers, last * self.layers)
        ]
        start = centres[0] - half
        stretch = song.block(start, centres[-1] + half)
        rows = torch.tensor(centres)[:, None] - half - start + torch.arange(self.window_samples)
        return stretch[rows]

    def _window(self) -> torch.Tensor:
        """Hann window of unit energy, so that white noise of unit variance has power 1 in every bin."""
        window = torch.hann_window(self.window_samples)
        return window / window.square().sum().sqrt()

    def _bank(self) -> torch.Tensor:
        """(bins, d) triangles on the mel scale, each with weights that sum to 1: the mean over a band."""
        library = require("transformers.audio_utils", "The log-mel front end", "transformers")
        bank = library.mel_filter_bank(
            num_frequency_bins=self.window_samples // 2 + 1,
            num_mel_filters=self.width,
            min_frequency=0.0,
            max_frequency=RATE / 2,
            sampling_rate=RATE,
        )
        weights = torch.from_numpy(bank).float()
        return weights / weights.sum(dim=0, keepdim=True).clamp_min(1e-6)


def equalised(features: torch.Tensor, deviation: float, generator: torch.Generator) -> torch.Tensor:
    """Features (..., d) as of another voice or microphone: a random curve on the bands, none at the floor.

    deviation  of each of the curve's points, in units of the features; 0.1 = 2 dB
    """
    points = deviation * torch.randn(1, 1, EQUALISER_BANDS, generator=generator)
    curve = F.interpolate(points, features.shape[-1:], mode="linear", align_corners=True)[0, 0]
    above_floor = features - math.log10(FLOOR) / SCALE
    return features + curve * above_floor.clamp(0, 1)
