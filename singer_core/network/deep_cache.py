"""Reuse of deep features between neighbouring steps (Ma et al. 2024, "DeepCache: Accelerating Diffusion
Models for Free").

What comes up from a UNet's depths changes little from one step to the next. Every few steps all of it runs,
and what enters the outermost up blocks is kept; in between only the outermost down and up blocks run, with
the kept features in the place of everything between them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from .conditions import Branch


@dataclass
class DeepCache:
    """The kept features of one clip; the only state that steps of a clip share beside their latents.

    interval  everything runs at each interval-th step; 1 = at all
    level     how many of the UNet's levels run at the other steps, at least 1
    """

    interval: int
    level: int
    features: dict[tuple[Branch, ...], Tensor] = field(default_factory=dict, repr=False)
    branches: tuple[Branch, ...] = ()

    def begin(self, step: int, branches: tuple[Branch, ...]) -> None:
        """Forget what is due to be made anew: at each interval-th step, and where the branches change."""
        if step % self.interval == 0 or branches != self.branches:
            self.features.clear()
        self.branches = branches


def cached_forward(
    unet: UNet2DConditionModel,
    sample: Tensor,
    timestep: Tensor | int,
    context: Tensor,
    extra: dict[str, Any],
    cache: DeepCache,
    key: tuple[Branch, ...],
) -> Tensor:
    """unet(sample, timestep, context, cross_attention_kwargs=extra), the depths from the cache if it has
    them.

    Raises ValueError where the UNet has no level below the cache's.
    """
    if cache.level >= len(unet.down_blocks):
        raise ValueError(
            f"`cache_level` is {cache.level}; this network has {len(unet.down_blocks)} levels, of which at "
            f"most {len(unet.down_blocks) - 1} can run without the others. Lower it."
        )
    if key in cache.features:
        return _shallow(unet, sample, timestep, context, extra, cache.level, cache.features[key])
    with _kept(unet.up_blocks[-cache.level], cache, key):
        return unet(
            sample, timestep, encoder_hidden_states=context, cross_attention_kwargs=extra, return_dict=False
        )[0]


@contextlib.contextmanager
def _kept(block: nn.Module, cache: DeepCache, key: tuple[Branch, ...]) -> Iterator[None]:
    """Keep what enters the up block while it runs."""

    def keep(_module: nn.Module, _args: Any, named: dict[str, Any]) -> None:
        cache.features[key] = named["hidden_states"]

    hook = block.register_forward_pre_hook(keep, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()


def _shallow(
    unet: UNet2DConditionModel,
    sample: Tensor,
    timestep: Tensor | int,
    context: Tensor,
    extra: dict[str, Any],
    level: int,
    deep: Tensor,
) -> Tensor:
    """The outermost `level` levels of the UNet around the features `deep`."""
    steps = torch.as_tensor(timestep, device=sample.device).expand(len(sample))
    embedding = unet.time_embedding(unet.time_proj(steps).to(sample.dtype))
    given = {"temb": embedding, "encoder_hidden_states": context, "cross_attention_kwargs": extra}
    x = unet.conv_in(sample)
    skips = [x]
    for block in unet.down_blocks[:level]:
        x, made = block(hidden_states=x, **given)
        skips += made
    skips.pop()  # the last downsampling is for the depths
    x = deep
    for block in unet.up_blocks[-level:]:
        count = len(block.resnets)
        taken, skips = skips[-count:], skips[:-count]
        x = block(hidden_states=x, res_hidden_states_tuple=tuple(taken), **given)
    return unet.conv_out(unet.conv_act(unet.conv_norm_out(x)))
