"""What turns song, portrait and face box into conditions, once per clip (numerics section 6)."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import constants
from .layers import Toolkit


def audio_windows(features: Tensor, start: int = 0, stop: int | None = None) -> Tensor:
    """Features of the frames i-2 .. i+2 for each frame i of [start, stop), ends repeated.

    features  (s, l, d), of the whole song
    returns   (stop - start, k, l, d)
    """
    stop = len(features) if stop is None else stop
    reach = constants.AUDIO_WINDOW // 2
    frames = torch.arange(start, stop)[:, None] + torch.arange(-reach, reach + 1)
    return features[frames.clamp(0, len(features) - 1)]


class AudioProjection(nn.Module):
    """A window of encoder features -> m audio tokens per frame."""

    def __init__(self, inputs: int, hidden: int, tokens: int, width: int, kit: Toolkit) -> None:
        super().__init__()
        self.proj1 = kit.linear(inputs, hidden)
        self.proj2 = kit.linear(hidden, hidden)
        self.proj3 = kit.linear(hidden, tokens * width)
        self.norm = kit.layer_norm(width)
        self.tokens = tokens

    def forward(self, windows: Tensor) -> Tensor:
        """windows (f, k, l, d) -> (f, m, width)."""
        x = F.relu(self.proj1(windows.flatten(1)))
        x = F.relu(self.proj2(x))
        return self.norm(self.proj3(x).unflatten(1, (self.tokens, -1)))


class ImageProjection(nn.Module):
    """An identity embedding -> the image tokens of the UNets' cross-attention."""

    def __init__(self, inputs: int, tokens: int, width: int, kit: Toolkit) -> None:
        super().__init__()
        self.proj = kit.linear(inputs, tokens * width)
        self.norm = kit.layer_norm(width)
        self.tokens = tokens

    def forward(self, identity: Tensor) -> Tensor:
        """identity (b, e), un-normalised -> (b, n, width). No identity is embedding 0, not token 0."""
        return self.norm(self.proj(identity).unflatten(1, (self.tokens, -1)))


class FaceLocator(nn.Module):
    """The map of the face box -> features added to the UNet's first convolution."""

    def __init__(self, channels: int, widths: tuple[int, ...], kit: Toolkit) -> None:
        super().__init__()
        self.conv_in = kit.conv(3, widths[0], 3)
        self.blocks = nn.ModuleList()
        for width, wider in itertools.pairwise(widths):
            self.blocks += [kit.conv(width, width, 3), kit.conv(width, wider, 3, stride=2)]
        self.conv_out = kit.conv(widths[-1], channels, 3)

    def forward(self, region: Tensor) -> Tensor:
        """region (b, 3, H, W), the box as three equal channels in [0, 1] -> (b, channels, H / 8, W / 8)."""
        x = F.silu(self.conv_in(region))
        for block in self.blocks:
            x = F.silu(block(x))
        return self.conv_out(x)
