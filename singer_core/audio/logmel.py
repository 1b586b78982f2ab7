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
LOWEST = math.log10(FLOOR) / SCALE
BLOCK_FRAMES = 256  # video frames a step
EQUALISER_BANDS = 6
# Mean of each of 16 bands while somebody sings, over 300 songs of the drawn world; and in how many sub-frames
# a song has to be heard for its own mean to count as much.
SUNG = (
    *(-0.67, 0.11, 0.18, 0.12, -0.02, -0.27, -0.58, -0.88),
    *(-0.95, -0.87, -0.96, -1.20, -1.52, -1.74, -1.87, -1.90),
)
DOUBT = 100
AUDIBLE = 0.75  # below the loudest sub-frames, in units of the features: 15 dB


class LogMelFrontEnd:
    """Each video frame is cut into `layers` sub-frames of `width` mel bands: (l, d) as of a wav2vec2 encoder.

    A feature is log10(max(e, 1e-4)) / 2, where e is the mean power density of the band in a Hann window
    around the sub-frame's centre, relative to white noise of the file's power. So 0 is the level of such
    noise, -2 the floor, and the file's volume does not matter (it is normalised over the file).
    """

    def __init__(self, layers: int, width: int, levelled: bool = True) -> None:
        """Raises ValueError for fewer than one sub-frame or band.

        levelled  bands are brought to the mean that they have where people sing (`level`)
        """
        if layers < 1 or width < 1:
            raise ValueError(f"layers = {layers}, width = {width}; both must be at least 1. Try 4 and 32.")
        self.layers, self.width, self.levelled = layers, width, levelled
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
        if self.levelled:
            level(out)
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
    return _lifted(features, curve)


def level(features: np.ndarray) -> None:
    """Bring the bands of a song's features (s, l, d), in place, to the mean that they have where people sing.

    Cepstral mean normalisation (Atal 1974), so that voices, microphones and rooms count less; less of it for
    a short sound, whose mean is that of its vowels.
    """
    blocks = [features[first : first + BLOCK_FRAMES] for first in range(0, len(features), BLOCK_FRAMES)]
    loudness = np.concatenate([np.power(10, SCALE * block).mean(-1) for block in blocks])
    heard = loudness > max(np.quantile(loudness, 0.9) / 10 ** (SCALE * AUDIBLE), FLOOR)
    count = int(heard.sum())
    if not count:
        return
    mean = features.mean((0, 1), where=heard[..., None], dtype=np.float64)
    wanted = F.interpolate(torch.tensor([[SUNG]]), len(mean), mode="linear")[0, 0]
    curve = count / (count + DOUBT) * (wanted - torch.from_numpy(mean).float())
    for block in blocks:
        block[:] = _lifted(torch.from_numpy(block), curve).clamp_min(LOWEST).numpy()


def _lifted(features: torch.Tensor, curve: torch.Tensor) -> torch.Tensor:
    """Features (..., d) with a curve (d,) added to their bands, none at the floor."""
    return features + curve * (features - LOWEST).clamp(0, 1)
