"""Data sets of the built-in model, drawn and encoded once: people who sing, and people in several poses.

Photographs take part where there is a folder of them. Resumable, deterministic by seed.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor

from singer_core import constants
from singer_core.audio.features import AudioFeatures
from singer_core.audio.logmel import LogMelFrontEnd
from singer_core.audio.waveform import Waveform
from singer_core.portrait.landmarks import FaceLandmarks
from singer_core.portrait.masks import bounding_box
from singer_core.training.dataset import describe
from singer_core.training.videos import encode
from singer_core.weights import save_weights

from .faces import Faces
from .ways import ways
from .world import Identity, Performance, Show, Song
from .world.landmarks import LEFT_LIDS, RIGHT_LIDS

if TYPE_CHECKING:
    from singer_core.network.autoencoder import Autoencoder  # processes that only draw need no diffusers

ENCODE_BATCH = 16
POSE_SONGS, POSE_SECONDS = 8, 4.0  # songs that people sing in the poses they are shown in
POSE_PORTRAITS = 2  # poses of a person that are kept as pictures

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class DataSet(ABC):
    """Items to draw; number i depends on all fields but `count`, and on i.

    count  of items
    size   side of the pictures in pixels
    faces  photographs, which are every second or third person (`EVERY`)
    """

    count: int
    size: int = 128
    seed: int = 0
    faces: Faces | None = None

    EVERY: ClassVar[int]

    def name(self, index: int) -> str:
        return f"{'photo' if self._photographed(index) else 'drawn'}-{index:06d}"

    @abstractmethod
    def drawing(self, index: int) -> Tensors:
        """`pictures` (s, 3, H, W) uint8, `kept` rows of them, and what else `dataset.py` wants."""

    def _photographed(self, index: int) -> bool:
        return self.faces is not None and index % self.EVERY == self.EVERY - 1

    def _seed(self, index: int) -> int:
        return self.seed * 1_000_000 + index

    def _show(self, index: int, song: Song, fps: float = constants.FPS) -> Show:
        """Person `index`, drawn or photographed, sings."""
        if self.faces is not None and self._photographed(index):
            return self.faces.show(self._seed(index // self.EVERY), song, self.size, fps).framed()
        return Performance(Identity.random(self._seed(index)), song, fps, self.size).framed()


@dataclass(frozen=True)
class DrawnWorld(DataSet):
    """Performances: a person and a song each.

    seconds        of each song
    accompaniment  share of the songs that the network hears with their band, not as vocals alone
    styles         taken in turn
    mels           sub-frames and bands of the log-mel front end
    """

    seconds: float = 8.0  # of less, hardly one has a breath in it, where eyes close
    fps: float = constants.FPS
    accompaniment: float = 0.2
    styles: tuple[str, ...] = ("pop",)
    mels: tuple[int, int] = (4, 32)

    EVERY = 2

    def performance(self, index: int) -> Show:
        """Number `index`; identity and song have a seed of their own each."""
        seed = self._seed(index)
        band = np.random.default_rng([seed, 5]).uniform() < self.accompaniment
        song = Song.random(
            seed, self.seconds, self.styles[index % len(self.styles)], accompaniment=bool(band)
        )
        return self._show(index, song, self.fps)

    def drawing(self, index: int) -> Tensors:
        """Every frame, with the song's features, the true `opening` (s,) of the mouth, and ways.

        The portrait is the first frame: at rest, its mouth closed.
        """
        show = self.performance(index)
        frames = len(show)
        return {
            **depicted(show, range(frames)),
            "kept": torch.zeros(1, dtype=torch.long),
            "ways": ways(np.stack([show.landmarks(i) for i in range(frames)]), self.size),
            "features": song_features(show.song, self).features[:frames].half(),
            "opening": torch.from_numpy(show.motion.opening).float(),
        }


@dataclass(frozen=True)
class People(DataSet):
    """People in a few `poses` each, without a song: picture pairs of stage 1."""

    poses: int = 4

    EVERY = 3

    def drawing(self, index: int) -> Tensors:
        """Poses at random moments of a song."""
        rng = np.random.default_rng([self._seed(index), 7])
        show = self._show(index, pose_song(int(rng.integers(POSE_SONGS))))
        moments = rng.choice(len(show), self.poses, replace=False).tolist()
        return {**depicted(show, moments), "kept": torch.arange(min(POSE_PORTRAITS, self.poses))}


@cache  # they are sung again and again
def pose_song(number: int) -> Song:
    return Song.random(number, POSE_SECONDS, accompaniment=False)


def draw_dataset(
    world: DataSet,
    folder: Path,
    vae: Autoencoder,
    on_item: Callable[[int], None] | None = None,
    jobs: int = 1,
) -> None:
    """Draw in `jobs` processes, encode, and write what is missing. ValueError for a folder of another set."""
    describe(folder, description(world, vae))
    paths = [folder / f"{world.name(index)}.safetensors" for index in range(world.count)]
    missing = [index for index, path in enumerate(paths) if not path.exists()]
    for index, drawing in zip(missing, _drawings(world, missing, jobs), strict=True):
        save_weights(paths[index], encoded(drawing, vae).items(), {"index": str(index)})
        if on_item is not None:
            on_item(index)


def description(world: DataSet, vae: Autoencoder) -> dict[str, object]:
    """What items depend on, except their number."""
    values = {f.name: getattr(world, f.name) for f in fields(world) if f.name != "count"}
    values["faces"] = world.faces.fingerprint if world.faces else None
    weights = b"".join(x.cpu().float().numpy().tobytes() for x in vae.vae.encoder.parameters())
    return {**values, "vae": hashlib.sha256(weights).hexdigest()[:16], "kind": type(world).__name__}


def _drawings(world: DataSet, indices: list[int], jobs: int) -> Iterator[Tensors]:
    if jobs == 1:
        yield from map(world.drawing, indices)
        return
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        for start in range(0, len(indices), 4 * jobs):  # drawings take memory until they are encoded
            yield from pool.map(world.drawing, indices[start : start + 4 * jobs], chunksize=2)


def depicted(show: Show, moments: Iterable[int]) -> Tensors:
    """Pictures (s, 3, H, W) uint8 and boxes (s, 4, 4) of some frames, those of the eyes around open ones."""
    moments = list(moments)
    pictures = np.stack([show.frame(i) for i in moments])
    boxes = np.stack([face_boxes(show.landmarks(i)) for i in moments])
    boxes[:, 2:] = np.concatenate([boxes[:, 2:, :2].min(0), boxes[:, 2:, 2:].max(0)], axis=-1)
    return {"pictures": torch.from_numpy(pictures).permute(0, 3, 1, 2), "boxes": torch.from_numpy(boxes)}


def encoded(drawing: Tensors, vae: Autoencoder) -> Tensors:
    """A drawing as an item of `dataset.py`."""
    pictures, kept = drawing["pictures"], drawing["kept"]
    item = {key: value for key, value in drawing.items() if key not in ("pictures", "kept")}
    return {
        **item,
        **encode(iter(pictures.float() / 255), vae, ENCODE_BATCH),
        "portraits": pictures[kept].contiguous(),
        "portrait_frames": kept,
    }


def song_features(song: Song, world: DrawnWorld, vocals: bool = False) -> AudioFeatures:
    """Log-mel features of a song's mix (or its vocals alone), at least as many as it has frames."""
    sound = torch.from_numpy(song.vocals if vocals else song.mix)[None]
    return LogMelFrontEnd(*world.mels).encode(Waveform(sound, song.rate), world.fps)


def face_boxes(landmarks: np.ndarray) -> np.ndarray:
    """Bounding boxes of silhouette, lips and eyes, (4, 4) int16, of points (478, 2)."""
    face = FaceLandmarks(torch.from_numpy(landmarks))
    eyes = [landmarks[[*upper, *lower]] for upper, lower in (LEFT_LIDS, RIGHT_LIDS)]
    return np.array([bounding_box(part) for part in (face.silhouette, face.lips, *eyes)], np.int16)
