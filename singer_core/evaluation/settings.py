"""What a user says of a video that is measured: one text for the command line and the node."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .. import constants
from ..settings import setting

Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels, right and bottom outside


@dataclass(frozen=True)
class Files:
    """What belongs to the video, and what it is measured with."""

    reference: Path | None = setting(None, "The true video, or the portrait as a picture.")
    audio: Path | None = setting(None, "The song (default: the video's own sound).")
    vocals: Path | None = setting(None, "Its separated voice (default: the song).")
    landmarks: Path | None = setting(
        None, "JSON with the face mesh of every frame, or of the portrait alone, which gives a lip box."
    )
    reference_landmarks: Path | None = setting(None, "The same of the reference video or portrait.")
    lip_box: Box | None = setting(
        None,
        "Pixels around the lips, with room for an open mouth.",
        metavar="L,T,R,B",
        parse=lambda text: _box(text),
    )
    clip_frames: int = setting(
        constants.CLIP_FRAMES,
        "Frames of a clip, as it was sampled: where seams are looked for.",
        (2, 1000),
    )
    overlap: int = setting(0, "Frames that a clip shares with the one before, as it was sampled.", (0, 998))
    fps: float | None = setting(None, "Measure at this rate (default: the video's own).")
    weights: Path = setting(Path("models/evaluation"), "Folder with networks.", metavar="DIR")


def _box(text: str) -> Box:
    try:
        left, top, right, bottom = (int(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{text!r} is no box; write LEFT,TOP,RIGHT,BOTTOM in pixels") from None
    return left, top, right, bottom
