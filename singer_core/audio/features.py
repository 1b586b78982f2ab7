"""What the front ends share: the clock of the video, features at its rate, and a song as they hear it."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import torch

from .waveform import Waveform, resample, to_mono

RATE = 16_000  # Hz, wav2vec2-base-960h
VARIANCE_FLOOR = 1e-7  # of transformers' Wav2Vec2FeatureExtractor (numerics section 14)
MAX_FPS_DENOMINATOR = 10_000  # 29.97 and 23.976 given as floats become 30000/1001-like ratios again


def exact_fps(fps: float) -> Fraction:
    """Frames per second as a ratio of integers. Raises ValueError where not positive and finite."""
    if not 0 < fps < float("inf"):
        raise ValueError(f"fps is {fps}; a positive number is accepted. The model was trained at 25.")
    return Fraction(fps).limit_denominator(MAX_FPS_DENOMINATOR)


def frame_count(samples: int, rate: int, fps: float) -> int:
    """Video frames of a sound: ceil(samples / rate * fps), in exact arithmetic.

    The authors' script computes it in floats, which now and then gives one frame more where the sound is
    an exact number of frames long.
    """
    ratio = exact_fps(fps)
    return -(-samples * ratio.numerator // (rate * ratio.denominator))


def padded_count(frames: int, clip_length: int) -> int:
    """`frames` rounded up to whole clips. Raises ValueError for a clip length below 1."""
    if clip_length < 1:
        raise ValueError(f"clip_length is {clip_length}; at least 1 frame is accepted. The model uses 16.")
    return -(-frames // clip_length) * clip_length


@dataclass(frozen=True)
class AudioFeatures:
    """Features of a song at the video rate.

    features  s l d      float32 or float16, CPU, maybe mapped from a file; s = `frames` rounded up to clips
    fps                  frames per second
    frames               video frames the sound really has; the features behind them belong to the padding
    activity  s or None  vocal activity in [0, 1] of every frame, 0 in the padding
    """

    features: torch.Tensor
    fps: float
    frames: int
    activity: torch.Tensor | None = None


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
