"""Frames as the portrait, moved and painted over: the output of a network that predicts "motion".

The portrait's picture is moved by a field of ways and covered with paint where something comes to light that
it does not show, such as the inside of a mouth (cf. Siarohin et al. 2019, "First order motion model for image
animation", and its occlusion map). A small network learns where things go in hundreds of steps, faces keep
what it could not draw itself, and what is not covered stays free of its faults (docs/builtin.md).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import constants
from .patches import PatchAutoencoder

CELLS = 2  # of the field, along a latent pixel
FIELD = 2 * CELLS**2  # channels: x of all cells, then y
REACH = 3.0  # pixels from where an output of 1 fetches
STILL = 0.08  # of an output that moves nothing: what rests is the portrait itself, not nearly
COVER_CELLS = 4
COVER = COVER_CELLS**2
CERTAIN = 3.0  # cover of a cell that is surely painted over; it weighs as a way of `REACH` times as much
BARE, COVERED = 0.75, 1.5  # cover up to which nothing is painted, and from which nothing shows through
MOTION = FIELD + COVER


class PortraitWarp(nn.Module):
    """Needs pictures, hence linear latents: `patches` is the VAE that the network was trained with."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.patches = PatchAutoencoder(channels)

    def forward(self, portrait: Tensor, output: Tensor) -> Tensor:
        """Latents of the frames, (n, c, h, w).

        portrait  (k, c, h, w) latents; each is of n / k frames that follow one another
        output    (n, c + MOTION, h, w): latents of the paint, field of ways, cover, `CERTAIN` times the
                  chance that a cell is painted over; what is in doubt is not seen as a veil
        """
        paint, field, cover = output.split([portrait.shape[1], FIELD, COVER], dim=1)
        dtype = self.patches.encoder.weight.dtype
        still, painted = (self.patches.decode(latents.to(dtype)).float() for latents in (portrait, paint))
        ways = F.softshrink(field.float(), STILL)
        picture = moved(still.repeat_interleave(len(output) // len(portrait), 0), ways)
        opaque = ((spread(cover.float(), COVER_CELLS) - BARE) / (COVERED - BARE)).clamp(0, 1)
        picture = picture.lerp(painted, opaque)
        return self.patches.encode(picture.to(dtype)).to(output)


def spread(cells: Tensor, count: int) -> Tensor:
    """Values of `count` x `count` cells of a latent pixel, (n, count**2 c, h, w) -> (n, c, H, W)."""
    stride = constants.VAE_STRIDE // count
    return F.interpolate(F.pixel_shuffle(cells, count), scale_factor=stride, mode="bilinear")


def moved(picture: Tensor, field: Tensor) -> Tensor:
    """Pictures (n, 3, H, W), each pixel fetched from where the field (n, FIELD, h, w) says.

    Bicubic, which keeps a moved face sharp; bilinear on Apple's devices, where older torch has no
    other.
    """
    height, width = picture.shape[-2:]
    across, down = spread(field, CELLS).unbind(1)
    ways = torch.stack([across * (2 * REACH / width), down * (2 * REACH / height)], dim=-1)
    here = torch.eye(2, 3, device=picture.device).expand(len(picture), 2, 3)
    grid = F.affine_grid(here, list(picture.shape), align_corners=False) + ways
    mode = "bilinear" if picture.device.type == "mps" else "bicubic"
    return F.grid_sample(picture, grid, mode, padding_mode="border", align_corners=False)
