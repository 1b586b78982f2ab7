"""Somebody sings a song: frames, landmarks and the truth about each, in any order."""

from __future__ import annotations

import copy
import tempfile
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from singer_core.portrait.crop import CropTransform, exactly_around
from singer_core.portrait.landmarks import LIPS, SILHOUETTE
from singer_core.portrait.masks import bounding_box
from singer_core.portrait.portrait import MARGIN

from .geometry import Expression
from .identity import Identity
from .song import Song

if TYPE_CHECKING:
    from typing_extensions import Self

    from .face import Painter

Floats = NDArray[np.float64]

SWAY = 0.6  # share of the widest way of a head that an endless "ee" takes it
LAG = 0.5  # seconds before a moment that move the head: a clip does not hear what follows it
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

    song   what is sung
    fps    frames a second; frame i shows the middle of its interval, (i + 0.5) / fps seconds
    size   side of the square picture in pixels, 32 or more

    Frames depend on these and the person alone: any order, any process, same bits. Raises ValueError for a
    size or rate out of range; drawing raises RuntimeError when the drawing library is missing.
    """

    def __init__(self, song: Song, fps: float, size: int) -> None:
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
        self.crop: CropTransform | None = None
        self.motion = _motion(song, (np.arange(self._length, dtype=np.float64) + 0.5) / fps)

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

    def framed(self, margin: float = MARGIN) -> Self:
        """Cut around the face of the first frame as `prepare_portrait` does for "exact".

        Mouths are then where the network looks for them; edges repeat outside the picture.
        """
        face, lips = (bounding_box(self.landmarks(0)[list(ring)]) for ring in (SILHOUETTE, LIPS))
        size = (self.size, self.size)
        framed = copy.copy(self)
        framed.crop = exactly_around(face, lips, size, size, margin)
        return framed

    def frame(self, i: int) -> NDArray[np.uint8]:
        """(size, size, 3) RGB picture of frame i."""
        picture = self.person.frame(self.expression(i))
        return picture if self.crop is None else np.array(self.crop.apply(Image.fromarray(picture)))

    def landmarks(self, i: int) -> NDArray[np.float32]:
        """(478, 2) x, y in pixels of frame i, in the layout of MediaPipe's face mesh."""
        points = self.person.landmarks(self.expression(i))
        if self.crop is None:
            return points
        left, top, right, _bottom = self.crop.box
        return (points - np.array([left, top], np.float32)) * np.float32(self.size / (right - left))

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
        super().__init__(song, fps, size)
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


def _motion(song: Song, times: Floats) -> Motion:
    """All movements at some times, as the song tells them: what it does not tell is blur where it is learnt.

    The head rises with loudness, turns and leans with the colour of the vowels, and rests where nobody sings;
    a melody is too fine for the energies that the network hears.
    """
    curves = song.curves
    loud = _lagged(curves.effort * curves.sung, curves.times, times)
    sway = SWAY * _lagged((curves.spread - curves.rounding) * curves.sung, curves.times, times)
    return Motion(
        opening=curves.at("opening", times),
        rounding=curves.at("rounding", times),
        spread=curves.at("spread", times),
        vowel=curves.at("vowel", times).astype(np.int8),
        sung=curves.at("sung", times).astype(bool),
        blink=_blinks(song, times),
        brow=np.clip(0.6 * loud + 0.6 * sway - 0.1, -1, 1),
        gaze=np.stack([-0.3 * sway, 0.2 * loud], axis=1),  # at whom the head turns away from
        shift=np.stack([0.8 * sway, -0.6 * loud], axis=1),
        roll=np.deg2rad(1.8 * sway),
        yaw=0.45 * sway,
        nod=0.2 - 0.6 * loud,
    )


def _lagged(curve: Floats, at: Floats, times: Floats) -> Floats:
    """Means over `LAG` before `times` of a curve known `at` others: bodies answer slower than mouths."""
    from .articulation import smooth

    return np.interp(times - LAG / 2, at, smooth(curve, LAG))


def _blinks(song: Song, times: Floats) -> Floats:
    """0 open .. 1 closed: a blink where a phrase begins and where it ends."""
    notes = song.score.notes
    starts = [note.end for note in notes if note.last]
    starts += [note.start for before, note in pairwise(notes) if before.last]
    closed = np.zeros(len(times))
    for start in starts:
        place = (times - start) / BLINK_SECONDS
        rising = np.clip(place / BLINK_CLOSING, 0, 1)
        falling = np.clip((1.0 - place) / (1.0 - BLINK_CLOSING - 0.15), 0, 1)
        lid = np.minimum(rising, falling)
        closed = np.maximum(closed, lid * lid * (3 - 2 * lid))
    return closed
