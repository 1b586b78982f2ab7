"""Somebody sings a song: frames, landmarks and the truth about each, in any order."""

from __future__ import annotations

import tempfile
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from .geometry import Expression
from .identity import Identity
from .song import Song

if TYPE_CHECKING:
    from .face import Painter

Floats = NDArray[np.float64]

BLINK_SECONDS = 0.24
BLINK_CLOSING = 0.35  # share of a blink until the lids meet
PICTURES_AT_ONCE = 16  # handed to the video writer


@dataclass(frozen=True)
class Motion:
    """What moves, one value a frame; (s,) unless stated. Units as in `Expression`."""

    opening: Floats
    rounding: Floats
    spread: Floats
    vowel: NDArray[np.int8]  # index into "aeiou", -1 outside vowels
    sung: NDArray[np.bool_]
    blink: Floats
    brow: Floats
    gaze: Floats  # (s, 2)
    shift: Floats  # (s, 2)
    roll: Floats
    yaw: Floats
    nod: Floats


class Person(Protocol):
    """Somebody who can be drawn with any expression, in a square picture."""

    def frame(self, face: Expression, /) -> NDArray[np.uint8]:
        """(size, size, 3) RGB."""

    def landmarks(self, face: Expression, /) -> NDArray[np.float32]:
        """(478, 2) x, y in pixels, in the layout of MediaPipe's face mesh."""


class Show(ABC):
    """A person who sings a song, as a sequence of frames.

    seed   of the movements that the song does not determine
    song   what is sung
    fps    frames a second; frame i shows the middle of its interval, (i + 0.5) / fps seconds
    size   side of the square picture in pixels, 32 or more

    Frames depend on these and the person alone: any order, any process, same bits. Raises ValueError for a
    size or rate out of range; drawing raises RuntimeError when the drawing library is missing.
    """

    def __init__(self, seed: int, song: Song, fps: float, size: int) -> None:
        if size < 32:
            raise ValueError(f"`size` is {size} pixels; a face needs at least 32. Use 128, 256 or 512.")
        if not 1 <= fps <= 240:
            raise ValueError(
                f"`fps` is {fps}; 1 to 240 frames a second are possible. The model was trained at 25."
            )
        self.song = song
        self.fps = fps
        self.size = size
        self._length = int(np.ceil(song.seconds * fps - 1e-6))
        self.motion = _motion(seed, song, (np.arange(self._length, dtype=np.float64) + 0.5) / fps)

    @property
    @abstractmethod
    def person(self) -> Person:
        """Who sings, made when the first frame is drawn."""

    def __len__(self) -> int:
        return self._length

    def expression(self, i: int) -> Expression:
        """The face in frame i."""
        i = self._index(i)
        m = self.motion
        return Expression(
            opening=float(m.opening[i]),
            rounding=float(m.rounding[i]),
            spread=float(m.spread[i]),
            blink=float(m.blink[i]),
            brow=float(m.brow[i]),
            gaze=(float(m.gaze[i, 0]), float(m.gaze[i, 1])),
            shift=(float(m.shift[i, 0]), float(m.shift[i, 1])),
            roll=float(m.roll[i]),
            yaw=float(m.yaw[i]),
            nod=float(m.nod[i]),
        )

    def frame(self, i: int) -> NDArray[np.uint8]:
        """(size, size, 3) RGB picture of frame i."""
        return self.person.frame(self.expression(i))

    def landmarks(self, i: int) -> NDArray[np.float32]:
        """(478, 2) x, y in pixels of frame i, in the layout of MediaPipe's face mesh."""
        return self.person.landmarks(self.expression(i))

    def opening(self, i: int) -> float:
        """Mouth opening of frame i, 0..1; 1 is the widest gap of this mouth."""
        return float(self.motion.opening[self._index(i)])

    @property
    def beats(self) -> NDArray[np.int64]:
        """Frames on which a beat falls."""
        frames = np.floor(self.song.beats * self.fps + 1e-6).astype(np.int64)
        return frames[frames < self._length]

    def render_video(self, path: str | Path, vocals_only: bool = False) -> None:
        """Write all frames and the mix (or the vocals alone) to a video file; errors as of `VideoWriter`."""
        import torch

        from singer_core.audio.waveform import Waveform, write_wave
        from singer_core.render.video import VideoWriter

        samples = torch.from_numpy(self.song.vocals if vocals_only else self.song.mix)[None]
        with tempfile.TemporaryDirectory() as folder:
            sound = write_wave(Path(folder) / "song.wav", Waveform(samples, self.song.rate))
            size = (self.size, self.size)
            with VideoWriter(path, size, self.fps, frames=len(self), audio=sound, rounding=True) as writer:
                for start in range(0, len(self), PICTURES_AT_ONCE):
                    stop = min(start + PICTURES_AT_ONCE, len(self))
                    pictures = np.stack([self.frame(i) for i in range(start, stop)])
                    writer.write(torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255)

    def _index(self, i: int) -> int:
        if not -self._length <= i < self._length:
            raise IndexError(
                f"Frame {i} of a performance of {self._length} frames. Use 0 to {self._length - 1}."
            )
        return i % self._length


class Performance(Show):
    """A drawn person who sings; at opening 1 the gap of the mouth is `identity.mouth.gap`."""

    def __init__(self, identity: Identity, song: Song, fps: float = 25.0, size: int = 128) -> None:
        super().__init__(identity.seed, song, fps, size)
        self.identity = identity

    @cached_property
    def person(self) -> Painter:
        try:
            from .face import Painter
        except ImportError as error:
            raise RuntimeError(
                f"Drawing portraits needs skia-python, which cannot be imported ({error}). Install it: "
                "`pip install skia-python`; without a screen it also needs the libraries libEGL and libGL."
            ) from error
        return Painter(self.identity, self.size)


def _motion(seed: int, song: Song, times: Floats) -> Motion:
    """All movements at some times; the mouth follows the song, the rest phrase, beat and chance."""
    rng = np.random.default_rng([seed, song.seed, 2])
    curves = song.curves
    sung = curves.at("sung", times)
    energy = np.interp(times, curves.times, _lagged(curves.effort))
    arch = np.sin(np.pi * curves.at("phrase", times))
    beat = 60.0 / song.tempo
    since = (times - song.score.beats[0]) / beat if song.score.beats else times / beat
    bounce = np.cos(2 * np.pi * since) * (0.35 + 0.65 * energy)
    sway = np.sin(np.pi * since / 2 + rng.uniform(0, 2 * np.pi))
    lively = rng.uniform(0.4, 0.8)  # what the song does not tell blurs what is learnt
    pitch = np.interp(times, curves.times, _lagged(np.log2(curves.pitch / np.median(curves.pitch))))
    drift = _wander(rng, times, 6, 0.35)
    gaze = _wander(rng, times, 2, 0.4).T * (1.0, 0.6)
    turn = np.clip(0.55 * sway * (0.4 + 0.6 * energy) + 0.45 * drift[1], -1, 1) * lively
    return Motion(
        opening=curves.at("opening", times),
        rounding=curves.at("rounding", times),
        spread=curves.at("spread", times),
        vowel=curves.at("vowel", times).astype(np.int8),
        sung=sung.astype(bool),
        blink=_blinks(rng, song, times),
        brow=np.clip(0.55 * arch + 0.8 * pitch * energy + 0.2 * drift[2] - 0.1, -1, 1),
        gaze=gaze,
        shift=lively
        * np.stack([1.3 * sway * energy + 0.7 * drift[3], 0.65 * bounce + 0.5 * drift[4]], axis=1),
        roll=lively * np.deg2rad(2.2 * sway * (0.3 + 0.7 * energy) + 1.3 * drift[5]),
        yaw=turn,
        nod=np.clip(0.45 * bounce - 0.5 * arch * np.maximum(pitch, 0) + 0.3 * drift[0], -1, 1),
    )


def _lagged(curve: Floats) -> Floats:
    """The curve over half a second, so that the body answers slower than the mouth."""
    from .articulation import smooth

    return smooth(curve, 0.5)


def _wander(rng: np.random.Generator, times: Floats, count: int, rate: float) -> Floats:
    """(count, len(times)) slow movements within -1..1, each the sum of three sines around `rate` Hz."""
    paths = np.zeros((count, len(times)))
    for row in paths:
        for hertz in rate * np.array([0.45, 1.0, 1.7]) * rng.uniform(0.8, 1.25, 3):
            row += np.sin(2 * np.pi * hertz * times + rng.uniform(0, 2 * np.pi)) / 3.0
    return paths


def _blinks(rng: np.random.Generator, song: Song, times: Floats) -> Floats:
    """0 open .. 1 closed: a blink every two to five seconds, one more after half of the phrases."""
    starts = list(np.cumsum(rng.uniform(1.8, 4.6, int(song.seconds / 1.8) + 2)))
    ends = [note.end for note in song.score.notes if note.last]
    for end in ends:
        if rng.uniform() < 0.5 and min(abs(end - start) for start in starts) > 0.8:
            starts.append(end)
    closed = np.zeros(len(times))
    for start in starts:
        place = (times - start) / BLINK_SECONDS
        rising = np.clip(place / BLINK_CLOSING, 0, 1)
        falling = np.clip((1.0 - place) / (1.0 - BLINK_CLOSING - 0.15), 0, 1)
        lid = np.minimum(rising, falling)
        closed = np.maximum(closed, lid * lid * (3 - 2 * lid))
    return closed
