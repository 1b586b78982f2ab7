"""The dimensions of a SINGER network, where in the UNet its parts sit, and what tensors the UNet has.

The UNet's layout is that of Rombach et al. 2022 ("High-resolution image synthesis with latent diffusion
models"): per level `layers` residual blocks, each followed by a spatial transformer except on the lowest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from .. import constants
from .warp import MOTION

LocatorInput = Literal["face", "portrait"]
CarriedInput = Literal["always", "with_portrait"]
Predicts = Literal["frame", "motion"]
Shape = tuple[int, ...]
Named = tuple[str, Shape]

TIME_FACTOR = 4  # the time embedding is so many times as wide as the first level
FEED_FORWARD = 4  # and the transformers' feed-forward layer as its features, twice for the gate


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

    audio_past  frames before a frame that its audio projection hears; bodies answer late
    latent_channels  of the VAE: SD1.5's 4, or more
    locator_input  what the face locator is shown: the box of the "face", or the "portrait" itself
    carried_input  branches that see the carried frames: all, as the authors', or those that see the portrait
    predicts       v of the "frame", or its "motion": how the portrait moves and is painted over (warp.py);
                   a small network need not learn to copy or pass on noise
    msm_kernel     shape (D, c, E, H, W) of the MSM's buffer; None for Hallo, which has no MSM
    sfm_width      width the SFM's gate mixes over; None for Hallo
    """

    channels: tuple[int, ...] = (320, 640, 1280, 1280)
    layers: int = 2
    heads: int = constants.DEFAULT_HEADS
    image_width: int = 768
    image_tokens: int = constants.IMAGE_TOKENS
    identity_width: int = constants.IDENTITY_WIDTH
    audio_inputs: int = constants.AUDIO_WINDOW * 12 * 768
    audio_past: int = constants.AUDIO_REACH
    audio_hidden: int = 512
    audio_tokens: int = constants.AUDIO_TOKENS
    audio_width: int = 768
    latent_channels: int = constants.LATENT_CHANNELS
    face_locator: tuple[int, ...] = constants.FACE_LOCATOR_WIDTHS
    locator_input: LocatorInput = "face"
    carried_input: CarriedInput = "always"
    predicts: Predicts = "frame"
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
    def output_channels(self) -> int:
        return self.latent_channels + (MOTION if self.predicts == "motion" else 0)

    @property
    def frame_features(self) -> int:
        """l * d: how many audio features of one video frame the audio projection reads."""
        return self.audio_inputs // (self.audio_past + 1 + constants.AUDIO_REACH)

    @property
    def reads_wav2vec2(self) -> bool:
        """As all published networks do; small ones read log-mel energies."""
        return self.frame_features == Architecture().frame_features

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
            "in_channels": self.latent_channels,
            "out_channels": self.output_channels,
            "block_out_channels": self.channels,
            "layers_per_block": self.layers,
            "attention_head_dim": self.heads,
            "cross_attention_dim": self.image_width,
            "norm_eps": constants.RESNET_NORM_EPS,
            "norm_num_groups": constants.NORM_GROUPS,
            "down_block_types": ("CrossAttnDownBlock2D",) * last + ("DownBlock2D",),
            "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * last,
        }


def unet_shapes(arch: Architecture, *, with_output: bool = True) -> dict[str, Shape]:
    """diffusers' name -> shape of every tensor; without its output layers the UNet is the reference UNet."""
    return dict(_unet(arch, with_output))


def _unet(arch: Architecture, with_output: bool) -> Iterator[Named]:
    first, time = arch.channels[0], TIME_FACTOR * arch.channels[0]
    yield from _conv("conv_in", arch.latent_channels, first, 3)
    yield from _linear("time_embedding.linear_1", first, time)
    yield from _linear("time_embedding.linear_2", time, time)
    yield from _down(arch, time)
    lowest = arch.channels[-1]
    yield from _residual("mid_block.resnets.0", lowest, lowest, time)
    yield from _transformer("mid_block.attentions.0", lowest, arch.image_width)
    yield from _residual("mid_block.resnets.1", lowest, lowest, time)
    yield from _up(arch, time)
    if with_output:
        yield from _norm("conv_norm_out", first)
        yield from _conv("conv_out", first, arch.output_channels, 3)


def _down(arch: Architecture, time: int) -> Iterator[Named]:
    given = arch.channels[0]
    for level, width in enumerate(arch.channels):
        block, lowest = f"down_blocks.{level}", level == arch.levels - 1
        for layer in range(arch.layers):
            yield from _residual(f"{block}.resnets.{layer}", given, width, time)
            if not lowest:
                yield from _transformer(f"{block}.attentions.{layer}", width, arch.image_width)
            given = width
        if not lowest:
            yield from _conv(f"{block}.downsamplers.0.conv", width, width, 3)


def _up(arch: Architecture, time: int) -> Iterator[Named]:
    skips = _skips(arch)
    given = arch.channels[-1]
    for index, width in enumerate(reversed(arch.channels)):
        block = f"up_blocks.{index}"
        for layer in range(arch.layers + 1):
            yield from _residual(f"{block}.resnets.{layer}", given + skips.pop(), width, time)
            if index:
                yield from _transformer(f"{block}.attentions.{layer}", width, arch.image_width)
            given = width
        if index < arch.levels - 1:
            yield from _conv(f"{block}.upsamplers.0.conv", width, width, 3)


def _skips(arch: Architecture) -> list[int]:
    """Widths of the features that the way down leaves for the way up, in their order."""
    skips = [arch.channels[0]]
    for level, width in enumerate(arch.channels):
        skips += [width] * (arch.layers + (level < arch.levels - 1))
    return skips


def _residual(name: str, given: int, width: int, time: int) -> Iterator[Named]:
    yield from _norm(f"{name}.norm1", given)
    yield from _conv(f"{name}.conv1", given, width, 3)
    yield from _linear(f"{name}.time_emb_proj", time, width)
    yield from _norm(f"{name}.norm2", width)
    yield from _conv(f"{name}.conv2", width, width, 3)
    if given != width:
        yield from _conv(f"{name}.conv_shortcut", given, width, 1)


def _transformer(name: str, width: int, context: int) -> Iterator[Named]:
    yield from _norm(f"{name}.norm", width)
    yield from _conv(f"{name}.proj_in", width, width, 1)
    block = f"{name}.transformer_blocks.0"
    for index in (1, 2, 3):
        yield from _norm(f"{block}.norm{index}", width)
    for attention, read in (("attn1", width), ("attn2", context)):
        yield f"{block}.{attention}.to_q.weight", (width, width)
        yield f"{block}.{attention}.to_k.weight", (width, read)
        yield f"{block}.{attention}.to_v.weight", (width, read)
        yield from _linear(f"{block}.{attention}.to_out.0", width, width)
    yield from _linear(f"{block}.ff.net.0.proj", width, 2 * FEED_FORWARD * width)
    yield from _linear(f"{block}.ff.net.2", FEED_FORWARD * width, width)
    yield from _conv(f"{name}.proj_out", width, width, 1)


def _conv(name: str, given: int, width: int, kernel: int) -> Iterator[Named]:
    yield f"{name}.weight", (width, given, kernel, kernel)
    yield f"{name}.bias", (width,)


def _linear(name: str, given: int, width: int) -> Iterator[Named]:
    yield f"{name}.weight", (width, given)
    yield f"{name}.bias", (width,)


def _norm(name: str, width: int) -> Iterator[Named]:
    yield f"{name}.weight", (width,)
    yield f"{name}.bias", (width,)
