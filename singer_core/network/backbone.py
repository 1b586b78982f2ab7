"""The adapter on diffusers' stock UNet, and the reference pass (paper section 3.5; numerics sections 8, 9).

Nothing of the UNet is written again. Conditions travel as arguments: the clip through
`cross_attention_kwargs`, which diffusers hands to every attention processor and transformer; face-locator
features as extra channels of the sample.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from .. import constants
from .adapter import SingerAdapter
from .architecture import Architecture
from .conditions import ClipConditions, KeysValues, ReferenceFeatures
from .layers import PIECE_TOKENS, Toolkit, attend_with_reference, in_pieces
from .linear import gated_linear, quickened

Bank = dict[str, Tensor]


class SingerNetwork(nn.Module):
    """Denoising UNet, reference UNet and adapter. Weights are not initialised: load a checkpoint."""

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        self.architecture = arch
        self.unet = UNet2DConditionModel(**arch.unet_config())
        self.reference_unet = UNet2DConditionModel(**arch.unet_config())
        self.reference_unet.conv_norm_out, self.reference_unet.conv_out = None, nn.Identity()
        self.adapter = SingerAdapter(arch, Toolkit())
        self._join()
        quickened(self)

    def _join(self) -> None:
        conv_in = self.unet.conv_in
        self.unet.conv_in = FaceConditionedConv2d(
            conv_in.in_channels, conv_in.out_channels, conv_in.kernel_size, padding=conv_in.padding
        )
        for site in self.architecture.sites():
            _run_after(self.unet.get_submodule(site.name), self.adapter.site(site.name))
            for unet in (self.unet, self.reference_unet):
                block = unet.get_submodule(f"{site.name}.transformer_blocks.0")
                block.attn1.set_processor(SpatialAttentionProcessor(site.name))
                block.attn2.set_processor(SpatialAttentionProcessor(None))
                block.ff = PiecewiseFeedForward(block.ff.net)
        if self.adapter.self_adaptive_filter is not None:
            _filter_after(self.unet.mid_block, self.adapter.self_adaptive_filter)

    def keep_reference_aside(self) -> None:
        """Move the reference UNet to main memory; its blocks come over one by one in its pass of a clip."""
        self.reference_unet.to("cpu")

    @property
    def dtype(self) -> torch.dtype:
        return self.unet.conv_in.weight.dtype

    @property
    def device(self) -> torch.device:
        return self.unet.conv_in.weight.device

    def forward(
        self, latents: Tensor, timestep: Tensor | int, tokens: Tensor, clip: ClipConditions
    ) -> Tensor:
        """The network's prediction v for every branch of the clip.

        latents   ((b f), 4, h, w), shared by the branches
        tokens    (2, b, n, d) image tokens [unconditional, conditional]
        returns   ((branch b f), 4, h, w)
        """
        return self.velocity(self.output(latents, timestep, tokens, clip), latents, timestep, clip)

    def velocity(
        self, output: Tensor, latents: Tensor, timestep: Tensor | int, clip: ClipConditions
    ) -> Tensor:
        """v, from what the UNet puts out."""
        warp = self.adapter.portrait_warp
        return output if warp is None else clip.velocity(warp, output, latents, timestep)

    def output(self, latents: Tensor, timestep: Tensor | int, tokens: Tensor, clip: ClipConditions) -> Tensor:
        """What the UNet puts out, ((branch b f), 4 or more, h, w): v, or motion (network/warp.py)."""
        rows = len(latents)
        context = torch.cat([_rows(tokens[int(branch.portrait)], rows) for branch in clip.branches])
        sample = torch.cat([latents.repeat(len(clip.branches), 1, 1, 1), clip.face_rows()], dim=1)
        (output,) = self.unet(
            sample,
            timestep,
            encoder_hidden_states=context,
            cross_attention_kwargs={"clip": clip},
            return_dict=False,
        )
        return output

    def reference_features(
        self, latents: Tensor, tokens: Tensor, *, rounded_to: torch.dtype | None = None
    ) -> ReferenceFeatures:
        """Run the reference UNet over the portrait and the carried frames.

        Where its weights are on another device than the others, they visit theirs for the pass.

        latents     (b, 1 + carried, 4, h, w): portrait, then the frames to go in front of the clip
        tokens      (p, b, n, d) image tokens: p = 1 the portrait's; p = 2 the authors' [unconditional,
                    conditional], which they deal out to the rows in turn, so that the rows of one pass see
                    both
        rounded_to  dtype that the authors squeeze the features through (float16); None keeps them
        """
        passes, (batch, images) = len(tokens), latents.shape[:2]
        dealt = [row % passes for row in range(passes * images)]
        context = tokens[dealt].unflatten(0, (passes, images)).transpose(1, 2)  # p b images n d
        bank: Bank = {}
        with _visiting(self.reference_unet, self.device):
            self.reference_unet(
                latents.flatten(0, 1).repeat(passes, 1, 1, 1),
                constants.REFERENCE_TIMESTEP,
                encoder_hidden_states=context.flatten(0, 2),
                cross_attention_kwargs={"bank": bank},
                return_dict=False,
            )
        if rounded_to is not None:
            bank = {site: x.to(rounded_to).to(x.dtype) for site, x in bank.items()}
        features = {site: x.unflatten(0, (passes, batch, images)) for site, x in bank.items()}
        return ReferenceFeatures(features).read_by(self.architecture, latents)


@contextlib.contextmanager
def _visiting(unet: nn.Module, device: torch.device) -> Iterator[None]:
    """Each block of the UNet comes to `device` when it runs, and goes back where it was."""
    home = next(unet.parameters()).device
    if home == device:
        yield
        return
    hooks = []
    for block in _blocks(unet):
        hooks.append(block.register_forward_pre_hook(lambda block, _args: _move(block, device)))
        hooks.append(block.register_forward_hook(lambda block, *_: _move(block, home)))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        unet.to(home)


def _blocks(unet: nn.Module) -> list[nn.Module]:
    """What runs as one: the UNet's children, and those of its lists."""
    lists = [list(child) if isinstance(child, nn.ModuleList) else [child] for child in unet.children()]
    return [block for blocks in lists for block in blocks]


def _move(block: nn.Module, device: torch.device) -> None:
    block.to(device)


def _rows(tokens: Tensor, rows: int) -> Tensor:
    """(b, n, d) -> ((b f), n, d)."""
    return tokens.repeat_interleave(rows // len(tokens), 0)


class FaceConditionedConv2d(nn.Conv2d):
    """The UNet's first convolution: latents in the first channels, in the others what to add after it."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x[:, : self.in_channels]) + x[:, self.in_channels :]


class PiecewiseFeedForward(nn.Module):
    """The layers of diffusers' feed-forward, which a CPU runs a thousand tokens at a time."""

    def __init__(self, net: nn.ModuleList) -> None:
        super().__init__()
        self.net: Any = net

    def forward(self, x: Tensor, *_args: Any, **_named: Any) -> Tensor:
        def of_tokens(rows: Tensor) -> Tensor:
            return self.net[2](gated_linear(self.net[0].proj, rows))  # between them a dropout of 0

        return in_pieces(of_tokens, x.flatten(0, -2), PIECE_TOKENS).view(x.shape)


def _run_after(transformer: nn.Module, site: nn.Module) -> None:
    """Run the adapter's site on the output of a spatial transformer."""
    transformer.register_forward_hook(functools.partial(_site_output, site), with_kwargs=True)


def _filter_after(block: nn.Module, spectral_filter: nn.Module) -> None:
    """Run the SFM on the output of the mid block."""
    block.register_forward_hook(functools.partial(_filtered_output, spectral_filter), with_kwargs=True)


# Hooks are partials, not closures: a copy of the network runs its own sites.
def _site_output(
    site: nn.Module, _module: nn.Module, _args: Any, kwargs: dict[str, Any], output: tuple[Tensor]
) -> tuple[Tensor]:
    return (site(output[0], kwargs["cross_attention_kwargs"]["clip"]),)


def _filtered_output(
    spectral_filter: nn.Module, _module: nn.Module, _args: Any, kwargs: dict[str, Any], output: Tensor
) -> Tensor:
    clip: ClipConditions = kwargs["cross_attention_kwargs"]["clip"]
    return spectral_filter(output, clip.sfm_strength, clip.sfm_gains)


class SpatialAttentionProcessor:
    """diffusers' attention, plus the portrait's keys and values behind a frame's own in branches that see it.

    `site` is None for cross-attention to the image tokens, which has no reference. In the reference UNet
    `bank` takes what self-attention attends to: the normed tokens.
    """

    def __init__(self, site: str | None) -> None:
        self.site = site

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        clip: ClipConditions | None = None,
        bank: Bank | None = None,
    ) -> Tensor:
        def keys(context: Tensor) -> KeysValues:
            return attn.to_k(context), attn.to_v(context)

        references: list[KeysValues | None] = [None]
        if self.site is not None and bank is not None:
            bank[self.site] = hidden_states
        if self.site is not None and clip is not None:
            references = clip.reference_keys(self.site, keys)
        own = keys(hidden_states if encoder_hidden_states is None else encoder_hidden_states)
        x = attend_with_reference(attn.to_q(hidden_states), own, references, attn.heads)
        return attn.to_out[0](x)
