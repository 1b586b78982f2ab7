"""All that SINGER and Hallo add to a Stable Diffusion 1.5 UNet, as one module that any backbone can call.

A backbone calls, in this order:
    conv_in                            + `ClipConditions.face_rows()`
    self-attention of each site        keys and values from `ClipConditions.reference_keys`
    after each spatial transformer     `adapter.site(name)`
    after the mid block                `adapter.self_adaptive_filter`
Once per clip, before that: `image_projection`, `face_locator`, `audio_projection`, `multi_scale_spectral`.
"""

from __future__ import annotations

from torch import Tensor, nn

from .. import constants
from .architecture import Architecture, Site
from .conditions import ClipConditions
from .layers import AudioTransformer, MotionModule, Options, Toolkit
from .projections import AudioProjection, FaceLocator, ImageProjection
from .spectral import MultiScaleSpectralModule, SelfAdaptiveFilterModule


class SiteModules(nn.Module):
    """What runs at a site: audio transformer, then motion module with the carried frames in front."""

    def __init__(self, site: Site, audio_width: int, heads: int, kit: Toolkit) -> None:
        super().__init__()
        self.name, self.level = site.name, site.level
        self.audio = AudioTransformer(site.channels, site.inner, audio_width, heads, kit)
        self.motion = MotionModule(site.channels, constants.MOTION_HEADS, kit)

    def forward(self, x: Tensor, clip: ClipConditions, options: Options = None) -> Tensor:
        """x ((branch b f), c, h, w) -> the same shape."""
        x = self.audio(x, clip, self.level, options)
        return self.motion(x, clip.frames, clip.carried(self.name, x), options)


class SingerAdapter(nn.Module):
    """SINGER's additions. For Hallo, which lacks them, the two spectral modules are None."""

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

    def site(self, name: str) -> nn.Module:
        """The modules that run after the spatial transformer `name` (diffusers' path)."""
        return self.sites[name.replace(".", "_")]
