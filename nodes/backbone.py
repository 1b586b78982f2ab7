"""The adapter on ComfyUI's own SD1.5 UNet, and the reference UNet (paper section 3.5).

Nothing of the UNet is written again. Four things of core carry the adapter, and a test pins them:
    SpatialTransformer.forward   a subclass runs the adapter's site after itself
    CrossAttention.forward       a subclass puts the portrait's keys and values behind a frame's own
    UNetModel._forward           a subclass hands the clip's conditions to both, in `transformer_options`
    unet_to_diffusers            names of the checkpoint -> names of core
Face-locator features and the SFM come in through core's patches `input_block_patch` and
`forward_timestep_embed_patch`. Without conditions the network is core's SD1.5 UNet, bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TypeVar

import comfy.ops
import comfy.utils
import torch
from comfy.ldm.modules.attention import CrossAttention, SpatialTransformer, optimized_attention
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from torch import Tensor, nn

from singer_core import constants
from singer_core.network.adapter import SingerAdapter, SiteModules
from singer_core.network.architecture import Architecture
from singer_core.network.conditions import Branch, ClipConditions, KeysValues, ReferenceFeatures
from singer_core.network.layers import Toolkit, attend_with_reference
from singer_core.render.run import RunConditions

from .sockets import Options

# Keys in `transformer_options` for the time of one forward.
CLIP = "singer_clip"
BANK = "singer_bank"

M = TypeVar("M", bound=nn.Module)


class WidthFactor(float):
    """Width of a level over that of the first, whose product with the latter is a number of channels.

    Core multiplies the two and hands the product to its layers; the built-in model's factors are not whole.
    """

    def __mul__(self, width: float) -> int:
        return round(float(self) * width)

    __rmul__ = __mul__


def unet_config(arch: Architecture) -> dict[str, object]:
    """Arguments for core's `UNetModel`. Lists, because core's LoRA map needs `num_res_blocks` as one."""
    with_transformers = arch.levels - 1
    return {
        "image_size": 32,
        "in_channels": arch.latent_channels,
        "out_channels": arch.output_channels,
        "model_channels": arch.channels[0],
        "num_res_blocks": [arch.layers] * arch.levels,
        "channel_mult": [WidthFactor(width / arch.channels[0]) for width in arch.channels],
        "num_heads": arch.heads,
        "num_head_channels": -1,
        "use_spatial_transformer": True,
        "context_dim": arch.image_width,
        "use_linear_in_transformer": False,
        "adm_in_channels": None,
        "use_temporal_attention": False,
        "transformer_depth": [1] * (with_transformers * arch.layers) + [0] * arch.layers,
        "transformer_depth_middle": 1,
        "transformer_depth_output": [1] * (with_transformers * (arch.layers + 1)) + [0] * (arch.layers + 1),
        "legacy": False,
    }


class SingerUNet(UNetModel):
    """Core's UNet with the adapter.

    Conditions come as keywords: `singer_run`, and `singer_branches`, the branch of each chunk of the batch.
    """

    def __init__(
        self,
        architecture: Architecture,
        *,
        operations: type,
        dtype: torch.dtype,
        device: torch.device | None,
        **core: object,
    ) -> None:
        super().__init__(**core, operations=operations, dtype=dtype, device=device)
        kit = Toolkit(operations, optimized_attention, dtype, device)
        self.adapter = SingerAdapter(architecture, kit)
        for name, transformer in _transformers(self, core):
            site = self.adapter.site(name)
            assert isinstance(site, SiteModules)
            _become(SiteTransformer, transformer).site = (site,)  # a tuple: it is not registered twice
            _attend_to_reference(transformer, name)
        if self.adapter.self_adaptive_filter is not None:
            self.middle_block.append(SpectralFilter(self.adapter.self_adaptive_filter))

    def _forward(
        self,
        x: Tensor,
        timesteps: Tensor | None = None,
        context: Tensor | None = None,
        y: Tensor | None = None,
        control: dict[str, list[Tensor]] | None = None,
        transformer_options: Options | None = None,
        singer_run: RunConditions | None = None,
        singer_branches: Sequence[Branch] = (),
        **kwargs: object,
    ) -> Tensor:
        options = {} if transformer_options is None else transformer_options
        if singer_run is None:
            return super()._forward(x, timesteps, context, y, control, options, **kwargs)
        clip = _in_window(singer_run, options).clip_for(tuple(singer_branches), x)
        v = super()._forward(x, timesteps, context, y, control, _with_clip(options, clip), **kwargs)
        warp = self.adapter.portrait_warp
        return v if warp is None or timesteps is None else clip.velocity(warp, v, x, timesteps)


class ReferenceUNet(UNetModel):
    """Core's UNet that notes what its self-attentions attend to; it has no output layer."""

    def __init__(self, **core: object) -> None:
        super().__init__(**core)
        self.out = nn.Identity()
        for name, transformer in _transformers(self, core):
            _attend_to_reference(transformer, name)


def reference_features(
    unet: ReferenceUNet, latents: Tensor, tokens: Tensor, rounded_to: torch.dtype | None = None
) -> ReferenceFeatures:
    """Run the reference UNet over portrait and carried frames; see `SingerNetwork.reference_features`.

    latents  (1 + carried, 4, h, w)
    tokens   (p, n, d) image tokens, dealt out to the rows in turn
    """
    passes, images = len(tokens), len(latents)
    bank: dict[str, Tensor] = {}
    unet(
        latents.repeat(passes, 1, 1, 1),
        latents.new_full((passes * images,), constants.REFERENCE_TIMESTEP),
        context=tokens.repeat(images, 1, 1),
        transformer_options={BANK: bank},
    )
    if rounded_to is not None:
        bank = {site: x.to(rounded_to).to(x.dtype) for site, x in bank.items()}
    return ReferenceFeatures({site: x.unflatten(0, (passes, 1, images)) for site, x in bank.items()})


class SiteTransformer(SpatialTransformer):
    """Core's spatial transformer, then the adapter's site."""

    site: tuple[SiteModules]

    def forward(
        self, x: Tensor, context: Tensor | None = None, transformer_options: Options | None = None
    ) -> Tensor:
        options = {} if transformer_options is None else transformer_options
        x = super().forward(x, context, options)
        clip = options.get(CLIP)
        if clip is None:
            return x
        (site,) = self.site
        _check_size(x, clip, site.level)
        return site(x, clip, options)


class ReferenceAttention(CrossAttention):
    """Core's self-attention, plus the portrait's keys and values in the branches that see it."""

    site_name: str

    def forward(
        self,
        x: Tensor,
        context: Tensor | None = None,
        value: Tensor | None = None,
        mask: Tensor | None = None,
        transformer_options: Options | None = None,
    ) -> Tensor:
        options = {} if transformer_options is None else transformer_options
        bank: dict[str, Tensor] | None = options.get(BANK)
        if bank is not None:
            bank[self.site_name] = x
        clip: ClipConditions | None = options.get(CLIP)
        references = [] if clip is None else clip.reference_keys(self.site_name, self._keys)
        if not any(references):
            return super().forward(x, context, value, mask, options)
        # Patches such as HyperTile cut the queries into more rows; keys and values follow them.
        context = x if context is None else context.reshape(len(x), -1, context.shape[-1])
        value = context if value is None else value.reshape(len(x), -1, value.shape[-1])
        rows = len(x) // len(references)
        attended = attend_with_reference(
            self.to_q(x),
            (self.to_k(context), self.to_v(value)),
            [None if keys is None else _tiled(keys, rows) for keys in references],
            self.heads,
            partial(optimized_attention, attn_precision=self.attn_precision),
            options,
        )
        return self.to_out(attended)

    def _keys(self, context: Tensor) -> KeysValues:
        return self.to_k(context), self.to_v(context)


class SpectralFilter(nn.Module):
    """The SFM's place in the middle block: before ControlNet's residual. By itself it changes nothing."""

    def __init__(self, spectral_filter: nn.Module) -> None:
        super().__init__()
        self.filter = (spectral_filter,)  # the adapter registers it

    def forward(self, x: Tensor) -> Tensor:
        return x


def core_names(config: Mapping[str, object]) -> dict[str, str]:
    """diffusers' name of each tensor -> core's. Lists a few that SD1.5 does not have, too."""
    return comfy.utils.unet_to_diffusers(config)


def _transformers(unet: UNetModel, config: Mapping[str, object]) -> list[tuple[str, SpatialTransformer]]:
    """(diffusers' path, module) of every spatial transformer."""
    end = ".proj_in.weight"
    names = {ours: theirs for theirs, ours in core_names(config).items() if theirs.endswith(end)}
    return [
        (names[f"{path}{end}"].removesuffix(end), module)
        for path, module in unet.named_modules()
        if isinstance(module, SpatialTransformer)
    ]


def _attend_to_reference(transformer: SpatialTransformer, name: str) -> None:
    attention = transformer.transformer_blocks[0].attn1
    _become(ReferenceAttention, attention).site_name = name


def _become(kind: type[M], module: nn.Module) -> M:
    """The module as one of a subclass.

    Core names the classes that it builds with. To build a second module in its place would repeat core's
    arguments of every version; no patch of core's runs behind a transformer, or adds keys to some rows alone.
    """
    module.__class__ = kind
    assert isinstance(module, kind)
    return module


def _in_window(run: RunConditions, options: Options) -> RunConditions:
    """The run, or the frames of it in a window of AnimateDiff-Evolved, which does not cut our conditions."""
    frames = options.get("ad_params", {}).get("sub_idxs")
    return run if frames is None else run.window(frames)


def _with_clip(options: Options, clip: ClipConditions) -> Options:
    """A copy of `transformer_options` in which the clip's conditions take effect."""
    given = options.get("patches", {})
    patches = {
        **given,
        "input_block_patch": [partial(_add_face, clip), *given.get("input_block_patch", [])],
        "forward_timestep_embed_patch": [
            (SpectralFilter, _run_filter),
            *given.get("forward_timestep_embed_patch", []),
        ],
    }
    return {**options, CLIP: clip, "patches": patches}


def _add_face(clip: ClipConditions, h: Tensor, options: Options) -> Tensor:
    """Core's `input_block_patch`: face-locator features behind the first convolution."""
    return h + clip.face_rows().to(h) if options["block"] == ("input", 0) else h


def _run_filter(
    layer: SpectralFilter, x: Tensor, _emb: Tensor, _context: object, options: Options, *_rest: object
) -> Tensor:
    """Core's `forward_timestep_embed_patch` for the SFM."""
    clip: ClipConditions = options[CLIP]
    (spectral_filter,) = layer.filter
    return spectral_filter(x, clip.sfm_strength, clip.sfm_gains)


def _tiled(keys: KeysValues, rows: int) -> KeysValues:
    """Keys and values for as many rows as the queries were cut into."""
    k, v = (x.repeat_interleave(rows // len(x), 0) for x in keys)
    return k, v


def _check_size(x: Tensor, clip: ClipConditions, level: int) -> None:
    expected, found = clip.masks[level].shape[-1], x.shape[-2] * x.shape[-1]
    if expected != found:
        raise ValueError(
            f"SINGER's masks have {expected} positions at level {level}, the features {found}. Its layers "
            "are tied to the portrait's size: remove patches that scale features inside the UNet, such as "
            "Deep Shrink (PatchModelAddDownscale)."
        )
