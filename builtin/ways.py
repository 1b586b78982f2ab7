"""From where in the portrait's picture each part of a frame comes, read from landmarks."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.interpolate import LinearNDInterpolator
from torch import Tensor

from singer_core import constants
from singer_core.network.warp import CELLS, REACH

MESH = 468  # points of the face; the irises follow
APART = 1e-3  # pixels, so that lips that touch are not the same points


def ways(landmarks: NDArray[np.float32], size: int) -> Tensor:
    """True fields of the frames (s, FIELD, h, w) float16, as `network/warp.py` predicts them.

    landmarks  (s, 478, 2) in pixels; the first frame is the portrait
    size       side of the pictures
    Between the points linear; NaN outside the face.
    """
    cell = constants.VAE_STRIDE // CELLS
    middles = cell * (np.arange(size // cell) + 0.5)
    grid = np.stack(np.meshgrid(middles, middles), axis=-1)
    jitter = APART * np.random.default_rng(0).standard_normal((MESH, 2))
    marks = landmarks[:, :MESH].astype(np.float64)
    fields = [LinearNDInterpolator(frame + jitter, marks[0] - frame)(grid) for frame in marks]
    return F.pixel_unshuffle(torch.from_numpy(np.stack(fields)).movedim(-1, 1) / REACH, CELLS).half()
