"""Where a face's landmarks come from: a JSON file, an optional detector, or the caller's own landmarker.

The layout is MediaPipe's face mesh of 478 points. Only the silhouette, the lips and the five points of the
identity alignment are read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..files import read_json, write_text

POINTS = 478

# MediaPipe's face oval and outer lips, in the authors' order (numerics section 15)
SILHOUETTE = (
    *(10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377),
    *(152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
)
LIPS = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 146, 91, 181, 84, 17, 314, 405, 321, 375)

# Points of the ArcFace alignment: iris, iris, nose tip, mouth corner, mouth corner; left of the image first.
# 468 and 473 are the iris centres that the refined mesh appends to the 468 points of the plain one.
FIVE = (468, 473, 1, 61, 291)


@dataclass(frozen=True, eq=False)
class FaceLandmarks:
    """One face: `points` (478, 2) float32, x and y in pixels of the upright picture; outside it is allowed.

    Raises ValueError for another shape or NaN / Inf.
    """

    points: torch.Tensor

    def __post_init__(self) -> None:
        points = torch.as_tensor(self.points, dtype=torch.float32).detach().cpu()
        if tuple(points.shape) != (POINTS, 2):
            raise ValueError(
                f"Landmarks have shape {tuple(points.shape)}; one face is ({POINTS}, 2): x and y in "
                "pixels of MediaPipe's face mesh with irises."
            )
        if not torch.isfinite(points).all():
            raise ValueError("Landmarks hold NaN or Inf; pixels are accepted. Detect the face again.")
        object.__setattr__(self, "points", points)

    @property
    def silhouette(self) -> NDArray[np.float32]:
        """(36, 2) outline of the face."""
        return self.points.numpy()[list(SILHOUETTE)]

    @property
    def lips(self) -> NDArray[np.float32]:
        """(20, 2) outer ring of the lips."""
        return self.points.numpy()[list(LIPS)]

    @property
    def five(self) -> NDArray[np.float32]:
        """(5, 2) eyes, nose, mouth corners for the identity alignment."""
        return self.points.numpy()[list(FIVE)]

    @property
    def turn(self) -> float:
        """How far the nose lies beside the middle of the eyes, in distances of the eyes; 0 = frontal."""
        left, right, nose = self.five[:3]
        across = right - left
        return float((nose - (left + right) / 2) @ across / max(float(across @ across), 1e-9))

    @property
    def tilt(self) -> float:
        """How far the eyes' line is turned in the picture, 0 to 180 degrees; 180 = upside down."""
        left, right = self.five[:2]
        return abs(math.degrees(math.atan2(right[1] - left[1], right[0] - left[0])))

    def moved(self, left: float, top: float) -> FaceLandmarks:
        """The same face in a crop whose corner is at (left, top)."""
        return FaceLandmarks(self.points - torch.tensor([left, top], dtype=torch.float32))


class SeveralFacesError(ValueError):
    """It was not said which of several `faces` sings."""

    def __init__(self, faces: Sequence[FaceLandmarks]) -> None:
        self.faces = faces
        places = [(index, *face.silhouette.mean(axis=0)) for index, face in enumerate(faces)]
        listed = ", ".join(f"{index} at {x:.0f}, {y:.0f}" for index, x, y in places)
        super().__init__(
            f"Found {len(faces)} faces; SINGER needs one. Set `face_index` (0 to {len(faces) - 1}; their "
            f"middles in pixels: {listed}) or give masks. `singer prepare` draws their numbers."
        )


def choose_face(faces: Sequence[FaceLandmarks], face_index: int | None) -> FaceLandmarks:
    """The one face, or the one asked for.

    ValueError for none or a wrong index, `SeveralFacesError` for several without an index.
    """
    if not faces:
        raise ValueError(
            "Found no face; SINGER needs one. Give landmarks, or `face_mask` and `lip_mask`, use a larger or "
            "more frontal picture, or leave more room around the face."
        )
    if face_index is None:
        if len(faces) > 1:
            raise SeveralFacesError(faces)
        return faces[0]
    if not 0 <= face_index < len(faces):
        raise ValueError(
            f"`face_index` is {face_index}, but found {len(faces)} faces: 0 to {len(faces) - 1} is accepted."
        )
    return faces[face_index]


def read_landmarks(path: str | PathLike[str], size: tuple[int, int] | None = None) -> list[FaceLandmarks]:
    """Faces of a JSON file: {"size": [W, H], "faces": [[[x, y], ... 478], ...], "normalised": false}.

    Coordinates are pixels of a picture of "size", or fractions of it where "normalised" is true. Where the
    caller gives the picture's own `size` (W, H), points are scaled to it; another aspect ratio is an error.
    Raises FileNotFoundError, or ValueError naming what the file holds instead.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No landmark file at {path}. See docs/portrait.md for how to make one.")
    data = read_json(path)
    width, height = _size_of(data, path.name)
    points = [_points(face, i, path.name) for i, face in enumerate(data["faces"])]
    own = (width, height) if size is None else size
    if abs(own[0] * height - own[1] * width) > 0.01 * own[0] * height:
        raise ValueError(
            f"{path.name} is for a picture of {width} x {height} pixels, this one has {own[0]} x {own[1]}. "
            "Detect the face on this picture (upright, uncropped)."
        )
    scale = own if data.get("normalised", False) else (own[0] / width, own[1] / height)
    return [FaceLandmarks(face * torch.tensor(scale, dtype=torch.float32)) for face in points]


def write_landmarks(path: str | PathLike[str], faces: Sequence[FaceLandmarks], size: tuple[int, int]) -> None:
    """Write `faces` of a picture of `size` (W, H) in the format of `read_landmarks`."""
    path = Path(path)
    data = {
        "size": list(size),
        "normalised": False,
        "faces": [[[round(v, 3) for v in point] for point in face.points.tolist()] for face in faces],
    }
    write_text(path, json.dumps(data))


def _size_of(data: Any, name: str) -> tuple[float, float]:
    if not isinstance(data, dict) or not isinstance(data.get("faces"), list):
        raise ValueError(
            f'{name} has no "faces" list. Accepted: {{"size": [W, H], "faces": [[[x, y], ...]]}}.'
        )
    size = data.get("size")
    if (
        not isinstance(size, list)
        or len(size) != 2
        or not all(isinstance(v, int | float) and v > 0 for v in size)
    ):
        raise ValueError(f'{name}: "size" is {size!r}; the picture\'s [width, height] in pixels is accepted.')
    return size[0], size[1]


def _points(face: Any, index: int, name: str) -> torch.Tensor:
    try:
        points = torch.tensor(face, dtype=torch.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: face {index} is not a list of [x, y] numbers ({error}).") from error
    if points.ndim != 2 or points.shape[0] != POINTS or points.shape[1] not in (2, 3):
        raise ValueError(
            f"{name}: face {index} has shape {tuple(points.shape)}; {POINTS} points [x, y] of MediaPipe's "
            "face mesh with irises are accepted."
        )
    return points[:, :2]
