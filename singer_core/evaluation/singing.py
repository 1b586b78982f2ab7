"""Does the singer sing? The mouth against the voice, its motion in rests, the head against the beat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..audio.activity import VOICE_FLOOR_DB, loudness_curve, vocal_activity
from ..audio.waveform import Waveform
from .footage import Floats

LOUD = 0.95  # quantile of the audible frames whose loudness is the level 1
REACH_SECONDS = 0.4  # lags that are tried, both ways
SHORTEST_SECONDS = 1.0  # of picture and of song, to correlate at all
EDGE_SECONDS = 0.2  # around sung stretches: lips part before the voice and close after it
SHORTEST_REST = 0.3  # seconds of rest, to say anything about rests
SIGMA = 0.1  # seconds: how far off a beat still counts
SMOOTHING = 0.08  # seconds: standard deviation of the window over the head's speed


@dataclass(frozen=True)
class Match:
    """Best correlation of two curves; lag > 0: the first is that many frames later than the second."""

    correlation: float
    lag: int


def vocal_level(vocals: Waveform, fps: float, frames: int) -> Floats:
    """(frames,) 0..1: amplitude (root mean square) over that of the loud frames, from which on it is 1.

    Amplitude, not decibels: an open mouth lets the more of it out the wider it is (Grant and Seitz 2000;
    Chandrasekaran et al. 2009), while in decibels consonants and breath count nearly as much as vowels.
    """
    level = loudness_curve(vocals, fps, frames).double().numpy()
    audible = level[level > VOICE_FLOOR_DB]
    if audible.size == 0:
        return np.zeros(frames)
    return np.minimum(10 ** ((level - np.quantile(audible, LOUD)) / 20), 1.0)


def sung_frames(vocals: Waveform, fps: float, frames: int) -> NDArray[np.bool_]:
    """(frames,) True where the stem is sung."""
    return vocal_activity(vocals, fps, frames).numpy() > 0.5


def best_match(first: Floats, second: Floats, reach: int) -> Match | None:
    """The lag in -reach..reach with the highest correlation, the smallest one where several tie.

    first, second   (n,) each. None where a curve is constant at every lag.
    """
    found: Match | None = None
    for lag in sorted(range(-reach, reach + 1), key=abs):
        value = _correlation(first, second, lag)
        if value is not None and (found is None or value > found.correlation + 1e-9):
            found = Match(value, lag)
    return found


def chance_match(first: Floats, second: Floats, reach: int, shifts: int = 20) -> float | None:
    """The same with the second curve moved around by more than twice `reach`, mean over up to `shifts` moves.

    Any two songs rise and fall in phrases: only what is above this number is this song. None as above, and
    where the curves are too short to be moved that far.
    """
    moves = np.unique(np.linspace(2 * reach + 1, len(second) - 2 * reach - 1, shifts).round().astype(int))
    if len(second) < 6 * reach:
        return None
    found = [best_match(first, np.roll(second, int(move)), reach) for move in moves]
    values = [match.correlation for match in found if match is not None]
    return float(np.mean(values)) if values else None


def rest_motion(opening: Floats, sung: NDArray[np.bool_], fps: float) -> float | None:
    """Mean step of the opening from frame to frame inside rests over that in song; None without both.

    opening   (s,) any unit;  sung  (s,)
    The 0.2 s around sung stretches belong to neither.
    """
    edge = round(EDGE_SECONDS * fps)
    near = np.convolve(sung, np.ones(2 * edge + 1), mode="same")[: len(sung)] > 0
    step = np.abs(np.diff(opening))
    song, rest = step[sung[1:] & sung[:-1]], step[~near[1:] & ~near[:-1]]
    if len(rest) < SHORTEST_REST * fps or len(song) < SHORTEST_REST * fps or song.mean() < 1e-9:
        return None
    return float(rest.mean() / song.mean())


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


def _correlation(first: Floats, second: Floats, lag: int) -> float | None:
    """Pearson's, of first[t + lag] and second[t]."""
    a, b = (first[lag:], second[: len(second) - lag]) if lag >= 0 else (first[:lag], second[-lag:])
    if len(a) < 3 or a.std() < 1e-9 or b.std() < 1e-9:
        return None
    return float(np.corrcoef(a, b)[0, 1])
