"""How a program that knows nothing of ours reads a face: dlib's 68 points and its face descriptor.

For photographs, where no drawn world knows the colours of the mouth. Needs the packages `dlib-bin` and
`face_recognition_models` (weights of davisking/dlib-models, CC0 but for the points, which are for research).
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MODELS = "face_recognition_models"
POINTS, DESCRIPTOR = "shape_predictor_68_face_landmarks.dat", "dlib_face_recognition_resnet_model_v1.dat"
INNER_LIPS = ((61, 67), (62, 66), (63, 65))  # pairs above each other, of dlib's 68 points
BROWS, CHIN = slice(17, 27), 8
SAME_PERSON = 0.6  # distance of descriptors below which dlib takes two pictures for one person

Picture = NDArray[np.uint8]
Box = NDArray[np.int16]


class FaceReader:
    """Reads contiguous pictures (H, W, 3); `box` is left, top, right, bottom of the face."""

    def __init__(self) -> None:
        import dlib

        spec = importlib.util.find_spec(MODELS)
        if spec is None or not spec.submodule_search_locations:
            raise ModuleNotFoundError(f"Reading faces needs {MODELS}. Run pip install {MODELS}.")
        folder = Path(spec.submodule_search_locations[0]) / "models"
        self._rectangle = dlib.rectangle
        self._points = dlib.shape_predictor(str(folder / POINTS))
        self._network = dlib.face_recognition_model_v1(str(folder / DESCRIPTOR))

    def opening(self, picture: Picture, box: Box) -> float:
        """Gap between the inner lips over the height from brows to chin."""
        shape = self._shape(picture, box)
        points = np.array([(point.x, point.y) for point in shape.parts()], float)
        gap = np.mean([np.linalg.norm(points[low] - points[high]) for high, low in INNER_LIPS])
        return float(gap / np.linalg.norm(points[BROWS].mean(0) - points[CHIN]))

    def descriptor(self, picture: Picture, box: Box) -> NDArray[np.float64]:
        """128 numbers, closer than `SAME_PERSON` in pictures of one person."""
        return np.array(self._network.compute_face_descriptor(picture, self._shape(picture, box)))

    def _shape(self, picture: Picture, box: Box) -> Any:
        return self._points(picture, self._rectangle(*map(int, box)))
