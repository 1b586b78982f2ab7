"""Where rendered crops stand in the pictures of a video: bare, in their picture, or two singers in one.

A canvas takes one frame of every film at a time, so that pictures of any size need the memory of one.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..portrait.crop import CropTransform, PasteBack, whole
from ..portrait.detail import scaled
from ..portrait.image import from_tensor, to_tensor
from ..portrait.masks import middle
from ..portrait.portrait import Portrait

logger = logging.getLogger(__name__)

Size = tuple[int, int]  # (H, W)

FINE = 512  # pixels of a crop's shorter side where it is shown sharper than it was rendered
BAND = 0.1  # width in which two singers of one picture mix, in distances between their faces


@dataclass(frozen=True)
class Canvas:
    """Pictures of one size, made of one frame of every film.

    size     (H, W)
    films    how many frames make a picture
    compose  frames (3, H, W) each, in [0, 1] -> the picture (3, *size)
    remade   the same at another size, where that costs less than to scale every picture
    """

    size: Size
    films: int
    compose: Callable[[Sequence[Tensor]], Tensor]
    remade: Callable[[Size], Canvas] | None = None

    def at(self, size: Size) -> Canvas:
        """The same, scaled."""
        if self.remade is not None:
            return self.remade(size)
        return Canvas(size, self.films, lambda frames: scaled(self.compose(frames), size))


def bare(size: Size) -> Canvas:
    """The crop as it is rendered."""
    return Canvas(size, 1, lambda frames: frames[0])


def sharpened(portrait: Portrait) -> Canvas:
    """The crop at `FINE` pixels, what the picture shows of it as sharp as there."""
    crop = portrait.crop
    height, width = (2 * round(side * FINE / min(crop.size) / 2) for side in crop.size)
    fine = CropTransform(crop.box, (height, width), crop.original_size)
    picture = to_tensor(fine.apply(from_tensor(_original(portrait))))
    paste = PasteBack(picture, whole(fine.size, crop.size), colour_match=0.0)
    return Canvas(fine.size, 1, lambda frames: paste(frames[0]))


def pasted(portrait: Portrait, size: Size | None = None) -> Canvas:
    """The crop back in the picture that it was cut from, scaled to `size`; None = as it is."""
    paste = _paste(portrait, size)
    remade = functools.partial(pasted, portrait)
    return Canvas(paste.transform.original_size, 1, lambda frames: paste(frames[0]), remade)


def capped(canvas: Canvas, longest: int) -> Canvas:
    """The same, scaled down where its longer side exceeds `longest`; 0 = no limit."""
    size = _capped(canvas.size, longest)
    return canvas if size == canvas.size else canvas.at(size)


def _capped(size: Size, longest: int) -> Size:
    scale = longest / max(size)
    if not 0 < scale < 1:
        return size
    height, width = (2 * max(round(side * scale / 2), 1) for side in size)
    logger.warning(
        "The video of %d x %d pixels is scaled to %d x %d; longest_side = 0 turns this off.",
        *size[::-1],
        width,
        height,
    )
    return height, width


def side_by_side(left: Canvas, right: Canvas) -> Canvas:
    """Two canvases beside each other. Raises ValueError where they are not of one height."""
    if left.size[0] != right.size[0]:
        raise ValueError(
            f"Pictures of {left.size[0]} and {right.size[0]} rows cannot stand side by side. Scale one of "
            "them to the height of the other, or show the rendered crops alone."
        )

    def compose(frames: Sequence[Tensor]) -> Tensor:
        parts = left.compose(frames[: left.films]), right.compose(frames[left.films :])
        return torch.cat([part.cpu() for part in parts], dim=2)

    def remade(size: Size) -> Canvas:
        width = round(left.size[1] * size[1] / full[1])
        return side_by_side(left.at((size[0], width)), right.at((size[0], size[1] - width)))

    full = left.size[0], left.size[1] + right.size[1]
    return Canvas(full, left.films + right.films, compose, remade)


def in_one_picture(first: Portrait, second: Portrait, size: Size | None = None) -> Canvas:
    """As `pasted`, two crops of one picture; where they overlap, each has the side of its own face.

    Raises ValueError where the pictures differ, or the faces are the same.
    """
    if not torch.equal(_original(first), _original(second)):
        raise ValueError(
            "The two portraits are from different pictures. Prepare both from one picture with two faces, or "
            "show them side by side."
        )
    pastes = _paste(first, size), _paste(second, size)
    shown = pastes[0].transform.original_size
    share = _share(_centre(first, pastes[0]), _centre(second, pastes[1]), shown)

    def compose(frames: Sequence[Tensor]) -> Tensor:
        one, other = (paste(frame) for paste, frame in zip(pastes, frames, strict=True))
        return other.lerp(one, share)

    return Canvas(shown, 2, compose, functools.partial(in_one_picture, first, second))


def _paste(portrait: Portrait, size: Size | None) -> PasteBack:
    original, crop = _original(portrait), portrait.crop
    if size is not None:
        original = scaled(original, size)
        down, across = (new / old for new, old in zip(size, crop.original_size, strict=True))
        left, top, right, bottom = crop.box
        box = round(left * across), round(top * down), round(right * across), round(bottom * down)
        crop = CropTransform(box, crop.size, size)
    return PasteBack(original, crop)


def _original(portrait: Portrait) -> Tensor:
    if portrait.original is None:
        raise ValueError(
            "The portrait has no picture to be pasted back into. Prepare it with its original, or show the "
            "crop."
        )
    return portrait.original


def _centre(portrait: Portrait, paste: PasteBack) -> Tensor:
    """Middle of the face in pixels of the picture, (2,): y, x."""
    left, top, right, bottom = paste.transform.box
    y, x = middle(portrait.region)
    return torch.tensor([top + (bottom - top) * y, left + (right - left) * x])


def _share(first: Tensor, second: Tensor, size: Size) -> Tensor:
    """(H, W) share of the first face: 1 on its side of the line between the two, 0 on the other's."""
    between = second - first
    distance = between.norm()
    if distance < 1:
        raise ValueError("Both singers have the same face. Choose another `face_index` for one of them.")
    y, x = torch.meshgrid(*(torch.arange(side) + 0.5 for side in size), indexing="ij")
    middle, along = (first + second) / 2, between / distance
    beyond = (y - middle[0]) * along[0] + (x - middle[1]) * along[1]
    return (0.5 - beyond / (BAND * distance)).clamp(0, 1)
