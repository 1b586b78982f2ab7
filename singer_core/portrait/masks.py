"""Face and lip boxes -> the face locator's region map and the attention masks of four scales.

The rules are the authors' (numerics section 15), whose image library is OpenCV: the resize, blur and
stretch below give its 8-bit results without it. The attention masks' grid is 64 x 64 whatever the picture, so
their softness is relative to the frame.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

GRID = 64  # side of the attention masks before they are scaled to the latent levels (section 15)
FACE_BLUR, LIP_BLUR = 51, 31  # Gaussian kernels on that grid
LATENT_SCALE = 8  # image pixels per latent pixel of the SD1.5 VAE
LEVELS = 4  # resolutions of the SD1.5 UNet

Mask = NDArray[np.uint8]
Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels; right and bottom are outside


@dataclass(frozen=True)
class MaskOptions:
    """How boxes become masks; the defaults are the authors' numbers.

    face_ratio, lip_ratio   box sides over the landmark bounding box
    lip_height              least height of the lip box, in widths of the mouth; the box grows downwards,
                            where an open mouth goes. 0 = off (authors); 0.9 suits singing
    authors_edge_cases      keep two accidents of the authors' code: a box larger than the picture wraps
                            around, and a mask that fills the picture counts as empty
    """

    face_ratio: float = 1.2
    lip_ratio: float = 2.0
    lip_height: float = 0.0
    authors_edge_cases: bool = False

    def __post_init__(self) -> None:
        for name in ("face_ratio", "lip_ratio"):
            if not 0.5 <= getattr(self, name) <= 10:
                raise ValueError(
                    f"`{name}` is {getattr(self, name)}; 0.5 to 10 is accepted (authors: 1.2 and 2.0)."
                )
        if not 0 <= self.lip_height <= 5:
            raise ValueError(f"`lip_height` is {self.lip_height}; 0 (off) to 5 is accepted.")


@dataclass(frozen=True, eq=False)
class MaskSet:
    """Every stage between boxes and tensors, 8 bits: `face`, `lip` (H, W) hard; the others (64, 64)."""

    face: Mask
    lip: Mask
    face_blur: Mask
    separate_full: Mask
    separate_face: Mask
    separate_lip: Mask


def bounding_box(points: NDArray[np.float32]) -> Box:
    """Bounds of (n, 2) pixel xy, rounded half to even."""
    left, top = np.round(points.min(axis=0)).astype(int)
    right, bottom = np.round(points.max(axis=0)).astype(int)
    return int(left), int(top), int(right), int(bottom)


def overlap(one: Sequence[float], other: Sequence[float]) -> float:
    """Intersection over union of two boxes."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    both = max(width, 0.0) * max(height, 0.0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return both / max(sum(areas) - both, 1e-9)


def middle(weights: torch.Tensor) -> tuple[float, float]:
    """Mean place (y, x) of the weights (H, W), in shares of their sides."""
    rows, columns = weights.double().sum(1), weights.double().sum(0)
    y, x = (
        float(sums @ torch.arange(0.5, len(sums), dtype=sums.dtype) / len(sums) / sums.sum().clamp_min(1e-9))
        for sums in (rows, columns)
    )
    return y, x


def expand_box(box: Box, ratio: float, size: tuple[int, int], min_height: float = 0.0) -> Box:
    """Scale a box about its middle, then shift it back into a picture of `size` (H, W): left / top first.

    min_height   pixels; a lower box grows at its bottom edge before it is shifted
    A box larger than the picture starts at a negative pixel.
    """
    left, right = _expand(box[0], box[2], ratio)
    top, bottom = _expand(box[1], box[3], ratio)
    left, right = _shift(left, right, size[1])
    top, bottom = _shift(top, max(bottom, top + min_height), size[0])
    return round(left), round(top), round(right), round(bottom)


def draw_box(box: Box, size: tuple[int, int], wrap: bool = False) -> Mask:
    """(H, W) uint8: 255 inside the half-open box. `wrap`: negative starts count from the far edge."""
    left, top, right, bottom = box
    if not wrap:
        left, top = max(left, 0), max(top, 0)
    mask = np.zeros(size, np.uint8)
    mask[top:bottom, left:right] = 255
    return mask


def boxes_of(
    face: NDArray[np.float32], lip: NDArray[np.float32], size: tuple[int, int], o: MaskOptions
) -> tuple[Box, Box]:
    """Face and lip box in a picture of `size` (H, W) from the (n, 2) pixel xy of silhouette and lips."""
    lips = bounding_box(lip)
    taller = o.lip_height * (lips[2] - lips[0])
    return expand_box(bounding_box(face), o.face_ratio, size), expand_box(lips, o.lip_ratio, size, taller)


def hard_masks(
    face: NDArray[np.float32], lip: NDArray[np.float32], size: tuple[int, int], options: MaskOptions
) -> tuple[Mask, Mask]:
    """(H, W) uint8 face and lip boxes, 255 inside, of a picture of `size` (H, W)."""
    face_box, lip_box = boxes_of(face, lip, size, options)
    wrap = options.authors_edge_cases
    return draw_box(face_box, size, wrap), draw_box(lip_box, size, wrap)


def blur(mask: Mask, kernel: int) -> Mask:
    """(H, W) -> (64, 64): linear resize without antialiasing, Gaussian, stretch to 0..255 (constant -> 0)."""
    return _stretch(gaussian(resize_linear(mask, (GRID, GRID)), kernel))


def gaussian(mask: Mask, kernel: int) -> Mask:
    """OpenCV's 8-bit GaussianBlur (sigma 0 = from the size, BORDER_REFLECT_101) as two matrix products."""
    rows, cols = (_blur_matrix(n, kernel) for n in mask.shape)
    product = rows @ mask.astype(np.int64) @ cols.T  # 8-bit fractions on both axes
    return ((product + (1 << 15)) >> 16).astype(np.uint8)


def resize_linear(mask: Mask, size: tuple[int, int]) -> Mask:
    """OpenCV's INTER_LINEAR on 8 bits: pixel centres aligned, two taps per axis even when shrinking.

    Fixed point as there: weights in 1/2048, four bits dropped between the axes, 16 and 2 after them.
    """
    (top, bottom, down), (left, right, along) = (_taps(*n) for n in zip(mask.shape, size, strict=True))
    levels = mask.astype(np.int64)
    rows = (levels[:, left] * (2048 - along) + levels[:, right] * along) >> 4
    upper, lower = rows[top] * (2048 - down)[:, None], rows[bottom] * down[:, None]
    return (((upper >> 16) + (lower >> 16) + 2) >> 2).astype(np.uint8)


def separate(face: Mask, lip: Mask, options: MaskOptions) -> MaskSet:
    """Hard masks (H, W) -> the three soft masks of the audio attention.

    full is truncated from float64 as the authors do: in places one level darker than 255 - face.
    """
    face_blur, lip_blur = blur(face, FACE_BLUR), blur(lip, LIP_BLUR)
    if not options.authors_edge_cases:
        face_blur, lip_blur = _keep_constant(face, face_blur), _keep_constant(lip, lip_blur)
    full = ((1 - face_blur / 255.0) * 255.0).astype(np.uint8)
    outside_lips = np.maximum(face_blur.astype(np.int16) - lip_blur, 0).astype(np.uint8)
    return MaskSet(face, lip, face_blur, full, outside_lips, lip_blur)


def region_map(face: Mask, size: tuple[int, int]) -> Mask:
    """The face locator's input: the hard face mask scaled to `size` (H, W), PIL bilinear. uint8."""
    return np.asarray(_scale(face, size))


def attention_masks(masks: MaskSet, size: tuple[int, int]) -> tuple[torch.Tensor, ...]:
    """Per latent level l a (3, h_l w_l) in [0, 1]: rows full, face, lip, for frames of `size` (H, W)."""
    latent = (size[0] // LATENT_SCALE, size[1] // LATENT_SCALE)
    layers = (masks.separate_full, masks.separate_face, masks.separate_lip)
    levels = []
    for level in range(LEVELS):
        shape = (latent[0] >> level, latent[1] >> level)
        rows = [torch.from_numpy(np.array(_scale(layer, shape))).float().flatten() / 255 for layer in layers]
        levels.append(torch.stack(rows))
    return tuple(levels)


def _expand(low: int, high: int, ratio: float) -> tuple[float, float]:
    middle, half = (high + low) // 2, ((high - low) * ratio) // 2
    return middle - half, middle + half


def _shift(low: float, high: float, limit: int) -> tuple[float, float]:
    if low < 0:
        low, high = 0, high - low
    if high > limit:
        low, high = low - (high - limit), limit
    return low, high


def _blur_matrix(n: int, kernel: int) -> NDArray[np.int64]:
    """(n, n) that blurs a column with mirrored borders (edge pixel not repeated)."""
    reach = kernel // 2
    matrix = np.zeros((n, n), np.int64)
    period = max(2 * (n - 1), 1)
    for offset, weight in zip(range(-reach, reach + 1), gaussian_kernel(kernel), strict=True):
        source = np.abs(np.arange(n) + offset) % period
        source = np.minimum(source, period - source)
        np.add.at(matrix, (np.arange(n), source), weight)
    return matrix


def gaussian_kernel(kernel: int) -> list[int]:
    """OpenCV's 8-bit Gaussian: sigma from the size, weights in 1/256, rounding errors carried on.

    The carry keeps the sum of the left half right; the middle tap takes what is missing to 256.
    """
    sigma = 0.3 * ((kernel - 1) * 0.5 - 1) + 0.8
    reach = kernel // 2
    taps = [math.exp(-((i - reach) ** 2) / (2 * sigma**2)) for i in range(kernel)]
    total = math.fsum(taps)
    half: list[int] = []
    carry = 0.0
    for tap in taps[:reach]:
        wanted = tap / total * 256 + carry
        half.append(round(wanted))
        carry = wanted - half[-1]
    return [*half, 256 - 2 * sum(half), *half[::-1]]


def _taps(source: int, target: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.int64]]:
    """Per target pixel the two source pixels and the weight of the second in 1/2048."""
    centre = (np.arange(target) + 0.5) * (source / target) - 0.5
    first = np.floor(centre).astype(np.intp)
    weight = np.rint((centre - first).astype(np.float32) * 2048).astype(np.int64)
    return first.clip(0, source - 1), (first + 1).clip(0, source - 1), weight


def _stretch(mask: Mask) -> Mask:
    """OpenCV's min-max normalisation to 0..255: float32 scale and shift, rounded once (fused)."""
    low, high = int(mask.min()), int(mask.max())
    if low == high:
        return np.zeros_like(mask)
    scale = 255.0 / (high - low)
    fused = mask.astype(np.float64) * np.float64(np.float32(scale)) + np.float64(np.float32(-low * scale))
    return np.rint(fused.astype(np.float32)).clip(0, 255).astype(np.uint8)


def _keep_constant(hard: Mask, soft: Mask) -> Mask:
    return np.full_like(soft, 255) if hard.min() > 127 else soft


def _scale(mask: Mask, size: tuple[int, int]) -> Image.Image:
    return Image.fromarray(mask).resize((size[1], size[0]), Image.Resampling.BILINEAR)
