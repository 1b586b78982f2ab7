"""One pass over a video: everything that is read from its frames, in constant memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from .footage import Footage
from .mouth import Box, box_levels, box_openings
from .stability import FrameReading, luma, read_frame

Floats = NDArray[np.float64]

THUMBNAILS = 16
THUMBNAIL_SIDE = 128  # pixels, the longer side


@dataclass(frozen=True, eq=False)
class Readings:
    """Curves over the frames, see `FrameReading`, and small pictures for a contact sheet.

    opening     (s,) of the lip box, None without a box
    stir        (s,) mean absolute change outside the lip box, grey levels; 0 for the first frame
    thumbnails  (frame, (h, w, 3) uint8), evenly spread
    """

    colour: Floats
    sharpness: Floats
    step: Floats
    corners: Floats
    blocks: Floats
    stir: Floats
    opening: Floats | None
    thumbnails: tuple[tuple[int, NDArray[np.uint8]], ...]


def read_footage(
    footage: Footage, box: Box | None = None, progress: Callable[[float], None] | None = None
) -> Readings:
    """Read all frames. box: around the lips, in pixels."""
    rows: list[FrameReading] = []
    stirs: list[float] = []
    levels: list[Floats] = []
    kept: list[tuple[int, NDArray[np.uint8]]] = []
    wanted = set(np.linspace(0, footage.frames - 1, min(THUMBNAILS, footage.frames)).round().astype(int))
    before: Tensor | None = None
    for index, frame in enumerate(footage.pictures()):
        rows.append(read_frame(frame, before))
        stirs.append(0.0 if before is None else _stir(frame, before, box))
        if box is not None:
            levels.append(box_levels(frame, box))
        if index in wanted:
            kept.append((index, thumbnail(frame)))
        before = frame
        if progress is not None:
            progress((index + 1) / footage.frames)
    return Readings(
        colour=np.stack([row.colour for row in rows]),
        sharpness=np.array([row.sharpness for row in rows]),
        step=np.array([row.step for row in rows]),
        corners=np.stack([row.corners for row in rows]),
        blocks=np.stack([row.blocks for row in rows]),
        stir=np.array(stirs),
        opening=box_openings(np.stack(levels)) if levels else None,
        thumbnails=tuple(kept),
    )


def thumbnail(frame: Tensor) -> NDArray[np.uint8]:
    """(3, H, W) uint8 -> (h, w, 3) uint8 with the longer side of 128 pixels."""
    scale = THUMBNAIL_SIDE / max(frame.shape[1:])
    size = [max(round(side * scale), 1) for side in frame.shape[1:]]
    small = F.interpolate(frame[None].float(), size, mode="bilinear", antialias=True, align_corners=False)
    return small[0].round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).contiguous().numpy()


def _stir(frame: Tensor, before: Tensor, box: Box | None) -> float:
    change = (luma(frame.float()) - luma(before.float())).abs()
    if box is not None:
        left, top, right, bottom = box
        change[top:bottom, left:right] = 0
    return float(change.mean())
