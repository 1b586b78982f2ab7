"""What the frames of one run are conditioned on: made once, by the library's own pipeline, then gone."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from singer_core import constants
from singer_core.network.conditions import AudioTokens, Branch, ClipConditions
from singer_core.render.clips import Clip
from singer_core.render.pipeline import SingerPipeline
from singer_core.render.sampler import SpectralWeighting
from singer_core.settings import SingerOptions

if TYPE_CHECKING:
    from .sockets import SongConditions


@dataclass(frozen=True, eq=False)
class RunConditions:
    """Conditions of the frames of a run.

    clip        for every branch: `clip_for` fills in which; with the audio tokens after the MSM
    tokens      (2, 1, n, d) image tokens [without identity, with it]
    heard       (f, m, d) audio tokens before the MSM
    noise       (f, 4, h, w) that the MSM reads, unless it reads the latents of each step
    weighting   the MSM and its options
    """

    clip: ClipConditions
    tokens: Tensor
    heard: Tensor
    noise: Tensor
    weighting: SpectralWeighting

    def clip_for(self, branches: tuple[Branch, ...], latents: Tensor) -> ClipConditions:
        """Conditions of a batch of branches; latents ((branch f), 4, h, w) as the network sees them."""
        clip = dataclasses.replace(self.clip, branches=branches)
        if self.weighting.options.msm_input == "every_step":
            weighed = self.weighting(self.heard, latents[: clip.frames])
            clip = dataclasses.replace(clip, audio=AudioTokens(weighed))
        return clip

    def window(self, frames: list[int]) -> RunConditions:
        """The same for some of the frames, as a clip of their own."""
        heard, noise, weights = self.heard[frames], self.noise[frames], self.clip.weights
        clip = dataclasses.replace(
            self.clip,
            frames=len(frames),
            audio=AudioTokens(self.weighting(heard, noise)),
            weights=weights if len(weights) == 1 else weights[frames],
        )
        return dataclasses.replace(self, clip=clip, heard=heard, noise=noise)


def make_run(
    network: Any,
    options: SingerOptions,
    song: SongConditions,
    noise: Tensor,
    *,
    windowed: bool = False,
    keeps_keys: bool = True,
) -> RunConditions:
    """Conditions of the frames that `noise` (f, 4, h, w) stands for; runs the reference UNet.

    network     has the face of `SingerNetwork`: adapter, architecture, device, dtype, reference_features,
                and `scaled`, which scales latents of the VAE
    windowed    context windows will cut the frames to clips
    keeps_keys  keys and values are kept over the steps; not where weights change between them
    Raises ValueError where frame count or size do not fit network and portrait.
    """
    check_latents(noise, song, windowed)
    pipeline = SingerPipeline(network, None, options)  # type: ignore[arg-type] # the VAE is core's
    span = Clip(0, song.start, song.start + len(noise), 0)
    portrait = pipeline.portrait_conditions(song.portrait)
    heard = pipeline.audio_tokens(song.audio, span)
    latents = network.scaled(song.references.to(noise))
    clip = pipeline.clip_conditions(portrait, heard, latents, _weights(song, span, heard))
    noise = noise.to(network.dtype)
    weighting = SpectralWeighting(network.adapter, options)
    weighting = dataclasses.replace(weighting, locked=weighting.kept(_first(song, noise)))
    made = {} if keeps_keys else None
    clip = dataclasses.replace(
        clip,
        branches=(),
        frames=len(noise),
        audio=AudioTokens(weighting(heard, noise), made),
        reference=clip.reference and dataclasses.replace(clip.reference, made=made),
    )
    return RunConditions(clip, portrait.tokens, heard, noise, weighting)


def check_latents(latents: Tensor, song: SongConditions, windowed: bool = False) -> None:
    """Raise ValueError where latents (f, 4, h, w) do not fit the song or the network."""
    frames, carried = len(latents), len(song.references) - 1
    size = tuple(side * constants.VAE_STRIDE for side in latents.shape[-2:])
    if size != tuple(song.portrait.image.shape[-2:]):
        raise ValueError(
            f"The latents are for pictures of {size[1]} x {size[0]} pixels, the portrait has "
            f"{song.portrait.image.shape[-1]} x {song.portrait.image.shape[-2]}. Connect the LATENT of "
            "`SINGER Conditioning`."
        )
    if frames % 2:
        raise ValueError(
            f"The latents have {frames} frames; SINGER's wavelets need an even number. Set `length` of "
            "`SINGER Conditioning` to an even number, or use `Sample SINGER Video`, which pads."
        )
    if not windowed and frames + carried > constants.MOTION_POSITIONS:
        raise ValueError(
            f"The latents have {frames} frames; a clip has at most {constants.MOTION_POSITIONS - carried}. "
            "Use `Sample SINGER Video` for whole songs, or core's context windows of 16 frames."
        )
    if song.start >= song.audio.frames:
        raise ValueError(
            f"`first_frame` is {song.start}, but the song has {song.audio.frames} frames. Choose a lower one."
        )


def _weights(song: SongConditions, span: Clip, like: Tensor) -> Tensor:
    """(f, 3) of the frames, beyond the song's end those of its last; on the network's device."""
    if song.weights is None:
        return like.new_ones(1, 3)
    rows = torch.arange(span.start, span.stop).clamp_max(len(song.weights) - 1)
    return song.weights[rows].to(like)


def _first(song: SongConditions, noise: Tensor) -> Tensor:
    return noise if song.first_noise is None else song.first_noise.to(noise)
