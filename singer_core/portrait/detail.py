"""Detail that a frame lost to the network's resolution, fetched from the picture wherever it has moved to.

The frame is compared with the crop that it began from: where a part of it is found again, it is shown as the
picture shows that part; an open mouth stays as the network drew it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

LEVELS = (4, 2, 1)  # a frame's sides are divided by these, one after the other
STEPS = 2  # at each of them
WINDOW = 7  # pixels that are thought to move together
DAMPING = 3e-5  # squared change of grey per pixel below which nothing is known of movement
# difference of a frame from what was found again up to which detail is whole, and from which it is gone
KEEP, DROP = 8 / 255, 20 / 255


def detailed(frame: Tensor, crop: Tensor, cut: Tensor) -> Tensor:
    """The frame (3, H, W) at the size of `cut`, (3, h, w).

    crop  (3, H, W) the picture as the network saw it
    cut   (3, h, w) the same at its own resolution
    """
    size = cut.shape[-2:]
    large = scaled(frame, size)
    ways = ways_between(*(picture.mean(0)[None, None] for picture in (crop, frame)))
    found = fetched(crop[None], ways)
    strange = F.max_pool2d(_smooth(frame[None] - found, 5).abs().amax(1, keepdim=True), 5, 1, 2)
    kept = scaled(((DROP - strange) / (DROP - KEEP)).clamp(0, 1)[0], size)
    factors = ways.new_tensor([size[1] / frame.shape[-1], size[0] / frame.shape[-2]]).view(1, 2, 1, 1)
    fine = fetched(cut[None], F.interpolate(ways, size, mode="bilinear") * factors)
    return large + kept * (fine[0] - scaled(found[0], size))


def ways_between(still: Tensor, frame: Tensor) -> Tensor:
    """From where in `still` (1, 1, H, W) each pixel of `frame` comes: x and y in pixels, (1, 2, H, W).

    Lucas and Kanade 1981, "An iterative image registration technique", from small pictures to large ones.
    """
    height, width = frame.shape[-2:]
    ways = frame.new_zeros(1, 2, height // LEVELS[0], width // LEVELS[0])
    for level in LEVELS:
        size = height // level, width // level
        small, seen = (F.interpolate(picture, size, mode="area") for picture in (still, frame))
        ways = F.interpolate(ways, size, mode="bilinear") * (size[1] / ways.shape[-1])
        for _ in range(STEPS):
            found = fetched(small, ways)
            ways = _smooth(ways + _step(found, seen - found), 5)
    return ways


def _step(found: Tensor, error: Tensor) -> Tensor:
    """How much further to fetch, (1, 2, H, W), for the error to vanish; a pixel at most."""
    padded = F.pad(found, (1, 1, 1, 1), mode="replicate")
    across = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
    down = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2
    products = (across * across, down * down, across * down, across * error, down * error)
    sums = _smooth(torch.cat(products, dim=1), WINDOW)
    xx, yy, xy, x, y = sums.unbind(1)
    xx, yy = xx + DAMPING, yy + DAMPING
    step = torch.stack([yy * x - xy * y, xx * y - xy * x], dim=1) / (xx * yy - xy * xy)[:, None]
    return step.clamp(-1, 1)


def fetched(picture: Tensor, ways: Tensor) -> Tensor:
    """The picture (1, c, H, W), each pixel fetched from as many pixels away as `ways` (1, 2, H, W) say."""
    height, width = ways.shape[-2:]
    here = F.affine_grid(
        torch.eye(2, 3, device=ways.device)[None], [1, 1, height, width], align_corners=False
    )
    grid = here + ways.movedim(1, -1) * ways.new_tensor([2 / width, 2 / height])
    return F.grid_sample(picture, grid, "bicubic", padding_mode="border", align_corners=False)


def scaled(pixels: Tensor, size: tuple[int, ...]) -> Tensor:
    """(c, H, W) -> (c, *size), linear with antialiasing."""
    return F.interpolate(pixels[None], size=size, mode="bilinear", align_corners=False, antialias=True)[0]


def _smooth(values: Tensor, width: int) -> Tensor:
    """(n, c, H, W) box mean."""
    half = width // 2
    rows = F.avg_pool2d(values, (width, 1), stride=1, padding=(half, 0), count_include_pad=False)
    return F.avg_pool2d(rows, (1, width), stride=1, padding=(0, half), count_include_pad=False)
