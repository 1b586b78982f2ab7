"""A data set of real singing videos: cropped around the face, encoded once, with the features of their sound.

Videos of any rate, variable ones too, are brought to the network's frame rate. One that cannot be used is
skipped and reported. What is done already is not done again.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from .. import constants
from ..audio.features import AudioFeatures
from ..audio.waveform import Waveform, read_audio
from ..ffmpeg import running
from ..files import renamed_on_success
from ..portrait.crop import CropTransform, around
from ..portrait.detection import DetectedFace
from ..portrait.image import to_tensor
from ..portrait.masks import bounding_box
from ..portrait.portrait import MARGIN
from ..render.video import EXACT, probe_video
from .dataset import describe, portrait_frames, write_item

logger = logging.getLogger(__name__)

ENDINGS = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v")
REPORT = "report.json"
FindFaces = Callable[[Image.Image], Sequence[DetectedFace]]


class PictureEncoder(Protocol):
    """`Autoencoder`, or ComfyUI's VAE."""

    def encode(self, pixels: Tensor) -> Tensor: ...


class FrontEnd(Protocol):
    """`LogMelFrontEnd` and `Wav2Vec2FrontEnd`."""

    @property
    def layers(self) -> int: ...

    @property
    def width(self) -> int: ...

    def encode(self, waveform: Waveform, fps: float, clip_length: int = 16) -> AudioFeatures: ...


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
    separate: Callable[[Waveform], Waveform] | None = None,
) -> dict[str, str]:
    """Prepare every video of a folder that is not prepared yet; returns name -> "ready" or why it was
    skipped.

    find_faces   faces of a picture, the singer's first; e.g. `portrait.detection.detect_insightface`
    separate     song -> vocals; None takes the sound as it is
    The result is also written to `report.json`. Raises FileNotFoundError where the folder holds no videos,
    ValueError
    where `target` holds a data set made with other settings, and OSError where it cannot be written.
    """
    videos = (
        sorted(path for path in source.glob("*") if path.suffix.lower() in ENDINGS) if source.is_dir() else []
    )
    if not videos:
        raise FileNotFoundError(
            f"There are no videos in {source}. Put files ending in {', '.join(ENDINGS)} there."
        )
    describe(
        target,
        {"kind": "videos", "size": list(settings.size), "fps": settings.fps,
         "features": [front_end.layers, front_end.width]},
    )  # fmt: skip
    report: dict[str, str] = {}
    for video in videos:
        item = target / f"{video.name}.safetensors"
        try:
            if not item.exists():
                write_item(
                    item,
                    _prepare(video, settings, vae, front_end, find_faces, separate),
                    {"video": video.name},
                )
            report[video.name] = "ready"
        except ValueError as error:
            report[video.name] = str(error)
            logger.warning("%s is skipped: %s", video.name, error)
    with renamed_on_success(target / REPORT) as temporary:
        temporary.write_text(json.dumps(report, indent=1), encoding="utf-8")
    return report


def _prepare(
    video: Path,
    settings: VideoSettings,
    vae: PictureEncoder,
    front_end: FrontEnd,
    find_faces: FindFaces,
    separate: Callable[[Waveform], Waveform] | None,
) -> dict[str, Tensor]:
    """The tensors of one video (see `dataset.py`). ValueError says why it cannot be used."""
    info = probe_video(video)
    if not info.has_audio:
        raise ValueError("it has no sound; the voice is what is learnt")
    track = track_face(video, settings, info.size, find_faces)
    if len(track.boxes) < settings.shortest:
        raise ValueError(
            f"it has {len(track.boxes)} frames at {settings.fps:g} fps; {settings.shortest} are needed"
        )
    sound = read_audio(video, mono=True)
    features = front_end.encode(separate(sound) if separate else sound, settings.fps, 1)
    frames = min(len(track.boxes), features.frames)
    crop = around(track.face_box(), info.size, settings.size, settings.margin)
    latents, thumbnails, portraits = _encode(video, settings, info.size, crop, vae, frames)
    frames = len(latents)
    tensors = {
        "latents": latents.half(),
        "features": features.features[:frames].half(),
        "boxes": torch.from_numpy(_in_crop(track.boxes[:frames], crop)),
        "thumbnails": thumbnails,
        "grey": vae.encode(torch.zeros(1, 3, *settings.size))[0].half().cpu(),
        "portraits": portraits,
        "portrait_frames": portrait_frames(frames),
    }
    return tensors if track.identity is None else {**tensors, "identity": track.identity}


@dataclass(frozen=True)
class FaceTrack:
    """Boxes of face and lips in every frame, (s, 2, 4) in pixels, and the mean embedding if any."""

    boxes: np.ndarray
    identity: Tensor | None

    def face_box(self) -> tuple[int, int, int, int]:
        """The box that holds the face in all frames."""
        faces = self.boxes[:, 0]
        left, top = (int(x) for x in faces[:, :2].min(0))
        right, bottom = (int(x) for x in faces[:, 2:].max(0))
        return left, top, right, bottom


def track_face(
    video: Path, settings: VideoSettings, size: tuple[int, int], find_faces: FindFaces
) -> FaceTrack:
    """Look for the first face in every `stride`-th frame; ValueError where half of the looks find none."""
    seen: list[int] = []
    boxes: list[np.ndarray] = []
    identities: list[Tensor] = []
    count = looks = 0
    with closing(frames_at(video, settings.fps, size)) as frames:
        for picture in frames:
            if count == settings.most:
                break
            if count % settings.stride == 0:
                looks += 1
                faces = find_faces(Image.fromarray(picture))
                if faces:
                    seen.append(count)
                    found = faces[0].landmarks
                    boxes.append(np.array([bounding_box(found.silhouette), bounding_box(found.lips)], float))
                    if faces[0].identity is not None:
                        identities.append(faces[0].identity)
            count += 1
    if not looks:
        raise ValueError("it has no pictures that can be decoded")
    if len(seen) <= looks // 2:
        raise ValueError(f"a face was found in {len(seen)} of {looks} pictures only")
    flat = np.stack(boxes).reshape(len(seen), -1)
    every = np.stack([np.interp(np.arange(count), seen, column) for column in flat.T], axis=1)
    return FaceTrack(
        every.round().reshape(count, 2, 4), torch.stack(identities).mean(0) if identities else None
    )


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


def _encode(
    video: Path,
    settings: VideoSettings,
    size: tuple[int, int],
    crop: CropTransform,
    vae: PictureEncoder,
    frames: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Latents (s, 4, h, w), thumbnails (s, 3, h, w) uint8 and portraits of the first `frames` frames."""
    latents, thumbnails, waiting = [], [], list[Tensor]()
    portraits, kept = [], set(portrait_frames(frames).tolist())
    with closing(frames_at(video, settings.fps, size)) as pictures:
        for index, picture in enumerate(pictures):
            waiting.append(to_tensor(crop.apply(Image.fromarray(picture))))
            if index in kept:
                portraits.append(waiting[-1].mul(255).round().byte())
            if len(waiting) == settings.batch or index + 1 == frames:
                pixels = torch.stack(waiting)
                latents.append(vae.encode(pixels * 2 - 1).cpu())
                thumbnails.append(F.avg_pool2d(pixels, constants.VAE_STRIDE).mul(255).round().byte())
                waiting = []
            if index + 1 == frames:
                break
    return torch.cat(latents), torch.cat(thumbnails), torch.stack(portraits)


def _in_crop(boxes: np.ndarray, crop: CropTransform) -> np.ndarray:
    """Boxes (s, 2, 4) of the picture in pixels of the cropped and scaled frame, int16."""
    left, top = crop.box[:2]
    down, along = crop.size[0] / crop.cut_size[0], crop.size[1] / crop.cut_size[1]
    offset, scale = np.array([left, top, left, top]), np.array([along, down, along, down])
    return ((boxes - offset) * scale).round().astype(np.int16)
