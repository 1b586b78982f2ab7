"""Building blocks that Hallo and SINGER add to a Stable Diffusion 1.5 UNet (paper section 3.5).

Layers come from `Toolkit`: outside ComfyUI `torch.nn` and PyTorch's attention, inside it core's operations
and attention, so casting, offloading and quantisation apply. Where they sit in the UNet is `adapter.py`'s
business. Parameter names are those of the published checkpoint.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import constants
from .conditions import AudioTokens, ClipConditions, KeysValues
from .linear import gated_linear

Options = Mapping[str, Any] | None  # ComfyUI's `transformer_options`; None outside it

# Tokens that a CPU works on at once: the four times wider middle of a feed-forward stays in its cache.
# An accelerator takes so many times as many: enough work for it, and a fraction of the memory.
PIECE_TOKENS, ACCELERATOR_PIECES = 1024, 16
# A CPU's fused attention multiplies matrices of 16 columns faster than narrower ones; worth the copies from
# as many keys on.
CPU_HEAD_WIDTH, CPU_PADDED_KEYS = 16, 64


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int, transformer_options: Options = None) -> Tensor:
    """Multi-head attention, with ComfyUI's signature; q (b, n, c), k and v (b, n', c) -> (b, n, c)."""
    b, n, c = q.shape
    width = c // heads
    q, k, v = (x.reshape(b, -1, heads, width).transpose(1, 2) for x in (q, k, v))
    if q.is_cpu and width < CPU_HEAD_WIDTH and k.shape[2] >= CPU_PADDED_KEYS and not torch.is_grad_enabled():
        q, k, v = (F.pad(x, (0, CPU_HEAD_WIDTH - width)) for x in (q, k, v))
    attended = F.scaled_dot_product_attention(q, k, v, scale=width**-0.5)[..., :width]
    return attended.transpose(1, 2).reshape(b, n, c)


def attend_with_reference(
    q: Tensor,
    own: KeysValues,
    references: Sequence[KeysValues | None],
    heads: int,
    attention: Callable[..., Tensor] = attend,
    options: Options = None,
) -> Tensor:
    """Self-attention of a batch of branches, of which some also see the portrait (numerics section 8).

    q, own      ((branch b f), n, c), own keys and values
    references  per branch: keys and values of the portrait ((b f), n, c), or None
    """
    branches = len(references)
    parts = zip(q.chunk(branches), own[0].chunk(branches), own[1].chunk(branches), references, strict=True)
    attended = []
    for part, k, v, reference in parts:
        if reference is not None:
            k, v = torch.cat([k, reference[0]], dim=1), torch.cat([v, reference[1]], dim=1)
        attended.append(attention(part, k, v, heads, transformer_options=options))
    return torch.cat(attended)


@dataclass(frozen=True)
class Toolkit:
    """What a backbone lends to the adapter: layer classes, attention, dtype and device of new weights."""

    operations: Any = nn
    attention: Callable[..., Tensor] = attend
    dtype: torch.dtype | None = None
    device: torch.device | str | None = None

    @property
    def placement(self) -> dict[str, Any]:
        return {"dtype": self.dtype, "device": self.device}

    def linear(self, inputs: int, outputs: int, bias: bool = True) -> nn.Module:
        return self.operations.Linear(inputs, outputs, bias=bias, **self.placement)

    def conv(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Module:
        pad = kernel // 2
        return self.operations.Conv2d(inputs, outputs, kernel, stride=stride, padding=pad, **self.placement)

    def layer_norm(self, width: int) -> nn.Module:
        return self.operations.LayerNorm(width, **self.placement)

    def group_norm(self, channels: int) -> nn.Module:
        eps = constants.TRANSFORMER_NORM_EPS
        return self.operations.GroupNorm(constants.NORM_GROUPS, channels, eps=eps, **self.placement)

    def gate(self, inputs: int, hidden: int, outputs: int) -> nn.ModuleList:
        """Two bias-free linears, keys `0` and `2`; `run_gate` puts the ReLU and the sigmoid around them."""
        first, last = self.linear(inputs, hidden, bias=False), self.linear(hidden, outputs, bias=False)
        return nn.ModuleList([first, nn.Identity(), last])


class Attention(nn.Module):
    """Attention of `width`-wide queries over `context_width`-wide tokens; q, k, v without bias."""

    def __init__(self, width: int, context_width: int, heads: int, kit: Toolkit) -> None:
        super().__init__()
        self.heads, self.attention = heads, kit.attention
        self.to_q = kit.linear(width, width, bias=False)
        self.to_k = kit.linear(context_width, width, bias=False)
        self.to_v = kit.linear(context_width, width, bias=False)
        self.to_out = nn.ModuleList([kit.linear(width, width)])

    def forward(self, x: Tensor, context: Tensor | None = None, options: Options = None) -> Tensor:
        """x (b, n, c); context (b, n', c'), default x -> (b, n, c)."""
        return self.from_keys(x, *self.keys(x if context is None else context), options)

    def keys(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of the context, each (b, n', c)."""
        return self.to_k(context), self.to_v(context)

    def from_keys(self, x: Tensor, k: Tensor, v: Tensor, options: Options = None) -> Tensor:
        return self.to_out[0](self.attention(self.to_q(x), k, v, self.heads, transformer_options=options))

    def of_zeros(self, x: Tensor) -> Tensor:
        """What attention over all-zero tokens gives, whatever the query: the output bias, (1, 1, c)."""
        return self.to_out[0](x.new_zeros(1, 1, x.shape[-1]))


class GEGLU(nn.Module):
    def __init__(self, width: int, hidden: int, kit: Toolkit) -> None:
        super().__init__()
        self.proj = kit.linear(width, hidden * 2)

    def forward(self, x: Tensor) -> Tensor:
        return gated_linear(self.proj, x)


class FeedForward(nn.Module):
    def __init__(self, width: int, kit: Toolkit) -> None:
        super().__init__()
        self.net = nn.ModuleList([GEGLU(width, width * 4, kit), nn.Identity(), kit.linear(width * 4, width)])

    def forward(self, x: Tensor) -> Tensor:
        """x (..., c) -> the same shape."""
        rows = x.flatten(0, -2)
        return in_pieces(lambda piece: self.net[2](self.net[0](piece)), rows, PIECE_TOKENS).view(x.shape)


class AudioBlock(nn.Module):
    """Self-attention, attention of three regions of the picture to the frame's audio tokens, feed-forward.

    The regions (full picture, face, lips) are soft masks; each has its own attention and its own 1x1
    convolution, whose bias acts outside the mask too (numerics section 10).
    """

    REGIONS = ("full", "face", "lip")

    def __init__(self, width: int, audio_width: int, heads: int, kit: Toolkit) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (kit.layer_norm(width) for _ in range(3))
        self.attn1 = Attention(width, width, heads, kit)
        self.attn2_0, self.attn2_1, self.attn2_2 = (
            Attention(width, audio_width, heads, kit) for _ in self.REGIONS
        )
        self.zero_conv_full, self.zero_conv_face, self.zero_conv_lip = (
            kit.conv(width, width, 1) for _ in self.REGIONS
        )
        self.ff = FeedForward(width, kit)

    def forward(self, x: Tensor, clip: ClipConditions, level: int, options: Options = None) -> Tensor:
        """x ((branch b f), n, c) -> the same shape."""
        x = x + self.attn1(self.norm1(x), options=options)
        queries = self.norm2(x)
        updates = [
            self.hear(part, clip, level, clip.audio if hears else None, options)
            for part, hears in clip.runs(queries, "audio")
        ]
        x = x + torch.cat(updates)
        return x + self.ff(self.norm3(x))

    def hear(
        self, q: Tensor, clip: ClipConditions, level: int, audio: AudioTokens | None, options: Options
    ) -> Tensor:
        """Sum of the three regions' updates; without audio the queries do not matter and nothing attends."""
        attentions = (self.attn2_0, self.attn2_1, self.attn2_2)
        convolutions = (self.zero_conv_full, self.zero_conv_face, self.zero_conv_lip)
        masks, weights = clip.masks[level].to(q), clip.weights.to(q)
        total = q.new_zeros(1, 1, 1)
        for region, (attention, convolution) in enumerate(zip(attentions, convolutions, strict=True)):
            if audio is None:
                heard = attention.of_zeros(q)
            else:
                k, v = (_tile(x, len(q)) for x in audio.keys(attention, attention.keys))
                heard = attention.from_keys(q, k, v, options)
            heard = _match(masks[region, ..., None], heard) * heard
            update = convolution(heard.transpose(1, 2)[..., None])[..., 0].transpose(1, 2)
            total = total + _match(weights[:, region, None, None], update) * update
        return _tile(total, len(q))


class AudioTransformer(nn.Module):
    """The `audio module` of one site: a residual transformer over the tokens of each frame.

    Its inner width is that of the UNet block's *input*, not of its features (numerics section 1).
    """

    def __init__(self, channels: int, inner: int, audio_width: int, heads: int, kit: Toolkit) -> None:
        super().__init__()
        self.norm = kit.group_norm(channels)
        self.proj_in = kit.conv(channels, inner, 1)
        self.transformer_blocks = nn.ModuleList([AudioBlock(inner, audio_width, heads, kit)])
        self.proj_out = kit.conv(inner, channels, 1)

    def forward(self, x: Tensor, clip: ClipConditions, level: int, options: Options = None) -> Tensor:
        """x ((branch b f), c, h, w) -> the same shape."""
        size = x.shape[-2:]
        tokens = self.proj_in(self.norm(x)).flatten(2).transpose(1, 2)
        tokens = self.transformer_blocks[0](tokens, clip, level, options)
        return x + self.proj_out(tokens.transpose(1, 2).unflatten(2, size))


class PositionalEncoding(nn.Module):
    """Adds a table of sines and cosines, stored with the checkpoint, (1, 32, c)."""

    pe: Tensor

    def __init__(self, width: int, kit: Toolkit) -> None:
        super().__init__()
        self.register_buffer("pe", torch.empty(1, constants.MOTION_POSITIONS, width, **kit.placement))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.pe[:, : x.shape[1]].to(x)


def sinusoidal_positions(width: int) -> Tensor:
    """The table of `PositionalEncoding` in published checkpoints (numerics section 11), (1, 32, width)."""
    positions = torch.arange(constants.MOTION_POSITIONS, dtype=torch.float32)[:, None]
    rates = torch.exp(torch.arange(0, width, 2, dtype=torch.float32) * (-math.log(10_000.0) / width))
    angles = positions * rates
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)[None, :, :width]


class TemporalAttention(Attention):
    """Self-attention along the frames of each pixel, which positions are added to after the norm."""

    def __init__(self, width: int, heads: int, kit: Toolkit) -> None:
        super().__init__(width, width, heads, kit)
        self.pos_encoder = PositionalEncoding(width, kit)

    def forward(  # type: ignore[override]
        self, x: Tensor, carried: int = 0, options: Options = None
    ) -> Tensor:
        """x ((b h w), carried + f, c) -> ((b h w), f, c): carried frames are attended to and ask nothing."""
        x = self.pos_encoder(x)
        return super().forward(x[:, carried:], x, options)


class TemporalBlock(nn.Module):
    def __init__(self, width: int, heads: int, kit: Toolkit) -> None:
        super().__init__()
        self.attention_blocks = nn.ModuleList([TemporalAttention(width, heads, kit) for _ in range(2)])
        self.norms = nn.ModuleList([kit.layer_norm(width) for _ in range(2)])
        self.ff = FeedForward(width, kit)
        self.ff_norm = kit.layer_norm(width)

    def forward(self, x: Tensor, carried: int, options: Options = None) -> Tensor:
        """x ((b h w), carried + f, c) -> ((b h w), f, c): carried frames are attended to, then dropped."""
        pixels = max(1, 8 * PIECE_TOKENS // x.shape[1])
        return in_pieces(lambda piece: self._of_pixels(piece, carried, options), x, pixels)

    def _of_pixels(self, x: Tensor, carried: int, options: Options) -> Tensor:
        x = x + self.attention_blocks[0](self.norms[0](x), options=options)
        x = x[:, carried:] + self.attention_blocks[1](self.norms[1](x), carried, options)
        return x + self.ff(self.ff_norm(x))


class TemporalTransformer(nn.Module):
    def __init__(self, channels: int, heads: int, kit: Toolkit) -> None:
        super().__init__()
        self.norm = kit.group_norm(channels)
        self.proj_in = kit.linear(channels, channels)
        self.transformer_blocks = nn.ModuleList([TemporalBlock(channels, heads, kit)])
        self.proj_out = kit.linear(channels, channels)

    def forward(self, x: Tensor, frames: int, carried: int = 0, options: Options = None) -> Tensor:
        """x ((b carried+f), c, h, w), the carried frames in front of each clip -> ((b f), c, h, w)."""
        _, c, h, w = x.shape
        total = carried + frames
        tokens = self.norm(x).reshape(-1, total, c, h * w).permute(0, 3, 1, 2).reshape(-1, total, c)
        tokens = self.proj_out(self.transformer_blocks[0](self.proj_in(tokens), carried, options))
        update = tokens.reshape(-1, h * w, frames, c).permute(0, 2, 3, 1).reshape(-1, frames, c, h, w)
        return (x.reshape(-1, total, c, h, w)[:, carried:] + update).flatten(0, 1)


class MotionModule(nn.Module):
    """AnimateDiff's motion module with carried frames in front of the clip (numerics section 11)."""

    def __init__(self, channels: int, heads: int, kit: Toolkit) -> None:
        super().__init__()
        self.temporal_transformer = TemporalTransformer(channels, heads, kit)

    def forward(self, x: Tensor, frames: int, carried: Tensor, options: Options = None) -> Tensor:
        """x ((b f), c, h, w); carried (b, frames carried, c, h, w) -> ((b f), c, h, w)."""
        whole = torch.cat([carried.to(x), x.reshape(-1, frames, *x.shape[1:])], dim=1)
        return self.temporal_transformer(whole.flatten(0, 1), frames, carried.shape[1], options)


def in_pieces(function: Callable[[Tensor], Tensor], x: Tensor, rows: int) -> Tensor:
    """function(x), which treats rows alike, in pieces: less memory for what lies between, the same numbers.

    rows   at a time on a CPU; elsewhere `ACCELERATOR_PIECES` times as many
    """
    rows = rows if x.is_cpu else ACCELERATOR_PIECES * rows
    if len(x) <= rows:
        return function(x)
    return torch.cat([function(piece) for piece in x.split(rows)])


def _tile(x: Tensor, rows: int) -> Tensor:
    """x repeated along the rows until there are `rows`; free where there is one, or enough."""
    if len(x) == 1:
        return x.expand(rows, *x.shape[1:])
    return x if len(x) == rows else x.repeat(rows // len(x), *[1] * (x.ndim - 1))


def _match(x: Tensor, other: Tensor) -> Tensor:
    """x tiled to the rows of `other`, unless one row of either broadcasts."""
    return x if len(x) == 1 or len(other) == 1 else _tile(x, len(other))
