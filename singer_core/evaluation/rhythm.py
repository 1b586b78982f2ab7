"""Beats: how the moments at which the head rests between two movements fall on the beats of the song."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SIGMA = 0.1  # seconds
SMOOTHING = 0.08  # seconds: standard deviation of the window over the head's speed


def motion_beats(speed: Floats, fps: float) -> Floats:
    """Times in seconds of the local minima of a speed (s,): where a movement stops or turns round.

    speed[t] belongs to the step from frame t - 1 to frame t, the first value is ignored. The speed is
    smoothed by a Gaussian first; of a flat minimum the middle counts.
    """
    step = np.asarray(speed, np.float64)[1:]
    reach = max(round(3 * SMOOTHING * fps), 1)
    if len(step) < 3:
        return np.zeros(0)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / (SMOOTHING * fps)) ** 2)
    smooth = np.convolve(np.pad(step, reach, mode="edge"), kernel / kernel.sum(), mode="valid")
    slope = np.diff(smooth)
    slope[np.abs(slope) < 1e-9 * max(smooth.max(), 1e-12)] = 0
    turning = np.flatnonzero(slope)
    lowest = (slope[turning[:-1]] < 0) & (slope[turning[1:]] > 0)
    first, last = turning[:-1][lowest] + 1, turning[1:][lowest]  # equal unless the minimum is flat
    return ((first + last) / 2 + 1) / fps  # step i is centred on the start of frame i + 1


def beat_alignment(beats: Floats, movements: Floats, sigma: float = SIGMA) -> float:
    """Mean over the song's beats b of exp(-min over movements m of (m - b)^2 / (2 sigma^2)).

    beats, movements, sigma   in seconds, all of them. 0 where nothing moves. Raises ValueError for no beats.
    """
    beats, movements = np.asarray(beats, np.float64), np.asarray(movements, np.float64)
    if beats.size == 0:
        raise ValueError("There are no beats. Give a song with a rhythm.")
    if movements.size == 0:
        return 0.0
    nearest = np.abs(beats[:, None] - movements[None]).min(axis=1)
    return float(np.exp(-(nearest**2) / (2 * sigma**2)).mean())


def chance_alignment(beats: Floats, movements: Floats, seconds: float, shifts: int = 40) -> float:
    """The alignment of the same movements to the beats shifted around the song, mean over `shifts` of them.

    Many movements are near some beat by chance; only what is above this number is rhythm.
    """
    moved = [(np.asarray(beats) + seconds * i / shifts) % seconds for i in range(1, shifts)]
    return float(np.mean([beat_alignment(shifted, movements) for shifted in moved]))
