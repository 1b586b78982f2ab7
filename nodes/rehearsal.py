"""Training clips from a folder: those that are prepared already, or videos, through core's own models."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import comfy.model_management as mm
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from singer_core import constants
from singer_core.audio.logmel import LogMelFrontEnd
from singer_core.audio.wav2vec2 import Wav2Vec2FrontEnd
from singer_core.network.architecture import Architecture
from singer_core.network.checkpoint import Checkpoint
from singer_core.portrait.detection import DetectedFace
from singer_core.portrait.identity import COLOUR_IDENTITY_WIDTH
from singer_core.portrait.landmarks import FaceLandmarks
from singer_core.training.videos import VideoSettings, prepare_videos

from .encoder import loaded_encoder

CONFIDENCE = 0.5  # that core's face detector asks for


@dataclass(frozen=True, eq=False)
class Preparation:
    """What videos are prepared with; each None where its socket is not connected."""

    vae: Any
    audio_encoder: Any
    face_detection_model: Any
    identity_model: Any


def prepared_clips(
    data: Path, workplace: Path, start: Checkpoint, frames: int, preparation: Preparation
) -> Path:
    """The folder of clips that the trainer reads: `data` itself, or what is made of its videos.

    Videos that are prepared already are not prepared again. Raises ValueError where a socket is missing or no
    video can be used, FileNotFoundError where there are none.
    """
    if any(data.glob("*.safetensors")):
        return data
    _check_sockets(data, start, preparation)
    front_end = _front_end(start, preparation.audio_encoder)
    settings = VideoSettings(size=start.architecture.trained_size, shortest=frames + constants.MOTION_FRAMES)
    kind = f"{data.name} {settings} {front_end.layers} {front_end.width}"
    target = workplace / f"clips-{hashlib.sha256(kind.encode()).hexdigest()[:12]}"
    faces = Faces(preparation.face_detection_model, preparation.identity_model)
    report = prepare_videos(data, target, settings, CoreVae(preparation.vae), front_end, faces.find)  # type: ignore[arg-type]
    if "ready" not in report.values():
        reasons = "; ".join(f"{name}: {words}" for name, words in list(report.items())[:3])
        raise ValueError(f"None of the {len(report)} videos in {data} can be used ({reasons}). Add others.")
    return target


def _check_sockets(data: Path, start: Checkpoint, preparation: Preparation) -> None:
    missing = [name for name in ("vae", "face_detection_model") if getattr(preparation, name) is None]
    if start.architecture.identity_width != COLOUR_IDENTITY_WIDTH and preparation.identity_model is None:
        missing.append("identity_model")
    if missing:
        raise ValueError(
            f"`data` {data.name} holds no prepared clips; to prepare its videos, connect "
            f"{', '.join(f'`{name}`' for name in missing)}."
        )


def _front_end(start: Checkpoint, audio_encoder: Any) -> Wav2Vec2FrontEnd | LogMelFrontEnd:
    """What hears the videos as the network does."""
    needed = start.architecture.frame_features
    if audio_encoder is not None:
        heard = Wav2Vec2FrontEnd(loaded_encoder(audio_encoder))
        if heard.layers * heard.width != needed:
            raise ValueError(
                f"`audio_encoder` gives {heard.layers * heard.width} values a frame; {start.file.path.name} "
                f"reads {needed}. Connect the encoder that it was trained with."
            )
        return heard
    if needed == Architecture().frame_features:
        raise ValueError(
            "`audio_encoder` is not connected. Connect wav2vec2-base-960h of `Load Audio Encoder`."
        )
    layers = int(start.file.metadata.get("singer.audio_layers", 1))
    return LogMelFrontEnd(layers, needed // layers)


class CoreVae:
    """Core's VAE with the face that the preparation knows from the library's."""

    def __init__(self, vae: Any) -> None:
        self._vae = vae

    def encode(self, pixels: Tensor) -> Tensor:
        """pixels (b, 3, H, W) in [-1, 1] -> latents (b, 4, h, w), scaled for the UNet."""
        latents: Tensor = self._vae.encode(pixels.movedim(1, -1) / 2 + 0.5)
        return latents.float().cpu() * constants.VAE_SCALE


class Faces:
    """Core's face landmarker, and our identity network where it is connected."""

    def __init__(self, detector: Any, identity_model: Any) -> None:
        self._detector, self._identity = detector, identity_model

    def find(self, picture: Image.Image) -> list[DetectedFace]:
        """Faces of an RGB picture, largest first; raises where the user has pressed cancel."""
        mm.throw_exception_if_processing_interrupted()
        [found] = self._detector.detect_batch(
            [np.asarray(picture)], num_faces=0, score_thresh=CONFIDENCE, variant="short"
        )
        return sorted((self._face(picture, face) for face in found), key=lambda f: f.area, reverse=True)

    def _face(self, picture: Image.Image, face: Any) -> DetectedFace:
        points = FaceLandmarks(torch.from_numpy(np.asarray(face["landmarks_xy"], np.float32)))
        left, top, right, bottom = (float(value) for value in face["bbox_xyxy"])
        identity = None if self._identity is None else self._identity.embed(picture, points)
        return DetectedFace(points, identity, (right - left) * (bottom - top))
