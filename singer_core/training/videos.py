"""A data set of real singing videos: cropped around the face, encoded once, with the features of their sound.

Videos of any rate, variable ones too, are brought to the network's frame rate. One that cannot be used is
skipped and reported. What is done already is not done again.
"""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from .. import constants
from ..audio.front_end import FrontEnd
from ..audio.waveform import read_audio
from ..ffmpeg import running
from ..files import write_text
from ..portrait.crop import CropTransform, around
from ..portrait.detection import DetectedFace
from ..portrait.image import to_tensor
from ..portrait.masks import bounding_box
from ..portrait.portrait import MARGIN
from ..render.video import EXACT, probe_video
from ..weights import save_weights
from .dataset import describe, portrait_frames

logger = logging.getLogger(__name__)

ENDINGS = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v")
REPORT = "report.json"
FindFaces = Callable[[Image.Image], Sequence[DetectedFace]]
Job = tuple[str, Path, Callable[[], dict[str, Tensor]]]  # name, item to write, what makes its tensors


class PictureEncoder(Protocol):
    """`Autoencoder`, or ComfyUI's VAE."""

    def encode(self, pixels: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class VideoSettings:
    """How videos are prepared.

    size      (H, W) of the network's pictures
    shortest  frames a video must have: a clip and its carried frames
    stride    frames from one look for the face to the next; boxes in between are interpolated
    most      frames that are used of one video, from its start
    """

    size: tuple[int, int] = (512, 512)
    fps: float = constants.FPS
    shortest: int = constants.TRAINED_CLIP_FRAMES + constants.MOTION_FRAMES
    stride: int = 5
    most: int = 3000
    margin: float = MARGIN
    batch: int = 8


def prepare_videos(
    source: Path,
    target: Path,
    settings: VideoSettings,
    vae: PictureEncoder,
    front_end: FrontEnd,
    find_faces: FindFaces,
) -> dict[str, str]:
    """Prepare every video of a folder that is not prepared yet, see `prepare_all`.

    find_faces   faces of a picture, the singer's first; e.g. `portrait.detection.detect_insightface`
    Raises FileNotFoundError where the folder holds no videos, ValueError where `target` holds a data set made
    with other settings, and OSError where it cannot be written.
    """
    found = source.glob("*") if source.is_dir() else []
    videos = sorted(path for path in found if path.suffix.lower() in ENDINGS)
    if not videos:
        raise FileNotFoundError(
            f"There are no videos in {source}. Put files ending in {', '.join(ENDINGS)} there."
        )
    describe(
        target,
        {"kind": "videos", "size": list(settings.size), "fps": settings.fps,
         "features": [front_end.layers, front_end.width]},
    )  # fmt: skip
    prepare = partial(_prepare, settings=settings, vae=vae, front_end=front_end, find_faces=find_faces)
    return prepare_all(
        ((path.name, target / f"{path.name}.safetensors", partial(prepare, path)) for path in videos), target
    )


def prepare_all(jobs: Iterable[Job], target: Path) -> dict[str, str]:
    """Write the items that are not there yet; returns name -> "ready" or why it was skipped.

    The same is written to `report.json`.
    """
    report: dict[str, str] = {}
    for name, item, prepare in jobs:
        try:
            if not item.exists():
                save_weights(item, prepare().items(), {"video": name})
            report[name] = "ready"
        except (ValueError, FileNotFoundError) as error:
            report[name] = str(error)
            logger.warning("%s is skipped: %s", name, error)
    write_text(target / REPORT, json.dumps(report, indent=1))
    return report


def encode(pictures: Iterator[Tensor], vae: PictureEncoder, batch: int) -> dict[str, Tensor]:
    """What an item holds of pictures (3, H, W) in [0, 1], see `dataset.py`. ValueError without any."""
    latents, thumbnails, pixels = [], [], torch.zeros(0)
    while held := list(itertools.islice(pictures, batch)):
        pixels = torch.stack(held)
        latents.append(vae.encode(pixels * 2 - 1).cpu().half())
        thumbnails.append(F.avg_pool2d(pixels, constants.VAE_STRIDE).mul(255).round().byte())
    if not latents:
        raise ValueError("it has no pictures")
    grey = vae.encode(torch.zeros_like(pixels[:1]))[0].cpu().half()
    return {"latents": torch.cat(latents), "thumbnails": torch.cat(thumbnails), "grey": grey}


def _prepare(
    video: Path,
    settings: VideoSettings,
    vae: PictureEncoder,
    front_end: FrontEnd,
    find_faces: FindFaces,
) -> dict[str, Tensor]:
    """The tensors of one video (see `dataset.py`). ValueError says why it cannot be used."""
    info = probe_video(video)
    if not info.has_audio:
        raise ValueError("it has no sound; the voice is what is learnt")
    boxes, identity = track_face(video, settings, info.size, find_faces)
    if len(boxes) < settings.shortest:
        raise ValueError(
            f"it has {len(boxes)} frames at {settings.fps:g} fps; {settings.shortest} are needed"
        )
    sound = read_audio(video, mono=True)
    features = front_end.encode(sound, settings.fps, 1)
    frames = min(len(boxes), features.frames)
    crop = around(_face_box(boxes), info.size, settings.size, settings.margin)
    kept, portraits = set(portrait_frames(frames).tolist()), list[Tensor]()
    with closing(frames_at(video, settings.fps, info.size)) as pictures:

        def cropped() -> Iterator[Tensor]:
            for index, picture in enumerate(itertools.islice(pictures, frames)):
                shown = to_tensor(crop.apply(Image.fromarray(picture)))
                if index in kept:
                    portraits.append(shown.mul(255).round().byte())
                yield shown

        tensors = encode(cropped(), vae, settings.batch)
    frames = len(tensors["latents"])
    tensors |= {
        "features": features.features[:frames].half(),
        "boxes": torch.from_numpy(_in_crop(boxes[:frames], crop)),
        "portraits": torch.stack(portraits),
        "portrait_frames": portrait_frames(frames),
    }
    return tensors if identity is None else {**tensors, "identity": identity}


def _face_box(boxes: np.ndarray) -> tuple[int, int, int, int]:
    """The box that holds the face in all frames."""
    faces = boxes[:, 0]
    left, top = (int(x) for x in faces[:, :2].min(0))
    right, bottom = (int(x) for x in faces[:, 2:].max(0))
    return left, top, right, bottom


def track_face(
    video: Path, settings: VideoSettings, size: tuple[int, int], find_faces: FindFaces
) -> tuple[np.ndarray, Tensor | None]:
    """Boxes of face and lips in every frame, (s, 2, 4) in pixels, and the mean embedding if any.

    Looks for the first face in every `stride`-th frame; ValueError where half of the looks find none.
    """
    looks: list[Sequence[DetectedFace]] = []
    count = 0
    with closing(frames_at(video, settings.fps, size)) as frames:
        for count, picture in enumerate(itertools.islice(frames, settings.most), 1):
            if (count - 1) % settings.stride == 0:
                looks.append(find_faces(Image.fromarray(picture)))
    if not looks:
        raise ValueError("it has no pictures that can be decoded")
    found = {index * settings.stride: faces[0] for index, faces in enumerate(looks) if faces}
    if len(found) <= len(looks) // 2:
        raise ValueError(f"a face was found in {len(found)} of {len(looks)} pictures only")
    marks = [face.landmarks for face in found.values()]
    seen = np.array([[*bounding_box(x.silhouette), *bounding_box(x.lips)] for x in marks], float)
    every = np.stack([np.interp(np.arange(count), list(found), column) for column in seen.T], axis=1)
    identities = [face.identity for face in found.values() if face.identity is not None]
    return every.round().reshape(count, 2, 4), torch.stack(identities).mean(0) if identities else None


def frames_at(video: Path, fps: float, size: tuple[int, int]) -> Generator[np.ndarray, None, None]:
    """Pictures (H, W, 3) uint8 of a video at a constant rate; `size` (H, W) is the video's own."""
    rate = Fraction(fps).limit_denominator(10_000)
    command = ["-i", f"file:{video}", "-map", "0:v:0", "-f", "rawvideo", "-pix_fmt", "rgb24"]
    # else a late picture would be early to the sound
    command += ["-vf", f"fps={rate}:start_time=0,scale={size[1]}:{size[0]}:{EXACT}", "pipe:1"]
    length = size[0] * size[1] * 3
    with running(command) as ffmpeg:
        while len(levels := ffmpeg.output.read(length)) == length:
            yield np.frombuffer(levels, np.uint8).reshape(*size, 3)


def _in_crop(boxes: np.ndarray, crop: CropTransform) -> np.ndarray:
    """Boxes (s, 2, 4) of the picture in pixels of the cropped and scaled frame, int16."""
    left, top = crop.box[:2]
    down, along = crop.size[0] / crop.cut_size[0], crop.size[1] / crop.cut_size[1]
    offset, scale = np.array([left, top, left, top]), np.array([along, down, along, down])
    return ((boxes - offset) * scale).round().astype(np.int16)
