"""What landmarks tell of a frame: where in the portrait each part comes from, what is painted over."""

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
from singer_core.portrait.identity import similarity

from .world.landmarks import LEFT_LIDS, LOWER_LIP, RIGHT_LIDS, UPPER_LIP

MESH = 468  # points of the face; the irises follow
MOUTH = [*UPPER_LIP[-1], *reversed(LOWER_LIP[-1])]
EYES = [[*upper, *reversed(lower)] for upper, lower in (LEFT_LIDS, RIGHT_LIDS)]
CLOSING = 0.7  # share of an eye's area from which on its lids are painted
LASHES = 1.35  # of an eye's ring, to cover its lashes with it
CORNERS = [0, len(LEFT_LIDS[0]) - 1]  # of an eye, in its ring
FINE = 4  # parts of a pixel in which a mouth is drawn
APART = 1e-3  # pixels, so that lips that touch are not the same points


def ways(landmarks: NDArray[np.float32], size: int) -> Tensor:
    """What is known of the frames' motion, (s, FIELD + COVER, h, w) float16, as `network/warp.py` reads it.

    landmarks  (s, 478, 2) in pixels; the first frame is the portrait
    size       side of the pictures
    Ways are linear between the points, NaN outside the face; paint covers what is between the lips, and the
    lids that close over eyes, which would drag their lashes along.
    """
    cell = constants.VAE_STRIDE // CELLS
    middles = cell * (np.arange(size // cell) + 0.5)
    grid = np.stack(np.meshgrid(middles, middles), axis=-1)
    jitter = APART * np.random.default_rng(0).standard_normal((MESH, 2))
    marks = landmarks[:, :MESH].astype(np.float64)
    firm = np.setdiff1d(np.arange(MESH), EYES)
    fields = [LinearNDInterpolator((frame + jitter)[firm], (marks[0] - frame)[firm])(grid) for frame in marks]
    field = F.pixel_unshuffle(torch.from_numpy(np.stack(fields)).movedim(-1, 1) / REACH, CELLS)
    cover = F.pixel_unshuffle(torch.stack([_cover(frame, marks[0], size) for frame in marks]), COVER_CELLS)
    return torch.cat([field, CERTAIN * cover], dim=1).half()


def _cover(marks: NDArray[np.float64], portrait: NDArray[np.float64], size: int) -> Tensor:
    """(1, H, W) of cells of the cover: how much of each is painted over, 0 to 1."""
    picture = Image.new("L", (FINE * size, FINE * size))
    draw = ImageDraw.Draw(picture)

    def fill(outline: NDArray[np.float64], value: int) -> None:
        draw.polygon((FINE * outline - 0.5).ravel().tolist(), fill=value)

    fill(marks[MOUTH], 255)
    for eye in EYES:
        matrix = similarity(portrait[eye][CORNERS], marks[eye][CORNERS])
        wide = portrait[eye] @ matrix[:, :2].T + matrix[:, 2]
        if _area(marks[eye]) < CLOSING * _area(wide):
            middle = wide.mean(0)
            fill(middle + LASHES * (wide - middle), 255)
            fill(marks[eye], 0)
    shares = torch.from_numpy(np.array(picture))[None].double() / 255
    return F.avg_pool2d(shares, FINE * constants.VAE_STRIDE // COVER_CELLS)


def _area(ring: NDArray[np.float64]) -> float:
    """Of a polygon (n, 2)."""
    x, y = ring.T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2
