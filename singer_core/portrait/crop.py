"""Which part of the picture the network animates, and how an animated part goes back into the picture.

Frames of any aspect ratio; nothing here knows faces beyond a box.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from .detail import detailed, scaled
from .image import from_tensor, to_tensor
from .masks import Box

LIPS_AT = (0.5, 0.655)  # of the width and height of an exact crop; a face in its middle has them about there


@dataclass(frozen=True)
class CropTransform:
    """A rectangle of the picture and the frame it is scaled to.

    box            left, top, right, bottom in picture pixels; may reach outside, where edge pixels repeat
    size           (H, W) of the network's frame
    original_size  (H, W) of the picture
    """

    box: Box
    size: tuple[int, int]
    original_size: tuple[int, int]

    def __post_init__(self) -> None:
        left, top, right, bottom = self.box
        H, W = self.original_size
        if right <= max(left, 0) or bottom <= max(top, 0) or left >= W or top >= H:
            raise ValueError(
                f"The crop {self.box} lies outside the picture of {W} x {H} pixels. Choose another."
            )

    @property
    def cut_size(self) -> tuple[int, int]:
        """(H, W) of the crop in pixels of the picture, before scaling."""
        left, top, right, bottom = self.box
        return bottom - top, right - left

    @property
    def stretch(self) -> float:
        """How much wider (> 1) or narrower the frame shows things than the picture."""
        (H, W), (cut_h, cut_w) = self.size, self.cut_size
        return (W / cut_w) / (H / cut_h)

    def cut(self, image: Image.Image) -> Image.Image:
        """The crop at the picture's own resolution; outside the picture its edge pixels repeat."""
        rows, columns = self._indices()
        return Image.fromarray(np.asarray(image)[rows[:, None], columns[None, :]])

    def apply(self, image: Image.Image) -> Image.Image:
        """The crop at the network's size, PIL bilinear with antialiasing (numerics section 13)."""
        return self.cut(image).resize((self.size[1], self.size[0]), Image.Resampling.BILINEAR)

    def _indices(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        left, top, right, bottom = self.box
        H, W = self.original_size
        return np.arange(top, bottom).clip(0, H - 1), np.arange(left, right).clip(0, W - 1)


def whole(original_size: tuple[int, int], size: tuple[int, int]) -> CropTransform:
    """The whole picture squashed to `size` (H, W): the authors' rule (section 13)."""
    return CropTransform((0, 0, original_size[1], original_size[0]), size, original_size)


def centred(original_size: tuple[int, int], size: tuple[int, int]) -> CropTransform:
    """The largest rectangle of the aspect ratio of `size` in the middle of the picture."""
    H, W = original_size
    scale = min(H / size[0], W / size[1])
    return CropTransform(_place(W / 2, H / 2, scale, size, original_size), size, original_size)


def around(face: Box, original_size: tuple[int, int], size: tuple[int, int], margin: float) -> CropTransform:
    """A rectangle of the aspect ratio of `size` around the `face` box.

    margin   room on each side of the face, in widths of the longer side of its box

    The rectangle is moved inside the picture where it leaves it and shrunk where it does not fit, but never
    below the face: where the face itself does not fit, it reaches outside, where edges repeat.
    """
    x, y, smallest = _middle_and_scale(face, size)
    fitting = min(original_size[0] / size[0], original_size[1] / size[1])
    scale = max(min(smallest * (1 + 2 * margin), fitting), smallest)
    return CropTransform(_place(x, y, scale, size, original_size), size, original_size)


def exactly_around(
    face: Box, lips: Box, original_size: tuple[int, int], size: tuple[int, int], margin: float
) -> CropTransform:
    """As `around`, the face always as large, the lips at `LIPS_AT`: outside the picture edges repeat."""
    _, _, smallest = _middle_and_scale(face, size)
    height, width = (max(round(smallest * (1 + 2 * margin) * side), 1) for side in size)
    x, y = (lips[0] + lips[2]) / 2, (lips[1] + lips[3]) / 2
    left, top = round(x - width * LIPS_AT[0]), round(y - height * LIPS_AT[1])
    return CropTransform((left, top, left + width, top + height), size, original_size)


@dataclass(frozen=True, eq=False)
class PasteBack:
    """Blends animated crops into the picture they were cut from.

    original      (3, H, W) in [0, 1]; H, W as `transform.original_size`
    feather       width of the border band in which picture and frame mix, in shorter sides of the crop,
                  0 to 0.5. Sides of the crop on the edge of the picture have no band
    colour_match  0 to 1: how much of the frame's mean colour offset in the border band is taken out
    detail        where a frame shows what the crop showed, there or moved, show it as sharp as the picture:
                  an unchanged crop gives the picture back; an open mouth is as sharp as the frame

    Raises ValueError for another shape or range of options.
    """

    original: torch.Tensor
    transform: CropTransform
    feather: float = 0.1
    colour_match: float = 1.0
    detail: bool = True

    def __post_init__(self) -> None:
        if tuple(self.original.shape) != (3, *self.transform.original_size):
            raise ValueError(
                f"The picture has shape {tuple(self.original.shape)}; the crop was made from "
                f"{(3, *self.transform.original_size)}. Pass the picture the portrait was prepared from."
            )
        if not 0 <= self.feather <= 0.5:
            raise ValueError(f"`feather` is {self.feather}; 0 to 0.5 of the crop's shorter side is accepted.")
        if not 0 <= self.colour_match <= 1:
            raise ValueError(f"`colour_match` is {self.colour_match}; 0 (off) to 1 is accepted.")

    def __call__(self, frames: torch.Tensor) -> torch.Tensor:
        """(3, h, w) or (f, 3, h, w) in [0, 1] of `transform.size` -> the same at the picture's size."""
        expected = (3, *self.transform.size)
        if tuple(frames.shape[-3:]) != expected or frames.ndim not in (3, 4):
            raise ValueError(f"The frame has shape {tuple(frames.shape)}; this crop accepts {expected}.")
        if frames.ndim == 4:
            return torch.stack([self._one(frame) for frame in frames])
        return self._one(frames)

    def _one(self, frame: torch.Tensor) -> torch.Tensor:
        frame = frame.detach().cpu().float()
        offset = ((self._crop - frame) * self._band).sum(dim=(1, 2)) / self._band.sum().clamp_min(1e-6)
        frame = frame + self.colour_match * offset[:, None, None]
        size = self.transform.cut_size
        patch = detailed(frame, self._crop, self._cut) if self.detail else scaled(frame, size)
        result = self.original.clone().float()
        rows, columns, inner_rows, inner_columns = self._overlap
        patch, weight = patch[:, inner_rows, inner_columns], self._weight[inner_rows, inner_columns]
        result[:, rows, columns] = torch.lerp(result[:, rows, columns], patch, weight)
        return result.clamp_(0, 1)

    @cached_property
    def _cut(self) -> torch.Tensor:
        """(3, h, w) the crop at the picture's resolution, edges repeated outside."""
        rows, columns = (torch.from_numpy(i) for i in self.transform._indices())
        return self.original.float()[:, rows[:, None], columns[None, :]]

    @cached_property
    def _crop(self) -> torch.Tensor:
        """(3, H, W) the crop as the network saw it: 8 bits."""
        H, W = self.transform.size
        return to_tensor(from_tensor(self._cut).resize((W, H), Image.Resampling.BILINEAR))

    @cached_property
    def _weight(self) -> torch.Tensor:
        """(h, w) share of the frame: 0 on the crop's border, 1 behind the band."""
        h, w = self.transform.cut_size
        left, top, right, bottom = self.transform.box
        H, W = self.transform.original_size
        width = self.feather * min(h, w)
        return _ramp(h, width, top > 0, bottom < H)[:, None] * _ramp(w, width, left > 0, right < W)[None, :]

    @cached_property
    def _band(self) -> torch.Tensor:
        """(1, H, W) where colours of frame and picture are compared: the border band, else everywhere."""
        weight = scaled(self._weight[None], self.transform.size)
        band = (weight < 1).float()
        return band if band.any() else torch.ones_like(band)

    @cached_property
    def _overlap(self) -> tuple[slice, slice, slice, slice]:
        """Rows and columns of the picture, and of the crop, that both have."""
        left, top, right, bottom = self.transform.box
        H, W = self.transform.original_size
        x0, y0, x1, y1 = max(left, 0), max(top, 0), min(right, W), min(bottom, H)
        return slice(y0, y1), slice(x0, x1), slice(y0 - top, y1 - top), slice(x0 - left, x1 - left)


def _middle_and_scale(face: Box, size: tuple[int, int]) -> tuple[float, float, float]:
    """The middle (x, y) of a box, and its pixels to one of a crop of `size` that just holds it."""
    left, top, right, bottom = face
    return (left + right) / 2, (top + bottom) / 2, max((bottom - top) / size[0], (right - left) / size[1])


def _place(x: float, y: float, scale: float, size: tuple[int, int], original_size: tuple[int, int]) -> Box:
    """A rectangle of scale x size pixels about (x, y), moved into the picture or over all of a short axis."""
    left, right = _interval(x, round(scale * size[1]), original_size[1])
    top, bottom = _interval(y, round(scale * size[0]), original_size[0])
    return left, top, right, bottom


def _interval(middle: float, length: int, limit: int) -> tuple[int, int]:
    length = max(length, 1)
    start = round(middle - length / 2)
    low, high = sorted((0, limit - length))
    start = min(max(start, low), high)
    return start, start + length


def _ramp(length: int, width: float, low: bool, high: bool) -> torch.Tensor:
    """(length,) smooth step from 0 at an open end (`low`, `high`) to 1 at `width` pixels from it."""
    position = torch.arange(length) + 0.5
    distance = torch.full((length,), float("inf"))
    if low:
        distance = position
    if high:
        distance = torch.minimum(distance, length - position)
    t = (distance / max(width, 0.5)).clamp(0, 1)
    return t * t * (3 - 2 * t)
