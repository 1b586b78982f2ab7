"""What is known of a video before it is measured, and the files that it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from PIL import Image

from .. import constants
from ..audio.waveform import Waveform, read_audio
from ..portrait.image import read_image
from ..portrait.landmarks import FaceLandmarks, read_landmarks
from .footage import Footage, open_footage
from .mouth import FaceTrack, check_box, lip_box, read_track
from .settings import Box, Files

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True, eq=False)
class Material:
    """What is known of a video.

    song             the whole sound, mono; beats and length come from it
    vocals           the separated voice, mono; None = the song is taken as it is
    faces            landmarks of every frame; else
    lip_box          around the lips, in pixels of the video; else the mouth is not measured
    reference        the true video, frame by frame, at the video's rate and size
    portrait         the picture that was animated, and its face
    sound_file       the file of the song, for SyncNet
    clip_frames      frames of a clip, `overlap` of them shared with the clip before
    weights          folder with the networks of the user
    set_metrics      False leaves FID and FVD to who gathers many videos
    """

    footage: Footage
    song: Waveform | None = None
    vocals: Waveform | None = None
    faces: FaceTrack | None = None
    lip_box: Box | None = None
    reference: Footage | None = None
    reference_faces: FaceTrack | None = None
    portrait: Image.Image | None = None
    portrait_face: FaceLandmarks | None = None
    sound_file: Path | None = None
    clip_frames: int = constants.CLIP_FRAMES
    overlap: int = 0
    weights: Path = Files.weights
    set_metrics: bool = True
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __post_init__(self) -> None:
        if self.clip_frames < 2:
            raise ValueError(f"`clip_frames` is {self.clip_frames}; 2 or more is accepted. Clips have 16.")
        if not 0 <= self.overlap <= self.clip_frames - 2:
            raise ValueError(
                f"`overlap` is {self.overlap} with clips of {self.clip_frames} frames; 0 to "
                f"{self.clip_frames - 2} is accepted. Give what the video was rendered with."
            )
        for name, faces, film in (
            ("landmarks", self.faces, self.footage),
            ("reference landmarks", self.reference_faces, self.reference),
        ):
            if faces is not None and film is not None and len(faces.points) != film.frames:
                raise ValueError(
                    f"The {name} are of {len(faces.points)} frames, {film.name} has {film.frames}. Detect "
                    "them on this video, in every frame."
                )


def read_material(video: Path, given: Files, device: torch.device | None = None) -> Material:
    """Open a video and everything that belongs to it. device: of the networks; None = the CPU.

    Raises FileNotFoundError for what is missing, ValueError for files of another kind or another video.
    """
    footage = open_footage(video, given.fps)
    reference, portrait = None, None
    if given.reference is not None and given.reference.suffix.lower() in PICTURES:
        portrait = read_image(given.reference)
    elif given.reference is not None:
        reference = open_footage(given.reference, footage.fps, footage.size)
    faces, box = _mouth(given, footage)
    true_faces, portrait_face = _reference_faces(given.reference_landmarks, reference, portrait)
    sound_file = given.audio or (video if footage.sound is not None else None)
    return Material(
        footage=footage,
        song=_read_sound(sound_file),
        vocals=_read_sound(given.vocals),
        faces=faces,
        lip_box=box,
        reference=reference,
        reference_faces=true_faces,
        portrait=portrait,
        portrait_face=portrait_face,
        sound_file=sound_file,
        clip_frames=given.clip_frames,
        overlap=given.overlap,
        weights=given.weights,
        device=device or torch.device("cpu"),
    )


def distinct_names(paths: Sequence[Path]) -> list[str]:
    """File names; where two are equal, with as many of their folders as tell them apart."""
    whole = [path.absolute().parts for path in paths]
    for depth in range(1, max(map(len, whole)) + 1):
        names = ["/".join(parts[-depth:]) for parts in whole]
        if len(set(names)) == len(set(whole)):
            return names
    return [str(path) for path in paths]


def _read_sound(path: Path | None) -> Waveform | None:
    return None if path is None else read_audio(path, constants.AUDIO_RATE, mono=True)


def _mouth(given: Files, footage: Footage) -> tuple[FaceTrack | None, Box | None]:
    """Landmarks of every frame, or else a lip box."""
    box = None if given.lip_box is None else check_box(given.lip_box, footage.size)
    if given.landmarks is None:
        return None, box
    found = read_track(given.landmarks, footage.size)
    if isinstance(found, FaceLandmarks):
        return None, box or lip_box(found, footage.size)
    return (None, box) if box else (found, None)


def _reference_faces(
    landmarks: Path | None, reference: Footage | None, portrait: Image.Image | None
) -> tuple[FaceTrack | None, FaceLandmarks | None]:
    if landmarks is None:
        return None, None
    if portrait is not None:
        return None, read_landmarks(landmarks, portrait.size)[0]
    if reference is None:
        raise ValueError("--reference-landmarks belong to a reference. Give --reference as well.")
    found = read_track(landmarks, reference.size)
    if isinstance(found, FaceLandmarks):
        raise ValueError(
            f"{landmarks.name} holds one face; landmarks of every frame of the reference video are accepted."
        )
    return found, None
