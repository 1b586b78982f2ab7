"""From files to what `evaluate` needs: video, sound, landmarks, reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from .. import constants
from ..audio.waveform import Waveform, read_audio
from ..portrait.image import read_image
from ..portrait.landmarks import FaceLandmarks, read_landmarks
from .evaluate import WEIGHTS, Material
from .footage import Footage, open_footage
from .mouth import Box, FaceTrack, check_box, lip_box, read_track

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True)
class Files:
    """What a user names beside the video; see `Material` for what each is for.

    reference            a video of the same performance, or the portrait
    audio                the song; None = the video's own sound
    landmarks            of every frame of the video, or of the portrait that it was made from
    reference_landmarks  of every frame of the reference video, or of the portrait
    fps                  at which the video is measured; None = its own
    """

    reference: Path | None = None
    audio: Path | None = None
    vocals: Path | None = None
    landmarks: Path | None = None
    reference_landmarks: Path | None = None
    lip_box: Box | None = None
    clip_frames: int = constants.CLIP_FRAMES
    overlap: int = 0
    fps: float | None = None
    weights: Path = WEIGHTS
    device: torch.device | None = None


def read_material(video: Path, files: Files) -> Material:
    """Open a video and everything that belongs to it.

    Raises FileNotFoundError for what is missing, ValueError for files of another kind or another video.
    """
    footage = open_footage(video, files.fps)
    reference, portrait = None, None
    if files.reference is not None and files.reference.suffix.lower() in PICTURES:
        portrait = read_image(files.reference)
    elif files.reference is not None:
        reference = open_footage(files.reference, footage.fps, footage.size)
    faces, box = _mouth(files, footage)
    true_faces, portrait_face = _reference_faces(files, reference, portrait)
    song = _song(files.audio, footage)
    return Material(
        footage=footage,
        song=song,
        vocals=None if files.vocals is None else read_audio(files.vocals, constants.AUDIO_RATE, mono=True),
        faces=faces,
        lip_box=box,
        reference=reference,
        reference_faces=true_faces,
        portrait=portrait,
        portrait_face=portrait_face,
        sound_file=files.audio or (footage.path if song is not None else None),
        clip_frames=files.clip_frames,
        overlap=files.overlap,
        weights=files.weights,
        device=files.device or torch.device("cpu"),
    )


def distinct_names(paths: Sequence[Path]) -> list[str]:
    """File names; where two are equal, with as many of their folders as tell them apart."""
    whole = [path.absolute().parts for path in paths]
    for depth in range(1, max(map(len, whole)) + 1):
        names = ["/".join(parts[-depth:]) for parts in whole]
        if len(set(names)) == len(set(whole)):
            return names
    return [str(path) for path in paths]


def _song(audio: Path | None, footage: Footage) -> Waveform | None:
    if audio is not None:
        return read_audio(audio, constants.AUDIO_RATE, mono=True)
    if footage.sound is None or footage.path is None:
        return None
    return read_audio(footage.path, constants.AUDIO_RATE, mono=True)


def _mouth(files: Files, footage: Footage) -> tuple[FaceTrack | None, Box | None]:
    """Landmarks of every frame, or else a lip box."""
    box = None if files.lip_box is None else check_box(files.lip_box, footage.size)
    if files.landmarks is None:
        return None, box
    found = read_track(files.landmarks, footage.size)
    if isinstance(found, FaceLandmarks):
        return None, box or lip_box(found, footage.size)
    return (None, box) if box else (found, None)


def _reference_faces(
    files: Files, reference: Footage | None, portrait: Image.Image | None
) -> tuple[FaceTrack | None, FaceLandmarks | None]:
    if files.reference_landmarks is None:
        return None, None
    if portrait is not None:
        return None, read_landmarks(files.reference_landmarks, portrait.size)[0]
    if reference is None:
        raise ValueError("--reference-landmarks belong to a reference. Give --reference as well.")
    found = read_track(files.reference_landmarks, reference.size)
    if isinstance(found, FaceLandmarks):
        raise ValueError(
            f"{files.reference_landmarks.name} holds one face; landmarks of every frame of the reference "
            "video are accepted."
        )
    return found, None
