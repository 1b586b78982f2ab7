"""A whole synthetic song: score, curves of the mouth, vocals and mix."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .articulation import Curves, articulate
from .band import accompany, reverberate
from .phonetics import STYLES
from .score import Score
from .voice import sing

_SCORE, _VOICE, _BAND = 1, 2, 3  # one random stream each, so that sound never changes the composition


@dataclass(frozen=True)
class Song:
    """A sung melody with everything that is known about it.

    seconds   duration; rate: samples a second
    score     notes, chords, tempo, beats
    curves    mouth and voice over time, see `Curves`
    vocals    (n,) float32 in -1..1, dry; silent in rests but for some 20 ms at their edges
    backing   (n,) float32, accompaniment and echo; zeros without accompaniment
    """

    seed: int
    style: str
    seconds: float
    rate: int
    score: Score
    curves: Curves
    vocals: NDArray[np.float32]
    backing: NDArray[np.float32]

    @staticmethod
    def random(
        seed: int, seconds: float, style: str = "pop", accompaniment: bool = True, rate: int = 16000
    ) -> Song:
        """Compose and sing a song; the same arguments give the same samples.

        The score depends on seed, seconds and style only: another rate gives the same song.
        Raises ValueError for an unknown style, a duration below 0.5 s or a rate below 8 kHz.
        """
        if style not in STYLES:
            raise ValueError(f"Unknown style {style!r}; styles are {', '.join(STYLES)}. Pass one of them.")
        if not seconds >= 0.5:
            raise ValueError(f"`seconds` is {seconds}; a song needs at least 0.5. Ask for a longer one.")
        if rate < 8000:
            raise ValueError(f"`rate` is {rate} Hz; the voice needs 8000 or more. Use 16000 or 44100.")
        score = Score.random(np.random.default_rng([seed, _SCORE]), seconds, style)
        rng = np.random.default_rng([seed, _VOICE])
        curves = articulate(score, seconds, rng)
        length = round(seconds * rate)
        vocals = _fit(sing(curves, score.singer, style, rate, rng), length)
        backing = np.zeros(length)
        if accompaniment:
            hall = np.random.default_rng([seed, _BAND])
            backing = hall.uniform(0.5, 1.0) * accompany(score, length, rate, hall)
            backing = backing + reverberate(0.5 * backing + vocals, rate, hall) * 0.14
        peak = max(float(np.abs(vocals).max()), float(np.abs(vocals + backing).max()), 1e-6)
        gain = 0.9 / peak
        return Song(
            seed=seed,
            style=style,
            seconds=seconds,
            rate=rate,
            score=score,
            curves=curves,
            vocals=(gain * vocals).astype(np.float32),
            backing=(gain * backing).astype(np.float32),
        )

    @property
    def mix(self) -> NDArray[np.float32]:
        """(n,) vocals and accompaniment together."""
        return self.vocals + self.backing

    @property
    def beats(self) -> NDArray[np.float64]:
        """Times of the beats in seconds."""
        return np.array(self.score.beats)

    @property
    def tempo(self) -> float:
        """Beats a minute."""
        return self.score.tempo


def _fit(sound: NDArray[np.float64], length: int) -> NDArray[np.float64]:
    return np.pad(sound[:length], (0, max(length - len(sound), 0)))
