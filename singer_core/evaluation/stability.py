"""What a video does that it should not: seams between clips, drift, flicker, loss of sharpness."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .footage import Floats


@dataclass(frozen=True)
class Seams:
    """ratio: motion at seams over motion inside; band: how far from 1 that ratio is by chance."""

    ratio: float
    band: float

    @property
    def visible(self) -> bool:
        """Above the aim of 1.05 and clearly above chance."""
        return self.ratio > 1.05 and self.ratio > 1 + self.band


def at_seams(frames: int, stride: int, shared: int = 0) -> NDArray[np.bool_]:
    """(frames,) True where the step from the frame before belongs to a seam.

    Clips start every `stride` frames; their first `shared` frames are cross-faded with the clip before, which
    spreads a seam over shared + 1 steps. The start of the video is no seam.
    """
    index = np.arange(frames)
    return (index >= stride) & (index % stride <= shared)


def seams(step: Floats, stride: int, shared: int = 0) -> Seams | None:
    """Mean step at the seams (see `at_seams`) over the mean of all others; None without two whole clips,
    without motion, and where nothing lies between two seams.

    step   (s,) change from the frame before, any unit, the first value ignored
    What happens by chance is told by stretches as long as a seam that touch none: the band is three standard
    deviations of the mean of as many of them as there are seams, and what any one place of the clip has.
    """
    inside = np.arange(shared + 1, stride - shared)
    if len(step) < 2 * stride or not len(inside) or step[1:].mean() < 1e-9:
        return None
    seam = at_seams(len(step), stride, shared)
    rest = max(float(step[1:][~seam[1:]].mean()), 1e-9)
    stretches = np.convolve(step, np.ones(shared + 1) / (shared + 1), mode="valid")  # by their first step
    place = np.arange(len(stretches)) % stride
    elsewhere = stretches[np.isin(place, inside)] / rest
    spread = 3 * float(elsewhere.std()) / len(step[stride::stride]) ** 0.5
    most = max(float(stretches[place == p].mean()) for p in inside) / rest - 1
    return Seams(float(step[seam].mean()) / rest, max(spread, most))


def colour_drift(colour: Floats, clip: int) -> Floats | None:
    """(3,) mean level of the last `clip` frames minus that of the first; None for fewer than two clips.

    colour   (s, 3) mean level of each channel
    """
    if len(colour) < 2 * clip:
        return None
    return colour[-clip:].mean(axis=0) - colour[:clip].mean(axis=0)


def sharpness_change(sharpness: Floats, clip: int) -> float | None:
    """Percent by which the mean sharpness of the last clip differs from the first's; None as above."""
    if len(sharpness) < 2 * clip or sharpness[:clip].mean() < 1e-9:
        return None
    return float(100 * (sharpness[-clip:].mean() / sharpness[:clip].mean() - 1))


def trend(curve: Floats, clip: int) -> float:
    """Slope of a line through the means of the clips over its standard error: beyond +-4 it is no chance.

    curve   (s,). 0 with fewer than four clips.
    """
    count = len(curve) // clip
    if count < 4:
        return 0.0
    means = curve[: count * clip].reshape(count, clip).mean(axis=1)
    at = np.arange(count) - (count - 1) / 2
    slope = (at * means).sum() / (at**2).sum()
    rest = means - means.mean() - slope * at
    error = np.sqrt((rest**2).sum() / (count - 2) / (at**2).sum())
    return float(slope / max(error, 1e-12))


def flicker(blocks: Floats) -> float | None:
    """How far a frame's brightness is from the mean of its neighbours', grey levels; None below 3 frames.

    blocks   (s, 64) mean brightness of each field. The median field counts, so that what moves does not.
    """
    if len(blocks) < 3:
        return None
    bend = blocks[1:-1] - 0.5 * (blocks[:-2] + blocks[2:])
    return float(np.abs(np.median(bend, axis=1)).mean())


def static_motion(corners: Floats) -> float | None:
    """Mean step of the calmest corner, grey levels; None for one frame.

    corners   (s, 4) change in each corner from the frame before, the first row ignored
    """
    return float(corners[1:].mean(axis=0).min()) if len(corners) > 1 else None
