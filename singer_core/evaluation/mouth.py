"""How far the mouth is open in each frame: from landmarks of every frame, or from a box around the lips.

No network is needed. The box is fixed, so the head must stay where it is but for small movements.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .. import constants
from ..files import read_json
from ..portrait.landmarks import LIPS, POINTS, FaceLandmarks, read_landmarks
from ..portrait.masks import MaskOptions, middle
from ..portrait.portrait import Portrait
from .footage import Floats, luma
from .settings import Box

INNER_LIPS = (13, 14)  # middle of the upper and of the lower lip's inner edge, MediaPipe's face mesh
NOSE = (168, 2)  # bridge and base: upright like the mouth, so that a nod cancels, and nothing sung moves it
EYES = (33, 263)  # outer corners
SIDE, ABOVE, BELOW = 0.1, 0.5, 0.75  # of the mouth's width: what a lip box adds to the closed lips
DARK, SOFT = 0.65, 0.1  # a pixel this dark, relative to the box's median, is half inside the mouth
LEVELS = 256
FEWEST = 0.5  # share of the frames in which a face must have been found


@dataclass(frozen=True, eq=False)
class FaceTrack:
    """Landmarks of one face in every frame of a video: (s, 478, 2) pixels."""

    points: Floats

    @property
    def opening(self) -> Floats:
        """(s,) distance of the lips' inner edges over the length of the nose."""
        return self._length(*INNER_LIPS) / np.maximum(self._length(*NOSE), 1e-6)

    @property
    def position(self) -> Floats:
        """(s, 2) middle between the eyes, in distances of the eyes (their median)."""
        middle = self.points[:, list(EYES)].mean(axis=1)
        return middle / max(float(np.median(self._length(*EYES))), 1e-6)

    @property
    def speed(self) -> Floats:
        """(s,) movement of that point since the frame before, 0 for the first."""
        steps = np.linalg.norm(np.diff(self.position, axis=0), axis=1)
        return np.concatenate([[0.0], steps])

    @property
    def spread(self) -> float:
        """Standard deviation of the position, percent of the eyes' distance."""
        return float(100 * np.sqrt(self.position.var(axis=0).sum()))

    def face(self, frame: int) -> FaceLandmarks:
        return FaceLandmarks(torch.from_numpy(self.points[frame]))

    def _length(self, first: int, second: int) -> Floats:
        return np.linalg.norm(self.points[:, first] - self.points[:, second], axis=1)


def track_of(faces: Sequence[NDArray[np.floating] | None], name: str = "The landmarks") -> FaceTrack:
    """A track of the points (478, 2) found in every frame, None where there was no face.

    Gaps are filled by straight lines. Raises ValueError for another shape, or with faces in under half.
    """
    found = [i for i, face in enumerate(faces) if face is not None]
    if len(found) < max(FEWEST * len(faces), 1):
        raise ValueError(
            f"{name} hold a face in {len(found)} of {len(faces)} frames; half of them are needed. Detect "
            "again with a larger picture, or give a lip box."
        )
    rows = np.stack([np.asarray(face, np.float64) for face in faces if face is not None])
    if rows.shape[1:] not in ((POINTS, 2), (POINTS, 3)) or not np.isfinite(rows).all():
        raise ValueError(
            f"{name} have shape {rows.shape[1:]} or hold NaN; ({POINTS}, 2) pixels are accepted."
        )
    flat = rows[:, :, :2].reshape(len(found), -1)
    whole = np.stack([np.interp(np.arange(len(faces)), found, column) for column in flat.T], axis=1)
    return FaceTrack(whole.reshape(len(faces), POINTS, 2))


def read_track(path: Path, size: tuple[int, int]) -> FaceTrack | FaceLandmarks:
    """A JSON file of landmarks: of every frame, or of the portrait alone (see `read_landmarks`).

    path   {"size": [W, H], "frames": [[[x, y], ... 478] or null, ...]}; one face a frame, pixels of "size"
    size   (H, W) of the video, to which the points are scaled
    Raises FileNotFoundError, or ValueError naming what the file holds instead.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No landmark file at {path}. docs/evaluation.md says how to make one.")
    data = read_json(path)
    if not isinstance(data, dict) or "frames" not in data:
        return read_landmarks(path, (size[1], size[0]))[0]
    own, frames = data.get("size"), data["frames"]
    if not isinstance(frames, list) or not isinstance(own, list) or len(own) != 2:
        raise ValueError(
            f'{path.name}: {{"size": [W, H], "frames": [[[x, y], ... {POINTS}], ...]}} is accepted.'
        )
    scale = np.array([size[1] / own[0], size[0] / own[1]])
    try:
        faces = [None if face is None else np.array(face, np.float64)[:, :2] * scale for face in frames]
        return track_of(faces, path.name)
    except (TypeError, IndexError, ValueError) as error:
        raise ValueError(f"{path.name} holds no landmarks of every frame: {error}") from error


def lip_box(face: FaceLandmarks, size: tuple[int, int]) -> Box:
    """A box around the lips of a face at rest that an open mouth fits into; size (H, W) of the picture."""
    lips = face.points.numpy()[list(LIPS)]
    (left, top), (right, bottom) = lips.min(axis=0), lips.max(axis=0)
    width, middle = right - left, (top + bottom) / 2
    box = (left - SIDE * width, middle - ABOVE * width, right + SIDE * width, middle + BELOW * width)
    return check_box((int(box[0]), int(box[1]), int(np.ceil(box[2])), int(np.ceil(box[3]))), size)


def portrait_lip_box(portrait: Portrait, size: tuple[int, int]) -> Box:
    """The lip box in videos of a prepared portrait: of its crop, or pasted back into the picture.

    size   (H, W) of the video
    From position and width of the portrait's lip mask. Raises ValueError for a video of another size.
    """
    (H, W), crop = portrait.crop.size, portrait.crop
    mask = portrait.lips.double()
    middle_y, middle_x = (share * side for share, side in zip(middle(mask), mask.shape, strict=True))
    columns, x = mask.sum(0).numpy(), np.arange(mask.shape[1]) + 0.5
    deviation = np.sqrt((columns * (x - middle_x) ** 2).sum() / max(columns.sum(), 1e-9))
    width = np.sqrt(12) * deviation / MaskOptions().lip_ratio  # of a uniform stretch, as wide as the lips
    reach = (SIDE + 0.5) * width
    corners = np.array(
        [middle_x - reach, middle_y - ABOVE * width, middle_x + reach, middle_y + BELOW * width]
    )
    frame = corners * constants.VAE_STRIDE
    if size == portrait.crop.original_size and size != (H, W):
        left, top, right, bottom = crop.box
        scale = np.array([(right - left) / W, (bottom - top) / H] * 2)
        frame = frame * scale + np.array([left, top] * 2)
    elif size != (H, W):
        h, w = crop.original_size
        raise ValueError(
            f"The video has {size[1]} x {size[0]} pixels; one of this portrait has {W} x {H}, or {w} x {h} "
            "where it is pasted back. Give the portrait that was sampled, or landmarks of the video."
        )
    low, high = np.floor(frame[:2]).astype(int), np.ceil(frame[2:]).astype(int)
    return check_box((int(low[0]), int(low[1]), int(high[0]), int(high[1])), size)


def check_box(box: Box, size: tuple[int, int]) -> Box:
    """The part of a box inside a picture of `size` (H, W). Raises ValueError where hardly any is."""
    left, top, right, bottom = max(box[0], 0), max(box[1], 0), min(box[2], size[1]), min(box[3], size[0])
    if right - left < 4 or bottom - top < 4:
        raise ValueError(
            f"The lip box {box} does not lie in the picture of {size[1]} x {size[0]} pixels. Give LEFT,TOP,"
            "RIGHT,BOTTOM in its pixels, around the lips with some room for an open mouth."
        )
    return left, top, right, bottom


def box_levels(frame: Tensor, box: Box) -> Floats:
    """(256,) share of the lip box at each level of brightness; frame (3, H, W) uint8, RGB."""
    left, top, right, bottom = box
    brightness = luma(frame[:, top:bottom, left:right].float()).round().long().flatten()
    return torch.bincount(brightness, minlength=LEVELS).double().numpy() / brightness.numel()


def box_openings(levels: Floats) -> Floats:
    """(s,) share of the lip box that is dark, 0..1: the inside of an open mouth.

    levels   (s, 256) of every frame, see `box_levels`
    Dark is relative to the median of the box over the whole video, mostly skin and lips: that of one frame
    would jump with the share of a beard that shows. Compare the result with itself over time: a beard adds a
    constant, teeth in full light take some away. It fails where lips are as dark as the mouth, where the
    light changes, and where the head leaves the box.
    """
    whole = levels.mean(axis=0).cumsum()
    median = max(float(np.searchsorted(whole, 0.5 * whole[-1])), 1.0)
    dark = ((DARK + SOFT - np.arange(LEVELS) / median) / (2 * SOFT)).clip(0, 1)
    return np.asarray(levels @ dark)
