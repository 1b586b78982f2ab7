"""A VAE for small networks: patches of 8 x 8 pixels along the axes on which faces differ most (PCA)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .. import constants

SIDE = constants.VAE_STRIDE
COLOURS = 3


class PatchAutoencoder(nn.Module):
    """Linear both ways: latents of c channels are the coordinates of each patch, as if of a tiny VAE.

    Four learnt channels lose the eyes of a face of 128 pixels; 48 of 192 coordinates keep it at 34 dB and
    more, and cost next to nothing (docs/builtin.md).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.encoder = nn.Conv2d(COLOURS, channels, SIDE, SIDE)
        self.decoder = nn.ConvTranspose2d(channels, COLOURS, SIDE, SIDE)

    def encode(self, pixels: Tensor) -> Tensor:
        """pixels (b, 3, H, W) in [-1, 1] -> latents (b, c, H / 8, W / 8)."""
        coordinates: Tensor = self.encoder(pixels)
        return coordinates

    def decode(self, latents: Tensor) -> Tensor:
        """latents (b, c, h, w) -> pixels (b, 3, 8 h, 8 w)."""
        pixels: Tensor = self.decoder(latents)
        return pixels

    @property
    def channels(self) -> int:
        return self.encoder.out_channels

    @torch.no_grad()
    def rescaled(self, factor: float) -> PatchAutoencoder:
        """Itself, its latents `factor` times as large from now on."""
        for parameter in self.encoder.parameters():
            parameter.mul_(factor)
        self.decoder.weight.div_(factor)
        return self

    @staticmethod
    def of(state: dict[str, Tensor]) -> PatchAutoencoder:
        """The one of these tensors, in their precision. RuntimeError where some are missing."""
        with torch.device("meta"):
            vae = PatchAutoencoder(len(state["encoder.bias"]))
        vae.load_state_dict(state, assign=True)
        return vae
