"""Beat times of the full mix, by librosa."""

from __future__ import annotations

import torch

from .job import Cancel, Progress, step
from .libraries import require
from .waveform import Waveform, resample, to_mono

RATE = 22_050  # Hz, librosa's
WINDOW_SECONDS, CONTEXT_SECONDS = 240, 10  # longer songs are tracked in stretches: constant memory
MIN_INTERVAL = 0.2  # s between beats where two stretches meet: 300 beats a minute


def beat_times(mix: Waveform, progress: Progress | None = None, cancel: Cancel | None = None) -> torch.Tensor:
    """Times of the beats in seconds, ascending, (n,) float64; empty where there is no rhythm.

    librosa's dynamic-programming tracker with its defaults, over the whole song up to four minutes. Longer
    songs are tracked in stretches of four minutes with 10 s of context, so their tempo may change in between.
    Raises RuntimeError with the remedy where librosa is missing.
    """
    librosa = require("librosa", "Beat tracking", "librosa")
    mono = resample(to_mono(mix), RATE)
    size, context = WINDOW_SECONDS * RATE, CONTEXT_SECONDS * RATE
    times: list[float] = []
    for start in range(0, mono.length, size):
        step(start / mono.length, progress, cancel)
        stop = min(start + size, mono.length)
        read = max(start - context, 0)
        samples = mono.block(read, min(stop + context, mono.length))[0].numpy()
        _, found = librosa.beat.beat_track(y=samples, sr=RATE, units="time")
        for time in found + read / RATE:
            if start <= time * RATE < stop and (not times or time - times[-1] >= MIN_INTERVAL):
                times.append(float(time))
    step(1.0, progress, None)
    return torch.tensor(times, dtype=torch.float64)
