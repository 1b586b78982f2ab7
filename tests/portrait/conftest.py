"""A photograph and faces drawn as points: only silhouette, lips and five points of the mesh are read."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from singer_core.portrait.landmarks import FIVE, LIPS, SILHOUETTE, FaceLandmarks

MakeFace = Callable[..., FaceLandmarks]


@pytest.fixture(scope="session")
def photo() -> Image.Image:
    """512 x 512, a face at about (224, 118)."""
    return Image.fromarray(data.astronaut())


@pytest.fixture
def make_face() -> MakeFace:
    """face(x, y, half_width): an oval 1.3 times as high as wide around (x, y)."""

    def face(x: float = 224, y: float = 118, half_width: float = 46) -> FaceLandmarks:
        points = np.full((478, 2), (x, y), np.float32)
        turn = np.linspace(0, 2 * np.pi, len(SILHOUETTE), endpoint=False)
        points[list(SILHOUETTE)] += np.stack([np.sin(turn), -1.3 * np.cos(turn)], 1) * half_width
        turn = np.linspace(0, 2 * np.pi, len(LIPS), endpoint=False)
        mouth = np.stack([-0.5 * np.cos(turn), 0.67 - 0.2 * np.sin(turn)], 1)
        points[list(LIPS)] += mouth * half_width
        five = np.array([(-0.43, -0.24), (0.46, -0.24), (0.02, 0.26), (-0.5, 0.67), (0.5, 0.67)])
        points[list(FIVE)] = np.array((x, y)) + five * half_width
        return FaceLandmarks(torch.from_numpy(points))

    return face
