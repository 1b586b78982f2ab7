"""Names and shapes of a Stable Diffusion 1.5 UNet's tensors, in diffusers' naming, without building one.

The layout is that of Rombach et al. 2022 ("High-resolution image synthesis with latent diffusion models"):
per level `layers` residual blocks, each followed by a spatial transformer except on the lowest level.
"""

from __future__ import annotations

from collections.abc import Iterator

from .. import constants
from .architecture import Architecture

Shape = tuple[int, ...]
Named = tuple[str, Shape]

TIME_FACTOR = 4  # the time embedding is so many times as wide as the first level
FEED_FORWARD = 4  # and the transformers' feed-forward layer as its features, twice for the gate


def unet_shapes(arch: Architecture, *, with_output: bool = True) -> dict[str, Shape]:
    """Name -> shape of every tensor; without its output layers the UNet is the reference UNet."""
    return dict(_unet(arch, with_output))


def _unet(arch: Architecture, with_output: bool) -> Iterator[Named]:
    first, time = arch.channels[0], TIME_FACTOR * arch.channels[0]
    yield from _conv("conv_in", constants.LATENT_CHANNELS, first, 3)
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
        yield from _conv("conv_out", first, constants.LATENT_CHANNELS, 3)


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
