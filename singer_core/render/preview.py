"""What is shown of a song that is still being sung: how far it is, as a picture of its sound and in words."""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ..audio.waveform import Waveform

SUNG, UNSUNG = (0.35, 0.75, 1.0), (0.4, 0.4, 0.4)  # colours of the sound
PACE = 5  # clips whose median duration says how long the others will take


def loudness_of(sound: Waveform, count: int) -> Tensor:
    """(count,) loudest level of each of so many equal parts of a sound; that of the loudest part is 1."""
    samples = sound.block(0, sound.length).abs().amax(0)
    levels = F.adaptive_max_pool1d(samples[None], count)[0]
    return levels / levels.max().clamp_min(1e-6)


def strip(levels: Tensor, height: int, done: float) -> Tensor:
    """(3, height, n) picture of levels (n,), of which the first `done` (0 to 1) are coloured."""
    inside = torch.linspace(-1, 1, height).abs()[:, None] <= levels  # height n
    sung = torch.arange(len(levels)) < done * len(levels)
    colours = torch.where(sung, torch.tensor(SUNG)[:, None], torch.tensor(UNSUNG)[:, None])  # 3 n
    return inside * colours[:, None]


class Pace:
    """How fast clips come: asked after each, it says how long the others will take."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._last = clock, clock()
        self._spent: deque[float] = deque(maxlen=PACE)

    def left(self, clips: int) -> float:
        """Seconds that so many more clips will take."""
        now = self._clock()
        self._spent.append(now - self._last)
        self._last = now
        return statistics.median(self._spent) * clips


def minutes(seconds: float) -> str:
    """As a player shows it: 0:07, 3:20, 62:10."""
    return "{}:{:02}".format(*divmod(round(seconds), 60))
