"""One pass over a video: everything that is read from its frames, in constant memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ..progress import Progress, unwatched
from .footage import Floats, Footage, luma, resized
from .mouth import box_levels
from .settings import Box

Thumbnail = tuple[int, NDArray[np.uint8]]  # frame, (h, w, 3)

BOARD = 8  # fields a side
CORNER = 8  # a corner patch has 1 / 8 of the picture's sides
THUMBNAILS = 16
THUMBNAIL_SIDE = 128  # pixels, the longer side


@dataclass(frozen=True, eq=False)
class Reading:
    """What is kept of a frame, or of all with a leading axis s; grey levels are 0..255, without a frame
    before changes are 0.

    colour     (3,) mean level of red, green, blue
    sharpness  () variance of the Laplacian of the grey picture
    step       () mean absolute difference to the frame before
    corners    (4,) the same in the four corners
    stir       () mean absolute change of the brightness outside the lip box
    blocks     (64,) mean brightness of the fields of a board of 8 x 8
    levels     (256,) of the lip box, see `box_levels`; () without a box
    """

    colour: Floats
    sharpness: Floats
    step: Floats
    corners: Floats
    stir: Floats
    blocks: Floats
    levels: Floats


def read_footage(
    footage: Footage, box: Box | None = None, progress: Progress = unwatched
) -> tuple[Reading, tuple[Thumbnail, ...]]:
    """All frames, and some of them, evenly spread, as thumbnails. box: around the lips, in pixels."""
    rows: list[Reading] = []
    kept: list[Thumbnail] = []
    wanted = footage.spread(THUMBNAILS)
    before: Tensor | None = None
    for index, frame in enumerate(footage.pictures()):
        rows.append(read_frame(frame, before, box))
        if index in wanted:
            kept.append((index, thumbnail(frame)))
        before = frame
        progress((index + 1) / footage.frames)
    columns = {name: np.stack([getattr(row, name) for row in rows]) for name in vars(rows[0])}
    return Reading(**columns), tuple(kept)


def read_frame(frame: Tensor, before: Tensor | None, box: Box | None = None) -> Reading:
    """frame, before   (3, H, W) uint8, RGB; before: the previous frame, None for the first."""
    pixels = frame.float()
    grey = luma(pixels)
    laplacian = F.conv2d(grey[None, None], grey.new_tensor([[[[0, 1, 0], [1, -4, 1], [0, 1, 0]]]]))
    earlier = pixels if before is None else before.float()
    change, stir = (pixels - earlier).abs(), (grey - luma(earlier)).abs()
    if box is not None:
        left, top, right, bottom = box
        stir[top:bottom, left:right] = 0
    return Reading(
        colour=_numbers(pixels.mean(dim=(1, 2))),
        sharpness=_numbers(laplacian.double().var(unbiased=False)),
        step=_numbers(change.mean()),
        corners=_numbers(torch.stack([corner.mean() for corner in _corners(change)])),
        stir=_numbers(stir.mean()),
        blocks=_numbers(F.adaptive_avg_pool2d(grey[None], BOARD).flatten()),
        levels=np.zeros(()) if box is None else box_levels(frame, box),
    )


def _numbers(values: Tensor) -> Floats:
    return values.double().numpy()


def _corners(picture: Tensor) -> Iterator[Tensor]:
    """The four corners of (3, H, W)."""
    high, wide = (max(side // CORNER, 1) for side in picture.shape[1:])
    for rows in (slice(high), slice(-high, None)):
        for columns in (slice(wide), slice(-wide, None)):
            yield picture[:, rows, columns]


def thumbnail(frame: Tensor) -> NDArray[np.uint8]:
    """(3, H, W) uint8 -> (h, w, 3) uint8 with the longer side of 128 pixels."""
    scale = THUMBNAIL_SIDE / max(frame.shape[1:])
    high, wide = (max(round(side * scale), 1) for side in frame.shape[1:])
    return resized(frame, (high, wide)).permute(1, 2, 0).contiguous().numpy()
