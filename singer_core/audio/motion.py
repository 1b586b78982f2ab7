"""Pose, face and lip weights of every video frame, from constants, activity, loudness and beats (librosa)."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ..libraries import require
from ..marks import read_marks
from ..settings import MotionResponse
from .waveform import Waveform, resample, to_mono

BEAT_RATE = 22_050  # Hz, librosa's
WINDOW_SECONDS, CONTEXT_SECONDS = 240, 10  # longer songs are tracked in stretches: constant memory
MIN_INTERVAL = 0.2  # s between beats where two stretches meet: 300 beats a minute
BEAT_SIGMA = 0.1  # s, half width of the pulse around a beat
LOUDNESS_RANGE_DB = 20.0  # so far above or below the median loudness the response is full


def motion_weights(
    frames: int,
    fps: float,
    response: MotionResponse | None = None,
    activity: torch.Tensor | None = None,
    loudness: torch.Tensor | None = None,
    beats: torch.Tensor | None = None,
) -> torch.Tensor:
    """Pose, face and lip weight of `frames` frames, (frames, 3): 1 is the reference, 0 removes a branch.

    Constants, beats, loudness, silence and marks multiply; what is not given has no effect. Raises ValueError
    for marks that cannot be read.

    activity  (n,) in [0, 1]   vocal activity of the frames; frames behind it count as silent
    loudness  (n,) dB          of the mix or the stem; frames behind it repeat the last value
    beats     (b,) s           beat times
    """
    response = response or MotionResponse()
    ones = torch.ones(frames)
    pose, face, lip = ones * response.pose, ones * response.face, ones * response.lip
    if beats is not None and beats.numel():
        pose = pose * (1 + response.beat * beat_pulses(frames, fps, beats))
    if loudness is not None and loudness.numel():
        level = _fitted(loudness, frames, float(loudness[-1]))
        deviation = ((level - loudness.median()) / LOUDNESS_RANGE_DB).clamp(-1, 1)
        face = face * (1 + response.loudness * deviation)
    if activity is not None:
        lip = lip * (1 - response.silence * (1 - _fitted(activity, frames, 0.0)))
    for mark in read_marks(response.marks, frames / fps):
        rows = slice(round(mark.start * fps), round(mark.stop * fps))
        for curve, factor in zip((pose, face, lip), mark.weights, strict=True):
            curve[rows] *= factor
    return torch.stack([pose, face, lip], dim=1)


def beat_pulses(frames: int, fps: float, beats: torch.Tensor) -> torch.Tensor:
    """exp(-(t - b)^2 / (2 sigma^2)) of the nearest beat b for the middle t of every frame, (frames,)."""
    times = (torch.arange(frames, dtype=torch.float64) + 0.5) / fps
    beats = beats.double()
    after = torch.searchsorted(beats, times).clamp_max(len(beats) - 1)
    before = (after - 1).clamp_min(0)
    distance = torch.minimum((times - beats[after]).abs(), (times - beats[before]).abs())
    return torch.exp(-distance.square() / (2 * BEAT_SIGMA**2)).float()


def beat_times(mix: Waveform) -> torch.Tensor:
    """Times of the beats in seconds, ascending, (n,) float64; empty where there is no rhythm.

    librosa's dynamic-programming tracker with its defaults, over the whole song up to four minutes. Longer
    songs are tracked in stretches of four minutes with 10 s of context, so their tempo may change in between.
    Raises RuntimeError with the remedy where librosa is missing.
    """
    librosa = require("librosa", "Beat tracking", "librosa")
    mono = resample(to_mono(mix), BEAT_RATE)
    size, context = WINDOW_SECONDS * BEAT_RATE, CONTEXT_SECONDS * BEAT_RATE
    times: list[float] = []
    for start in range(0, mono.length, size):
        stop = min(start + size, mono.length)
        read = max(start - context, 0)
        samples = mono.block(read, min(stop + context, mono.length))[0].numpy()
        _, found = librosa.beat.beat_track(y=samples, sr=BEAT_RATE, units="time")
        for time in found + read / BEAT_RATE:
            if start <= time * BEAT_RATE < stop and (not times or time - times[-1] >= MIN_INTERVAL):
                times.append(float(time))
    return torch.tensor(times, dtype=torch.float64)


def _fitted(curve: torch.Tensor, frames: int, fill: float) -> torch.Tensor:
    """The curve cut or filled to `frames` values."""
    return F.pad(curve[:frames].float(), (0, max(frames - len(curve), 0)), value=fill)
