"""What landmarks tell of a frame: where in the portrait each part comes from, where its mouth is open."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.interpolate import LinearNDInterpolator
from torch import Tensor

from singer_core import constants
from singer_core.network.warp import CELLS, CERTAIN, COVER_CELLS, REACH

from .world.landmarks import LOWER_LIP, UPPER_LIP

MESH = 468  # points of the face; the irises follow
MOUTH = (*UPPER_LIP[-1], *reversed(LOWER_LIP[-1]))
FINE = 4  # parts of a pixel in which a mouth is drawn
APART = 1e-3  # pixels, so that lips that touch are not the same points


def ways(landmarks: NDArray[np.float32], size: int) -> Tensor:
    """What is known of the frames' motion, (s, FIELD + COVER, h, w) float16, as `network/warp.py` reads it.

    landmarks  (s, 478, 2) in pixels; the first frame is the portrait
    size       side of the pictures
    Ways are linear between the points, NaN outside the face; paint covers what is between the lips.
    """
    cell = constants.VAE_STRIDE // CELLS
    middles = cell * (np.arange(size // cell) + 0.5)
    grid = np.stack(np.meshgrid(middles, middles), axis=-1)
    jitter = APART * np.random.default_rng(0).standard_normal((MESH, 2))
    marks = landmarks[:, :MESH].astype(np.float64)
    fields = [LinearNDInterpolator(frame + jitter, marks[0] - frame)(grid) for frame in marks]
    field = F.pixel_unshuffle(torch.from_numpy(np.stack(fields)).movedim(-1, 1) / REACH, CELLS)
    cover = F.pixel_unshuffle(torch.stack([_mouth(frame, size) for frame in marks]), COVER_CELLS)
    return torch.cat([field, CERTAIN * cover], dim=1).half()


def _mouth(marks: NDArray[np.float64], size: int) -> Tensor:
    """(1, H, W) of cells of the cover: how much of each lies between the inner lips, 0 to 1."""
    picture = Image.new("L", (FINE * size, FINE * size))
    outline = FINE * marks[list(MOUTH)] - 0.5
    ImageDraw.Draw(picture).polygon(outline.ravel().tolist(), fill=255)
    shares = torch.from_numpy(np.array(picture))[None].double() / 255
    return F.avg_pool2d(shares, FINE * constants.VAE_STRIDE // COVER_CELLS)
