"""A data set of real singing videos: cropped around the face, encoded once, with the features of their sound.

Videos of any rate, variable ones too, are brought to the network's frame rate, and split where the picture
is cut or another face comes. What cannot be used is skipped and reported. What is done is not done again.
"""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Callable, Generator, Iterable, Iterator
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
from ..portrait.image import to_tensor
from ..portrait.portrait import MARGIN
from ..render.video import EXACT, probe_video
from ..weights import open_weights, save_weights
from .dataset import describe, portrait_frames
from .tracking import FindFaces, Shot, Track, track_face, words_of

logger = logging.getLogger(__name__)

ENDINGS = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v")
REPORT = "report.json"
READY = "ready"


@dataclass(frozen=True, eq=False)
class Prepared:
    """The items that a video gives, and what is reported of it, which begins with READY."""

    items: list[dict[str, Tensor]]
    words: str = READY


Job = tuple[str, Path, Callable[[], Prepared]]  # name, first item to write, what makes them


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
    """Write the items that are not there yet; returns name -> words: READY, or why it was skipped.

    The same is written to `report.json`.
    """
    report: dict[str, str] = {}
    for name, item, prepare in jobs:
        try:
            if not item.exists():
                _write(item, name, prepare())
            report[name] = open_weights(item).metadata.get("report", READY)
        except (ValueError, FileNotFoundError) as error:
            report[name] = str(error)
            logger.warning("%s is skipped: %s", name, error)
    write_text(target / REPORT, json.dumps(report, indent=1))
    return report


def usable(report: dict[str, str]) -> bool:
    """Whether any video could be prepared."""
    return any(words.startswith(READY) for words in report.values())


def _write(first: Path, video: str, prepared: Prepared) -> None:
    """Write a video's items; the first, which says that all are there, comes last."""
    about = {"video": video, "report": prepared.words}
    for number, tensors in reversed(list(enumerate(prepared.items, 1))):
        path = first if number == 1 else first.with_suffix(f".{number}.safetensors")
        save_weights(path, tensors.items(), about)


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
) -> Prepared:
    """The items of one video, one for each shot that is long enough. ValueError says why there are none."""
    info = probe_video(video)
    if not info.has_audio:
        raise ValueError("it has no sound; the voice is what is learnt")
    with closing(frames_at(video, settings.fps, info.size)) as frames:
        track = track_face(itertools.islice(frames, settings.most), settings.stride, find_faces)
    audio = front_end.encode(read_audio(video, mono=True), settings.fps, 1)
    shots, words = _long_enough(track, audio.frames, settings)
    items, done = [], 0
    with closing(frames_at(video, settings.fps, info.size)) as frames:
        for shot in shots:
            pictures = itertools.islice(frames, shot.frames.start - done, shot.frames.stop - done)
            items.append(_item(shot, pictures, info.size, audio.features, settings, vae))
            done = shot.frames.stop
    return Prepared(items, words)


def _long_enough(track: Track, heard: int, settings: VideoSettings) -> tuple[list[Shot], str]:
    """The shots that hold a clip, cut to the frames that are `heard`, and what is reported of them."""
    why = words_of(track.breaks, settings.fps)
    shots = [shot.before(heard) for shot in track.shots]
    kept = [shot for shot in shots if len(shot.frames) >= settings.shortest]
    if not kept:
        longest, what = (
            max((len(shot.frames) for shot in shots), default=0),
            "its longest part" if why else "it",
        )
        reason = f" ({why})" if why else ""
        raise ValueError(
            f"{what} has {longest} frames at {settings.fps:g} fps; {settings.shortest} are needed{reason}"
        )
    used = sum(len(shot.frames) for shot in kept)
    return kept, f"{READY}: {len(kept)} parts, {used} of {track.frames} frames ({why})" if why else READY


def _item(
    shot: Shot,
    frames: Iterator[np.ndarray],
    size: tuple[int, int],
    features: Tensor,
    settings: VideoSettings,
    vae: PictureEncoder,
) -> dict[str, Tensor]:
    """The tensors of one shot (see `dataset.py`), whose pictures `frames` are; `features` are the video's."""
    crop = around(_face_box(shot.boxes), size, settings.size, settings.margin)
    kept, portraits = portrait_frames(len(shot.frames)), list[Tensor]()

    def cropped() -> Iterator[Tensor]:
        for index, picture in enumerate(frames):
            shown = to_tensor(crop.apply(Image.fromarray(picture)))
            if index in kept:
                portraits.append(shown.mul(255).round().byte())
            yield shown

    tensors = encode(cropped(), vae, settings.batch)
    tensors |= {
        "features": features[shot.frames.start : shot.frames.stop].half(),
        "boxes": torch.from_numpy(_in_crop(shot.boxes, crop)),
        "portraits": torch.stack(portraits),
        "portrait_frames": kept,
    }
    return tensors if shot.identity is None else {**tensors, "identity": shot.identity}


def _face_box(boxes: np.ndarray) -> tuple[int, int, int, int]:
    """The box that holds the face in all frames."""
    faces = boxes[:, 0]
    left, top = (int(x) for x in faces[:, :2].min(0))
    right, bottom = (int(x) for x in faces[:, 2:].max(0))
    return left, top, right, bottom


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
