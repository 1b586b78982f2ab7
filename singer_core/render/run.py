"""What the frames of one run are conditioned on, for samplers that are not ours: made once, then gone."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .. import constants
from ..audio.features import AudioFeatures
from ..network.conditions import AudioTokens, Branch, ClipConditions, Made
from ..portrait.portrait import Portrait
from ..settings import SingerOptions
from .clips import Clip
from .conditioning import Network, audio_tokens, clip_conditions, portrait_conditions, rows_of
from .sampler import SpectralWeighting


class ScalingNetwork(Network, Protocol):
    """A network that knows the scale of its VAE's latents, too."""

    def scaled(self, latents: Tensor) -> Tensor: ...


@dataclass(frozen=True, eq=False)
class SongConditions:
    """What the frames of a run are conditioned on, before the model has seen it.

    references   (1 + carried, 4, h, w) unscaled VAE latents: the portrait, then the frames before the first
    start        frame of the song that the first latent belongs to
    weights      (s, 3), None = 1
    brighten     stretch pictures without a pixel below mid-grey, as the authors' VAE pre-processing does
    first_noise  (f, 4, h, w) noise of the song's first clip, for a locked MSM; None = the run's own
    frames       as many latents it is for; None = any
    """

    portrait: Portrait
    audio: AudioFeatures
    references: Tensor
    start: int = 0
    weights: Tensor | None = None
    brighten: bool = True
    first_noise: Tensor | None = None
    frames: int | None = None

    def before(self, count: int) -> Tensor:
        """`references` with `count` carried frames: the last, the first repeated where there are fewer."""
        portrait, carried = self.references[:1], self.references[1:]
        repeated = carried[:1].expand(max(count - len(carried), 0), -1, -1, -1)
        return torch.cat([portrait, repeated, carried[-count:]])


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
        """The same for some of the frames, as a clip of their own; ValueError where they are too many."""
        limit = constants.MOTION_POSITIONS - constants.MOTION_FRAMES
        if len(frames) > limit:
            raise ValueError(
                f"A context window has {len(frames)} frames, a clip of SINGER at most {limit}. Set "
                "`context_length` to 16."
            )
        heard, noise, weights = self.heard[frames], self.noise[frames], self.clip.weights
        clip = dataclasses.replace(
            self.clip,
            frames=len(frames),
            audio=AudioTokens(self.weighting(heard, noise)),
            weights=weights if len(weights) == 1 else weights[frames],
        )
        return dataclasses.replace(self, clip=clip, heard=heard, noise=noise)


def make_run(
    network: ScalingNetwork,
    options: SingerOptions,
    song: SongConditions,
    noise: Tensor,
    *,
    windowed: bool = False,
    keeps_keys: bool = True,
) -> RunConditions:
    """Conditions of the frames that `noise` (f, 4, h, w) stands for; runs the reference UNet.

    windowed    context windows will cut the frames to clips
    keeps_keys  keys and values are kept over the steps; not where weights change between them
    Raises ValueError where frame count or size do not fit network and portrait.
    """
    check_latents(noise, song, windowed)
    span = Clip(0, song.start, song.start + len(noise), 0)
    portrait, heard = portrait_conditions(network, song.portrait), audio_tokens(network, song.audio, span)
    references, weights = network.scaled(song.references.to(noise)), rows_of(song.weights, span)
    clip = clip_conditions(network, options, portrait, heard, references, weights)
    noise = noise.to(network.dtype)
    first = noise if song.first_noise is None else song.first_noise.to(noise)
    weighting = SpectralWeighting(network.adapter, options)
    weighting = dataclasses.replace(weighting, locked=weighting.kept(first))
    made: Made | None = {} if keeps_keys else None
    clip = dataclasses.replace(
        clip,
        branches=(),
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
    if song.frames not in (None, frames):
        raise ValueError(
            f"The latents have {frames} frames, the conditioning is for {song.frames} from frame "
            f"{song.start} of the song on. Connect the LATENT of `SINGER Conditioning`, whose `first_frame` "
            "and `length` choose others."
        )
    if song.start >= song.audio.frames:
        raise ValueError(
            f"`first_frame` is {song.start}, but the song has {song.audio.frames} frames. Choose a lower one."
        )
