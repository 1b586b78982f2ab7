"""All that SINGER and Hallo add to a Stable Diffusion 1.5 UNet, as one module that any backbone can call.

A backbone calls, in this order:
    conv_in                            + `ClipConditions.face_rows()`
    self-attention of each site        keys and values from `ClipConditions.reference_keys`
    after each spatial transformer     `adapter.site(name)`
    after the mid block                `adapter.self_adaptive_filter`
    on the output                      `ClipConditions.velocity`, where there is a `portrait_warp`
Once per clip, before that: `image_projection`, `face_locator`, `audio_projection`, `multi_scale_spectral`.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import constants
from .architecture import Architecture, Site
from .conditions import ClipConditions
from .layers import AudioTransformer, MotionModule, Options, Toolkit
from .spectral import MultiScaleSpectralModule, SelfAdaptiveFilterModule
from .warp import PortraitWarp


class SiteModules(nn.Module):
    """What runs at a site: audio transformer, then motion module with the carried frames in front."""

    def __init__(self, site: Site, audio_width: int, heads: int, kit: Toolkit) -> None:
        super().__init__()
        self.name, self.level = site.name, site.level
        self.audio = AudioTransformer(site.channels, site.inner, audio_width, heads, kit)
        self.motion = MotionModule(site.channels, constants.MOTION_HEADS, kit)

    def forward(self, x: Tensor, clip: ClipConditions, options: Options = None) -> Tensor:
        """x ((branch b f), c, h, w) -> the same shape."""
        if clip.pictures:
            return x
        x = self.audio(x, clip, self.level, options)
        return self.motion(x, clip.frames, clip.carried(self.name, x), options)


class SingerAdapter(nn.Module):
    """SINGER's additions. For Hallo, which lacks them, the two spectral modules are None.

    `portrait_warp` is of our small networks alone.
    """

    def __init__(self, arch: Architecture, kit: Toolkit | None = None) -> None:
        super().__init__()
        kit = kit or Toolkit()
        self.sites = nn.ModuleDict(
            {site.key: SiteModules(site, arch.audio_width, arch.heads, kit) for site in arch.sites()}
        )
        self.face_locator = FaceLocator(arch.channels[0], arch.face_locator, kit)
        self.image_projection = ImageProjection(arch.identity_width, arch.image_tokens, arch.image_width, kit)
        self.audio_projection = AudioProjection(
            arch.audio_inputs, arch.audio_hidden, arch.audio_tokens, arch.audio_width, kit
        )
        self.multi_scale_spectral = (
            MultiScaleSpectralModule(arch.msm_kernel, kit) if arch.msm_kernel else None
        )
        self.self_adaptive_filter = (
            SelfAdaptiveFilterModule(arch.channels[-1], arch.sfm_width, kit) if arch.sfm_width else None
        )
        self.portrait_warp = PortraitWarp(arch.latent_channels) if arch.predicts == "motion" else None

    def site(self, name: str) -> nn.Module:
        """The modules that run after the spatial transformer `name` (diffusers' path)."""
        return self.sites[name.replace(".", "_")]


# What turns song, portrait and face box into conditions, once per clip (numerics section 6).


def audio_windows(
    features: Tensor, start: int = 0, stop: int | None = None, past: int = constants.AUDIO_REACH
) -> Tensor:
    """Features of the frames i - `past` .. i + 2 for each frame i of [start, stop), ends repeated.

    features  (s, l, d), of the whole song
    returns   (stop - start, k, l, d)
    """
    stop = len(features) if stop is None else stop
    frames = torch.arange(start, stop)[:, None] + torch.arange(-past, constants.AUDIO_REACH + 1)
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
        return self.norm(self.projected(windows).unflatten(1, (self.tokens, -1)))

    def projected(self, windows: Tensor) -> Tensor:
        """The same before the norm, (f, m * width)."""
        x = F.relu(self.proj1(windows.flatten(1)))
        x = F.relu(self.proj2(x))
        return self.proj3(x)


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
