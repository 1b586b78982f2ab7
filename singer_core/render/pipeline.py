"""A whole song, clip after clip at constant memory (paper section 4, numerics section 13).

portrait -> tokens, face features, masks, latents        once
song     -> audio tokens -> MSM                          per clip
latents  -> denoised under portrait, song and carried frames, decoded, handed out before the next clip starts
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from singer_core import constants
from singer_core.audio.frames import AudioFeatures
from singer_core.network.autoencoder import Autoencoder
from singer_core.network.backbone import SingerNetwork
from singer_core.network.conditions import AudioTokens, ClipConditions, ReferenceFeatures
from singer_core.network.projections import audio_windows
from singer_core.options import SingerOptions
from singer_core.portrait.colours import identity_for
from singer_core.portrait.portrait import Portrait
from singer_core.render.clips import Clip, finished_frames, plan_clips
from singer_core.render.sampler import SpectralWeighting, branches_for, sample_clip


@dataclass(frozen=True)
class Step:
    """One finished diffusion step, for progress bars and previews."""

    clip: int
    clips: int
    step: int
    steps: int
    latents: Tensor = field(repr=False)  # (f, 4, h, w) after the step

    @property
    def done(self) -> int:
        """Steps finished in the whole song."""
        return self.clip * self.steps + self.step + 1

    @property
    def total(self) -> int:
        return self.clips * self.steps


OnStep = Callable[[Step], None]  # may raise to stop the render


@dataclass(frozen=True)
class PortraitConditions:
    """What the network is told of the portrait, the same for all clips; on the network's device.

    tokens   (2, 1, n, d) image tokens [without identity, with it]
    masks    per level (3, 1, n)
    face     (1, c, h, w) face-locator features
    pixels   (3, H, W) in [-1, 1]
    """

    tokens: Tensor
    masks: tuple[Tensor, ...]
    face: Tensor
    pixels: Tensor

    @property
    def latent_size(self) -> tuple[int, int]:
        return self.pixels.shape[1] // constants.VAE_STRIDE, self.pixels.shape[2] // constants.VAE_STRIDE


@dataclass(frozen=True)
class RenderedClip:
    """A finished clip and what it was made from; f frames of it, of which `pictures` holds the finished ones.

    noise, latents     (f, 4, h, w)
    audio_tokens       (f, m, d) before the MSM
    reference_latents  (1 + motion_frames, 4, h, w): portrait, carried frames
    pictures           (finished frames, 3, H, W) in [0, 1]
    """

    clip: Clip
    noise: Tensor
    audio_tokens: Tensor
    reference_latents: Tensor
    latents: Tensor
    pictures: Tensor


@dataclass(frozen=True)
class SingerPipeline:
    """Network, VAE and options; holds nothing between calls."""

    network: SingerNetwork
    vae: Autoencoder
    options: SingerOptions

    def render(
        self,
        portrait: Portrait,
        audio: AudioFeatures,
        seed: int = constants.DEFAULT_SEED,
        weights: Tensor | None = None,
        on_step: OnStep | None = None,
    ) -> Iterator[RenderedClip]:
        """The clips of the song in order, each before the next is begun: `audio.frames` pictures in all.

        weights  (s, 3) pose, face and lip weight of each frame; None = 1, as trained
        """
        options = self.options
        conditions = self.portrait_conditions(portrait)
        plan = plan_clips(audio.frames, options.clip_frames, options.overlap)
        generator = torch.Generator().manual_seed(seed)
        carried = locked = pending = None
        for clip, following in zip(plan, [*plan[1:], None], strict=True):
            noise = self.draw_noise(generator, conditions)
            weighting = SpectralWeighting(self.network.adapter, options, locked)
            heard = self.audio_tokens(audio, clip)
            references = self.reference_latents(conditions, carried)
            start = self.clip_conditions(conditions, heard, references, _rows(weights, clip))
            report = None if on_step is None else _song_step(on_step, clip, len(plan), options.steps)
            latents = sample_clip(self.network, options, noise, conditions.tokens, start, weighting, report)
            latents = cross_fade(pending, latents)
            finished = finished_frames(clip, following, audio.frames)
            pictures = self.vae.decode(latents[: len(finished)])
            if following is not None:
                locked = weighting.kept(noise.to(self.network.dtype))
                pending = latents[len(latents) - following.shared :]
                last = following.carried_from(clip, options.motion_frames)
                carried = self.carry(latents[last.start : last.stop], pictures[last.start : last.stop])
            yield RenderedClip(clip, noise, heard, references, latents, pictures)

    @torch.no_grad()
    def portrait_conditions(self, portrait: Portrait) -> PortraitConditions:
        """Tokens, face features, masks and pixels of a portrait; without identity the embedding is 0."""
        adapter, device, dtype = self.network.adapter, self.network.device, self.network.dtype
        identity = identity_for(portrait, self.network.architecture.identity_width)
        embeddings = torch.stack([torch.zeros_like(identity), identity]).to(device, dtype)
        region = portrait.region.to(device, dtype).expand(1, 3, -1, -1)
        return PortraitConditions(
            tokens=adapter.image_projection(embeddings)[:, None],
            masks=tuple(mask[:, None].to(device, dtype) for mask in portrait.masks),
            face=adapter.face_locator(region),
            pixels=portrait.image.to(device) * 2 - 1,
        )

    def draw_noise(self, generator: torch.Generator, conditions: PortraitConditions) -> Tensor:
        """The next clip's noise, (f, 4, h, w); drawn on the CPU in the authors' order (channel, frame)."""
        shape = (constants.LATENT_CHANNELS, self.options.clip_frames, *conditions.latent_size)
        return torch.randn(shape, generator=generator).transpose(0, 1).contiguous().to(self.network.device)

    @torch.no_grad()
    def audio_tokens(self, audio: AudioFeatures, clip: Clip) -> Tensor:
        """Audio tokens of a clip before the MSM, (f, m, d)."""
        expected = self.network.architecture.frame_features
        if audio.features[0].numel() != expected:
            raise ValueError(
                f"The audio features have {tuple(audio.features.shape[1:])} values a frame; this checkpoint "
                f"reads {expected}. Encode the song with the front end that the checkpoint was trained with."
            )
        windows = audio_windows(audio.features, clip.start, clip.stop)
        return self.network.adapter.audio_projection(windows.to(self.network.device, self.network.dtype))

    @torch.no_grad()
    def clip_conditions(
        self,
        conditions: PortraitConditions,
        audio_tokens: Tensor,
        reference_latents: Tensor,
        weights: Tensor | None = None,
    ) -> ClipConditions:
        """What a clip is conditioned on; runs the reference UNet.

        audio_tokens       (f, m, d) before the MSM
        reference_latents  (1 + motion_frames, 4, h, w)
        weights            (f, 3), None = 1
        """
        return ClipConditions(
            branches=branches_for(self.options),
            frames=self.options.clip_frames,
            audio=AudioTokens(audio_tokens),
            masks=conditions.masks,
            weights=(torch.ones(1, 3) if weights is None else weights).to(conditions.face),
            face=conditions.face,
            reference=self.reference_features(reference_latents, conditions.tokens),
            sfm_strength=self.options.sfm_strength,
            sfm_gains=tuple(self.options.sfm_gains),
        )

    def reference_features(self, latents: Tensor, tokens: Tensor) -> ReferenceFeatures:
        """Features of [portrait, carried frames...], latents (1 + carried, 4, h, w)."""
        both = self.options.reference_rows == "alternating" and self.options.guided
        return self.network.reference_features(
            latents[None].to(self.network.dtype),
            tokens if both else tokens[1:],
            rounded_to=torch.float16 if self.options.round_reference else None,
        )

    def reference_latents(self, conditions: PortraitConditions, carried: Tensor | None) -> Tensor:
        """Latents of [portrait, carried frames...], (1 + motion_frames, 4, h, w).

        carried  what `carry` made of the previous clip; None = the portrait, standing still
        """
        portrait = conditions.pixels[None]
        if carried is None:
            return self.encode(portrait).expand(1 + self.options.motion_frames, -1, -1, -1)
        if self.options.carry == "latents":
            return torch.cat([self.encode(portrait), carried])
        return self.encode(torch.cat([portrait, carried]))

    def carry(self, latents: Tensor, pictures: Tensor) -> Tensor:
        """What the next clip is shown: latents (k, 4, h, w), or pictures (k, 3, H, W), now in [-1, 1]."""
        return latents if self.options.carry == "latents" else pictures * 2 - 1

    def encode(self, pixels: Tensor) -> Tensor:
        """pixels (k, 3, H, W) in [-1, 1] -> latents (k, 4, h, w) on the network's device."""
        if self.options.brighten_bright and pixels.min() >= 0:
            pixels = pixels * 2 - 1  # taken for [0, 1] (numerics section 13)
        return self.vae.encode(pixels).to(self.network.device)


def cross_fade(ending: Tensor | None, beginning: Tensor) -> Tensor:
    """The later of two overlapping clips, (f, ...), its start blended with the other's `ending`."""
    if ending is None or not len(ending):
        return beginning
    shared = len(ending)
    ramp = torch.arange(1, shared + 1, device=beginning.device) / (shared + 1)
    ramp = ramp.view(-1, *[1] * (beginning.ndim - 1))
    return torch.cat([ending.lerp(beginning[:shared], ramp), beginning[shared:]])


def _rows(weights: Tensor | None, clip: Clip) -> Tensor | None:
    """(f, 3) of the clip; beyond the song's end its last frame."""
    if weights is None:
        return None
    return weights[torch.arange(clip.start, clip.stop).clamp_max(len(weights) - 1)]


def _song_step(on_step: OnStep, clip: Clip, clips: int, steps: int) -> Callable[[int, Tensor], None]:
    return lambda step, latents: on_step(Step(clip.index, clips, step, steps, latents))
