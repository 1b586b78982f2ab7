"""The dimensions of a SINGER network, and where in the UNet its parts sit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from .. import constants

LocatorInput = Literal["face", "portrait"]


@dataclass(frozen=True)
class Site:
    """One spatial transformer of the UNet, after which an audio and a motion module run.

    name      its path in diffusers' UNet, e.g. `down_blocks.0.attentions.1`
    channels  width of its features
    inner     width inside its audio module: the width of the UNet block's input (numerics section 1)
    level     how many times the latents have been halved there; selects the masks
    """

    name: str
    channels: int
    inner: int
    level: int

    @property
    def key(self) -> str:
        """The name without dots, which module dictionaries cannot hold."""
        return self.name.replace(".", "_")


@dataclass(frozen=True)
class Architecture:
    """Every width of a network; the defaults are the published ones.

    locator_input  what the face locator is shown: the box of the "face", or the "portrait" itself
    msm_kernel     shape (D, 4, E, H, W) of the MSM's buffer; None for Hallo, which has no MSM
    sfm_width      width the SFM's gate mixes over; None for Hallo
    """

    channels: tuple[int, ...] = (320, 640, 1280, 1280)
    layers: int = 2
    heads: int = constants.DEFAULT_HEADS
    image_width: int = 768
    image_tokens: int = constants.IMAGE_TOKENS
    identity_width: int = constants.IDENTITY_WIDTH
    audio_inputs: int = constants.AUDIO_WINDOW * 12 * 768
    audio_hidden: int = 512
    audio_tokens: int = constants.AUDIO_TOKENS
    audio_width: int = 768
    face_locator: tuple[int, ...] = constants.FACE_LOCATOR_WIDTHS
    locator_input: LocatorInput = "face"
    msm_kernel: tuple[int, ...] | None = (1, constants.LATENT_CHANNELS, constants.TRAINED_CLIP_FRAMES, 64, 64)
    sfm_width: int | None = constants.SFM_WIDTH

    @property
    def trained_size(self) -> tuple[int, int]:
        """(H, W) of the pictures it was trained on, in pixels: the MSM's kernel has their latent size."""
        if self.msm_kernel is None:
            return constants.DEFAULT_SIZE
        height, width = self.msm_kernel[-2:]
        return height * constants.VAE_STRIDE, width * constants.VAE_STRIDE

    @property
    def levels(self) -> int:
        return len(self.channels)

    @property
    def frame_features(self) -> int:
        """l * d: how many audio features of one video frame the audio projection reads."""
        return self.audio_inputs // constants.AUDIO_WINDOW

    def sites(self) -> Iterator[Site]:
        """The spatial transformers in forward order; the lowest level has none but the middle's."""
        last, widths = self.levels - 1, self.channels
        for level in range(last):
            for layer in range(self.layers):
                inner = widths[max(level - 1, 0)] if layer == 0 else widths[level]
                yield self._site(f"down_blocks.{level}.attentions.{layer}", widths[level], inner, level)
        yield self._site("mid_block.attentions.0", widths[last], widths[last], last)
        for block in range(1, self.levels):
            level = last - block
            for layer in range(self.layers + 1):
                inner = widths[max(level - 1, 0)]
                yield self._site(f"up_blocks.{block}.attentions.{layer}", widths[level], inner, level)

    def _site(self, name: str, channels: int, inner: int, level: int) -> Site:
        return Site(name, channels, inner // self.heads * self.heads, level)

    def unet_config(self) -> dict[str, object]:
        """Arguments for diffusers' `UNet2DConditionModel`."""
        last = self.levels - 1
        return {
            "block_out_channels": self.channels,
            "layers_per_block": self.layers,
            "attention_head_dim": self.heads,
            "cross_attention_dim": self.image_width,
            "norm_eps": constants.RESNET_NORM_EPS,
            "norm_num_groups": constants.NORM_GROUPS,
            "down_block_types": ("CrossAttnDownBlock2D",) * last + ("DownBlock2D",),
            "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * last,
        }
