"""A data set of the synthetic world: drawn people singing, encoded once. Resumable, deterministic by seed."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from singer_core import constants
from singer_core.audio.features import AudioFeatures
from singer_core.audio.logmel import LogMelFrontEnd
from singer_core.audio.waveform import Waveform
from singer_core.network.autoencoder import Autoencoder
from singer_core.portrait.landmarks import FaceLandmarks
from singer_core.portrait.masks import bounding_box
from singer_core.training.dataset import describe, portrait_frames, write_item

from .world import Identity, Performance, Song

logger = logging.getLogger(__name__)

ENCODE_BATCH = 16


@dataclass(frozen=True)
class DrawnWorld:
    """Which performances a set holds; number i depends on these fields and i alone.

    count          performances
    seconds        of each song
    accompaniment  share of the songs that the network hears with their band, not as vocals alone
    styles         taken in turn
    mels           sub-frames and bands of the log-mel front end
    """

    count: int
    seconds: float = 4.0
    size: int = 128
    fps: float = constants.FPS
    seed: int = 0
    accompaniment: float = 0.2
    styles: tuple[str, ...] = ("pop",)
    mels: tuple[int, int] = (4, 32)

    def performance(self, index: int) -> Performance:
        """Number `index`; identity and song have a seed of their own each."""
        seed = self.seed * 1_000_000 + index
        band = np.random.default_rng([seed, 5]).uniform() < self.accompaniment
        song = Song.random(
            seed, self.seconds, self.styles[index % len(self.styles)], accompaniment=bool(band)
        )
        return Performance(Identity.random(seed), song, self.fps, self.size)


def draw_dataset(
    world: DrawnWorld, folder: Path, vae: Autoencoder, on_item: Callable[[int], None] | None = None
) -> None:
    """Draw, encode and write the performances that are missing. ValueError for a folder of another set."""
    description = {k: v for k, v in asdict(world).items() if k != "count"}
    weights = hashlib.sha256(
        b"".join(x.cpu().float().numpy().tobytes() for x in vae.vae.encoder.parameters())
    )
    describe(folder, {**description, "vae": weights.hexdigest()[:16], "kind": "drawn"})
    for index in range(world.count):
        path = folder / f"drawn-{index:06d}.safetensors"
        if not path.exists():
            show = world.performance(index)
            metadata = {"index": str(index), "seed": str(show.song.seed), "style": show.song.style}
            write_item(path, prepare(show, world, vae), metadata)
        if on_item is not None:
            on_item(index)


def prepare(show: Performance, world: DrawnWorld, vae: Autoencoder) -> dict[str, Tensor]:
    """What `dataset.py` wants of a performance, plus the true `opening` (s,) of the mouth in every frame."""
    frames = len(show)
    pictures = torch.from_numpy(np.stack([show.frame(i) for i in range(frames)])).permute(0, 3, 1, 2)
    pixels = pictures.float() / 255
    with torch.autocast(vae.device.type, torch.bfloat16):  # its error is far below the VAE's own
        latents = torch.cat([vae.encode(part * 2 - 1) for part in pixels.split(ENCODE_BATCH)])
        grey = vae.encode(torch.zeros(1, *pixels.shape[1:]))[0]
    thumbnails = F.avg_pool2d(pixels, constants.VAE_STRIDE).mul(255).round().byte()
    kept = portrait_frames(frames)
    return {
        "portraits": pictures[kept].contiguous(),
        "portrait_frames": kept,
        "latents": latents.half(),
        "features": song_features(show.song, world).features[:frames].half(),
        "boxes": torch.from_numpy(np.stack([face_boxes(show.landmarks(i)) for i in range(frames)])),
        "thumbnails": thumbnails,
        "grey": grey.half(),
        "opening": torch.from_numpy(show.motion.opening).float(),
    }


def song_features(song: Song, world: DrawnWorld, vocals: bool = False) -> AudioFeatures:
    """Log-mel features of a song's mix (or its vocals alone), at least as many as it has frames."""
    sound = torch.from_numpy(song.vocals if vocals else song.mix)[None]
    return LogMelFrontEnd(*world.mels).encode(Waveform(sound, song.rate), world.fps)


def face_boxes(landmarks: np.ndarray) -> np.ndarray:
    """Bounding boxes of silhouette and lips, (2, 4) int16, of points (478, 2)."""
    face = FaceLandmarks(torch.from_numpy(landmarks))
    return np.array([bounding_box(face.silhouette), bounding_box(face.lips)], np.int16)
