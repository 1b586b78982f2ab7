"""A song as the front ends hear it: 16 kHz, mono, zero mean and unit variance over the file."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .waveform import Waveform, resample, to_mono

RATE = 16_000  # Hz, wav2vec2-base-960h
VARIANCE_FLOOR = 1e-7  # of transformers' Wav2Vec2FeatureExtractor (numerics section 14)


@dataclass(frozen=True)
class NormalisedSong:
    """(x - mean) / sqrt(variance + 1e-7) of a 16 kHz mono sound, then zeros; read in stretches."""

    waveform: Waveform  # (1, n) at 16 kHz
    mean: float
    deviation: float
    length: int  # samples with the padding behind

    def block(self, start: int, stop: int) -> torch.Tensor:
        """Samples start to stop, (stop - start,) float32; zeros outside the sound."""
        values = (self.waveform.block(start, stop)[0] - self.mean) / self.deviation
        values[max(self.waveform.length - start, 0) :] = 0
        values[: max(-start, 0)] = 0
        return values


def normalised_song(waveform: Waveform, padding: int = 0, normalise: bool = True) -> NormalisedSong:
    """Bring a waveform to 16 kHz mono and measure it.

    padding    zeros to append after the normalisation, in samples at 16 kHz
    normalise  False leaves mean and variance alone, for encoders trained so (`do_normalize: false`)
    """
    mono = resample(to_mono(waveform), RATE)
    length = mono.length + padding
    if not normalise:
        return NormalisedSong(mono, 0.0, 1.0, length)
    mean = sum(float(block.double().sum()) for block in mono.blocks()) / mono.length
    power = sum(float((block.double() - mean).square().sum()) for block in mono.blocks()) / mono.length
    return NormalisedSong(mono, mean, (power + VARIANCE_FLOOR) ** 0.5, length)
