"""The optional package insightface as a source of faces and identities.

It gives a detector box, five points, 106 contour points and an embedding per face, not MediaPipe's 478-point
mesh. The boxes that masks are made of follow from those: the silhouette is the union of detector box and face
contour (which has no forehead), the lips are the contour's mouth points. Boxes differ from the mesh's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from .landmarks import FIVE, LIPS, POINTS, SILHOUETTE, FaceLandmarks

CONTOUR = slice(0, 33)  # jaw line of insightface's 106-point layout
MOUTH = slice(52, 72)
DETECTOR_SIDE = 640  # numerics section 15


@dataclass(frozen=True, eq=False)
class DetectedFace:
    """Landmarks in pixels, the un-normalised embedding (e,) or None, the detector box's area."""

    landmarks: FaceLandmarks
    identity: torch.Tensor | None
    area: float


def detect_insightface(
    image: Image.Image, root: str | PathLike[str] | None = None, name: str = "antelopev2"
) -> list[DetectedFace]:
    """Faces of an RGB picture, largest first, found by insightface with the models in `root`/models/`name`.

    root   None = ~/.insightface, the package's own folder

    Nothing is downloaded. Raises RuntimeError without the package, FileNotFoundError without the models.
    """
    base = Path("~/.insightface" if root is None else root).expanduser()
    try:
        from insightface.app import FaceAnalysis
    except ImportError as error:
        raise RuntimeError(
            "Face detection with insightface needs that package, which is not installed. Run `pip install "
            "insightface onnxruntime`, or give landmarks from a JSON file or masks: see docs/portrait.md."
        ) from error
    models = base / "models" / name
    if not any(models.glob("*.onnx")):
        raise FileNotFoundError(f"No insightface models in {models}. Unpack the {name} pack (*.onnx) there.")
    app = FaceAnalysis(name=name, root=str(base))
    app.prepare(ctx_id=-1, det_size=(DETECTOR_SIDE, DETECTOR_SIDE))
    faces = [_face(found) for found in app.get(np.asarray(image)[:, :, ::-1])]  # RGB -> BGR
    return sorted(faces, key=lambda face: face.area, reverse=True)


def from_boxes(
    face: Sequence[float], lip: NDArray[np.float32], five: NDArray[np.float32] | None = None
) -> FaceLandmarks:
    """Landmarks whose face box is `face` (left, top, right, bottom), whose lips are `lip` (n, 2), in pixels.

    five   (5, 2) eyes, nose, mouth corners; None where no identity is taken from this face
    Points that nothing reads lie in the middle of the face.
    """
    left, top, right, bottom = face
    points = np.full((POINTS, 2), ((left + right) / 2, (top + bottom) / 2), np.float32)
    corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)], np.float32)
    points[list(SILHOUETTE)] = np.resize(corners, (len(SILHOUETTE), 2))
    points[list(LIPS)] = np.resize(lip, (len(LIPS), 2))
    if five is not None:
        points[list(FIVE)] = five
    return FaceLandmarks(torch.from_numpy(points))


def _face(found: Any) -> DetectedFace:
    left, top, right, bottom = (float(v) for v in found.bbox[:4])
    mesh = getattr(found, "landmark_2d_106", None)
    if mesh is None:
        raise RuntimeError(
            "This insightface pack has no 106-point landmarks (2d106det.onnx). Use antelopev2."
        )
    contour = np.asarray(mesh, np.float32)[CONTOUR]
    lows, highs = contour.min(axis=0), contour.max(axis=0)
    box = (min(left, lows[0]), min(top, lows[1]), max(right, highs[0]), max(bottom, highs[1]))
    lips, five = np.asarray(mesh, np.float32)[MOUTH], np.asarray(found.kps, np.float32)
    embedding = getattr(found, "embedding", None)
    identity = None if embedding is None else torch.from_numpy(np.asarray(embedding, np.float32))
    return DetectedFace(from_boxes(box, lips, five), identity, (right - left) * (bottom - top))
