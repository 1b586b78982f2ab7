"""A whole song, clip after clip at constant memory (paper section 4, numerics section 13).

portrait -> tokens, face features, masks, latents        once
song     -> audio tokens -> MSM                          per clip
latents  -> denoised under portrait, song and carried frames, decoded, handed out before the next clip starts
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .. import constants
from ..audio.features import AudioFeatures
from ..network.adapter import audio_windows
from ..network.conditions import AudioTokens, ClipConditions, ReferenceFeatures
from ..portrait.identity import identity_for
from ..portrait.portrait import Portrait
from ..settings import SingerOptions
from .clips import Clip, finished_frames, plan_clips
from .sampler import NotFiniteError, SpectralWeighting, branches_for, sample_clip
from .seams import cross_fade, rest_before, shared_noise_rows, steadied
from .store import FORMAT, ClipStore, fingerprint

if TYPE_CHECKING:  # diffusers, which ComfyUI's nodes do without
    from ..network.autoencoder import Autoencoder
    from ..network.backbone import SingerNetwork

log = logging.getLogger(__name__)

_NAN_REMEDY = "Check the weights with `singer info` and the input pictures, or lower the guidance scales."


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
    def outside_lips(self) -> Tensor:
        """(h, w) in [0, 1]: everything but the mouth."""
        return 1 - self.masks[0][2, 0].view(self.latent_size)

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
class _Song:
    """What a render was asked for."""

    portrait: Portrait
    audio: AudioFeatures
    weights: Tensor | None
    conditions: PortraitConditions


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
        store: ClipStore | None = None,
        span: range | None = None,
    ) -> Iterator[RenderedClip]:
        """The clips of the song in order, each before the next is begun: `audio.frames` pictures in all.

        weights  (s, 3) pose, face and lip weight of each frame; None = 1, as trained
        store    opened under `store_key(...)` of the same arguments: clips that it has are not sampled again,
                 and the others are saved in it. The clips have the same bits either way
        span     frames of the song to render; None = all

        Raises RuntimeError naming clip and step where the network gives NaN.
        """
        options, plan = self.options, self.plan(audio, span)
        stop = audio.frames if span is None else span.stop
        song = _Song(portrait, audio, weights, self.portrait_conditions(portrait))
        carried = locked = pending = None
        noises = self.noises(plan, seed, song.conditions)
        for clip, following, noise in zip(plan, [*plan[1:], None], noises, strict=True):
            weighting = SpectralWeighting(self.network.adapter, options, locked)
            heard = self.audio_tokens(audio, clip)
            references = self.reference_latents(song.conditions, carried)
            report = None if on_step is None else _song_step(on_step, clip, len(plan), options.steps)
            latents = None if store is None else store.load(clip.index)
            if latents is None:
                latents = self._sample(song, clip, noise, heard, references, weighting, report)
                latents = cross_fade(pending, latents).contiguous()
                if store is not None:
                    store.save(clip.index, latents)
            elif report is not None:
                report(options.steps - 1, latents)
            latents = latents.to(self.network.device)
            pictures = self.vae.decode(latents[: len(finished_frames(clip, following, stop))])
            if following is not None:
                locked = weighting.kept(noise.to(self.network.dtype))
                pending = latents[len(latents) - following.shared :]
                last = following.carried_from(clip, options.motion_frames)
                rest = options.reanchor and options.reanchor * rest_before(audio.activity, following.start)
                carried = self.carry(
                    latents[last.start : last.stop], pictures[last.start : last.stop], song.conditions, rest
                )
            yield RenderedClip(clip, noise, heard, references, latents, pictures)

    def plan(self, audio: AudioFeatures, span: range | None = None) -> list[Clip]:
        """The clips of a song, or of some of its frames."""
        span = range(audio.frames) if span is None else span
        return plan_clips(span.stop, self.options.clip_frames, self.options.overlap, span.start)

    def store_key(
        self,
        portrait: Portrait,
        audio: AudioFeatures,
        seed: int = constants.DEFAULT_SEED,
        weights: Tensor | None = None,
    ) -> str:
        """What determines every bit of the latents of `render`, hashed: the key of its `ClipStore`.

        A part of the song has the key `fingerprint(key, span.start, span.stop)`. Reads all weights and
        features once. Not in it: the machine and its number of threads, which may change last bits.
        """
        pictures = (portrait.image, portrait.region, portrait.masks, portrait.identity)
        networks = (self.network, self.network.architecture, self.network.device.type, self.vae.vae)
        song = (audio.features, audio.activity if self.options.reanchor else None, audio.frames, audio.fps)
        return fingerprint(FORMAT, torch.__version__, networks, self.options, pictures, song, weights, seed)

    def _sample(
        self,
        song: _Song,
        clip: Clip,
        noise: Tensor,
        audio_tokens: Tensor,
        reference_latents: Tensor,
        weighting: SpectralWeighting,
        report: Callable[[int, Tensor], None] | None,
    ) -> Tensor:
        """Latents of one clip, (f, 4, h, w); where half precision gives NaN, sampled again in float32."""

        def attempt(conditions: PortraitConditions, heard: Tensor) -> Tensor:
            start = self.clip_conditions(conditions, heard, reference_latents, _rows(song.weights, clip))
            return sample_clip(self.network, self.options, noise, conditions.tokens, start, weighting, report)

        where = f"Clip {clip.index + 1} (frames {clip.start} to {clip.stop})"
        try:
            return attempt(song.conditions, audio_tokens)
        except NotFiniteError as error:
            if self.network.dtype == torch.float32 or not self.options.retry_in_float32:
                raise RuntimeError(f"{where}: {error}. {_NAN_REMEDY}") from error
            log.warning("%s: %s; sampling the clip again in float32.", where, error)
        with _in_float32(self.network):
            try:
                conditions = self.portrait_conditions(song.portrait)
                return attempt(conditions, self.audio_tokens(song.audio, clip))
            except NotFiniteError as error:
                raise RuntimeError(f"{where}: {error}, after half precision. {_NAN_REMEDY}") from error

    @torch.no_grad()
    def portrait_conditions(self, portrait: Portrait) -> PortraitConditions:
        """Tokens, face features, masks and pixels of a portrait; without identity the embedding is 0."""
        adapter, device, dtype = self.network.adapter, self.network.device, self.network.dtype
        identity = identity_for(portrait, self.network.architecture.identity_width)
        embeddings = torch.stack([torch.zeros_like(identity), identity]).to(device, dtype)
        shown = portrait.locator_input(self.network.architecture.locator_input).to(device, dtype)
        return PortraitConditions(
            tokens=adapter.image_projection(embeddings)[:, None],
            masks=tuple(mask[:, None].to(device, dtype) for mask in portrait.masks),
            face=adapter.face_locator(shown),
            pixels=portrait.image.to(device) * 2 - 1,
        )

    def noises(self, plan: Sequence[Clip], seed: int, conditions: PortraitConditions) -> Iterator[Tensor]:
        """The noise of each clip, (f, 4, h, w); all from one generator."""
        generator = torch.Generator().manual_seed(seed)
        if self.options.clip_noise == "fresh":
            for _ in plan:
                yield self.draw_noise(generator, conditions)
            return
        first = self.draw_noise(generator, conditions)
        for rows in shared_noise_rows(plan, generator):
            yield first[rows.to(first.device)]

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

    def carry(
        self, latents: Tensor, pictures: Tensor, conditions: PortraitConditions, rest: float = 0.0
    ) -> Tensor:
        """What the next clip is shown: latents (k, 4, h, w), or pictures (k, 3, H, W), now in [-1, 1].

        rest  0 to 1: how far the portrait takes their place
        """
        as_latents = self.options.carry == "latents"
        frames = latents if as_latents else pictures * 2 - 1
        if not (self.options.hold_colours or rest):
            return frames
        still = self.encode(conditions.pixels[None])[0] if as_latents else conditions.pixels.to(frames)
        return steadied(frames, still, self.options.hold_colours, rest, conditions.outside_lips)

    def encode(self, pixels: Tensor) -> Tensor:
        """pixels (k, 3, H, W) in [-1, 1] -> latents (k, 4, h, w) on the network's device."""
        if self.options.brighten_bright and pixels.min() >= 0:
            pixels = pixels * 2 - 1  # taken for [0, 1] (numerics section 13)
        return self.vae.encode(pixels).to(self.network.device)


@contextlib.contextmanager
def _in_float32(network: nn.Module) -> Iterator[None]:
    """The network's weights in float32; afterwards as they were, which is exact."""
    tensors = [*network.parameters(), *network.buffers()]
    dtypes = [tensor.dtype for tensor in tensors]
    try:
        for tensor in tensors:
            if tensor.is_floating_point():
                tensor.data = tensor.data.float()
        yield
    finally:
        for tensor, dtype in zip(tensors, dtypes, strict=True):
            tensor.data = tensor.data.to(dtype)


def _rows(weights: Tensor | None, clip: Clip) -> Tensor | None:
    """(f, 3) of the clip; beyond the song's end its last frame."""
    if weights is None:
        return None
    return weights[torch.arange(clip.start, clip.stop).clamp_max(len(weights) - 1)]


def _song_step(on_step: OnStep, clip: Clip, clips: int, steps: int) -> Callable[[int, Tensor], None]:
    return lambda step, latents: on_step(Step(clip.index, clips, step, steps, latents))
