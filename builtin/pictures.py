"""Single pictures of many people, drawn and photographed, for networks that see no song."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

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
