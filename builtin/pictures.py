"""Single pictures of many people, drawn and photographed, for networks that see no song."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from .faces import read_entries, read_faces
from .world import Identity, Performance, Show, Song

HELD_OUT_SEED = 700_000_000  # drawn people from here on are judged on, never trained on
FRAMING = (0.36, 0.72)  # larger side of the face over that of the picture
SHIFT = 0.06  # of the picture's side, by which the face may lie beside the middle
SONG_SECONDS = 3.0

Draw = Callable[[np.random.Generator], NDArray[np.uint8]]


class Singers:
    """Somebody new each time, in some frame of one of a few songs.

    show   the person of a seed sings a song; seeds are counted from `first`
    """

    def __init__(self, show: Callable[[int, Song], Show], first: int, songs: int = 4) -> None:
        self.show, self.next = show, first
        self.songs = [Song.random(first + i, SONG_SECONDS, "pop", accompaniment=False) for i in range(songs)]

    def __call__(self, rng: np.random.Generator) -> NDArray[np.uint8]:
        show = self.show(self.next, self.songs[rng.integers(len(self.songs))])
        self.next += 1
        return show.frame(int(rng.integers(len(show))))


class Photographs:
    """Square cuts around the face of the photographs in a folder with `faces.json`, (size, size, 3)."""

    def __init__(self, folder: Path, size: int, held_out: bool) -> None:
        self.folder, self.size = folder, size
        entries = read_entries(folder, held_out)[0]
        self.points = {name: np.array(face["points"], np.float32)[:, :2] for name, face in entries.items()}
        self.names = list(self.points)

    def __call__(self, rng: np.random.Generator) -> NDArray[np.uint8]:
        name = self.names[rng.integers(len(self.names))]
        picture = self.cut(name, rng.uniform(*FRAMING), rng.uniform(-SHIFT, SHIFT, 2))
        return picture[:, ::-1] if rng.uniform() < 0.5 else picture

    def cut(self, name: str, share: float, shift: NDArray[np.float64]) -> NDArray[np.uint8]:
        """The face's larger side is `share` of the picture's, or more where the photograph ends before."""
        with Image.open(self.folder / name) as opened:
            image = opened.convert("RGB")
        low, high = self.points[name].min(0), self.points[name].max(0)
        side = min(float((high - low).max()) / share, *image.size)
        corner = (low + high) / 2 + side * (shift - 0.5)
        left, top = np.clip(corner, 0, np.array(image.size) - side)
        box = (left, top, left + side, top + side)
        return np.asarray(image.resize((self.size, self.size), Image.Resampling.LANCZOS, box))


class PicturePool:
    """Pictures that crops are taken from, the oldest ones drawn anew as it is used. Deterministic by seed.

    sources  each draws one picture (size, size, 3); they take turns
    """

    def __init__(self, sources: list[Draw], capacity: int, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.sources, self.drawn = sources, 0
        self.pictures = [self._draw() for _ in range(capacity)]

    def _draw(self) -> NDArray[np.uint8]:
        self.drawn += 1
        return self.sources[self.drawn % len(self.sources)](self.rng)

    def crops(self, count: int, side: int, fresh: int) -> Tensor:
        """(count, 3, side, side) in [-1, 1] after `fresh` new pictures; every second one shows a face.

        Half of them have their colours changed, so that none is rare.
        """
        for _ in range(fresh):
            self.pictures[self.drawn % len(self.pictures)] = self._draw()
        cuts = [self._crop(side, bool(i % 2)) for i in range(count)]
        return torch.from_numpy(np.stack(cuts)).permute(0, 3, 1, 2).contiguous()

    def _crop(self, side: int, face: bool) -> NDArray[np.float32]:
        picture = self.pictures[self.rng.integers(len(self.pictures))]
        span = len(picture) - side
        top, left = self.rng.integers(span + 1, size=2)
        if face:  # it lies in the middle
            top, left = span // 4 + top // 2, span // 4 + left // 2
        cut = picture[top : top + side, left : left + side].astype(np.float32) / 127.5 - 1
        return recoloured(cut, self.rng) if self.rng.uniform() < 0.5 else cut


def recoloured(picture: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """A picture in [-1, 1] with another saturation, gain and tint."""
    grey = picture.mean(-1, keepdims=True)
    picture = grey + (picture - grey) * rng.uniform(0.6, 2.2)
    return np.clip((picture + 1) * rng.uniform(0.8, 1.2, 3).astype(np.float32) - 1, -1, 1).astype(np.float32)


def sources(size: int, faces: Path | None, held_out: bool = False, seed: int = 0) -> dict[str, Draw]:
    """What draws pictures: the drawn world; where there are photographs, they and their puppets too."""
    first = HELD_OUT_SEED if held_out else seed * 1_000_000
    found: dict[str, Draw] = {
        "drawn": Singers(lambda own, song: Performance(Identity.random(own), song, size=size), first)
    }
    if faces is not None:
        puppets = read_faces(faces, held_out)
        found["photographs"] = Photographs(faces, size, held_out)
        found["puppets"] = Singers(lambda own, song: puppets.show(own, song, size), first)
    return found
