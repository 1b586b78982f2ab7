"""The authors' inference, and its variants, on diffusers' networks (paper section 4, numerics section 13).

portrait -> tokens, face features, masks, latents        once
song     -> audio tokens -> MSM                          per clip
latents  -> denoised under portrait, song and carried frames, decoded, handed out before the next clip starts

The loop over the clips is `song.py`'s.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .. import constants
from ..audio.features import AudioFeatures
from ..marks import Take
from ..portrait.portrait import Portrait
from ..settings import SingerOptions
from .clips import Clip
from .conditioning import (
    PortraitConditions,
    audio_tokens,
    clip_conditions,
    own_part,
    portrait_conditions,
    rows_of,
)
from .sampler import NotFiniteError, SpectralWeighting, sample_clip
from .seams import Held, shared_noise_rows, steadied
from .song import NAN_REMEDY, FinishedClip, plan_song, render_song
from .store import FORMAT, ClipStore, chained, fingerprint
from .takes import Known, plan_take, render_take, take_store, weights_of, with_takes

if TYPE_CHECKING:  # diffusers, which ComfyUI's nodes do without
    from ..network.autoencoder import Autoencoder
    from ..network.backbone import SingerNetwork

log = logging.getLogger(__name__)


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
class ClipInputs:
    """What a clip was sampled from.

    noise              (f, 4, h, w)
    audio_tokens       (f, m, d) before the MSM
    reference_latents  (1 + motion_frames, 4, h, w): portrait, carried frames
    """

    noise: Tensor
    audio_tokens: Tensor
    reference_latents: Tensor


@dataclass(frozen=True)
class RenderedClip:
    """A finished clip: latents (f, 4, h, w), and pictures (finished frames, 3, H, W) in [0, 1].

    `inputs` are None where the latents come from a store.
    """

    clip: Clip
    latents: Tensor
    pictures: Tensor
    inputs: ClipInputs | None = None


@dataclass(frozen=True)
class _Song:
    """What a render was asked for, and what all its clips have in common.

    weighting  of all clips but the first, whose gains it may have locked
    noises     (index, noise) of every clip
    made       the inputs of the clip that was sampled last, by its index
    """

    portrait: Portrait
    audio: AudioFeatures
    weights: Tensor | None
    conditions: PortraitConditions
    weighting: SpectralWeighting
    noises: Iterator[tuple[int, Tensor]]
    report: Callable[[Clip, int, Tensor], None]
    made: dict[int, ClipInputs]


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
        takes: Sequence[Take] = (),
    ) -> Iterator[RenderedClip]:
        """The clips of the song in order, each before the next is begun: `audio.frames` pictures in all.

        weights  (s, 3) pose, face and lip weight of each frame; None = 1, as trained
        store    opened with `shared_key` and `clip_keys` of the same arguments: clips that it has are not
                 sampled again, and the others are saved in it. The clips have the same bits either way
        span     frames of the song to render; None = all
        takes    seconds that are sung again, in order

        Raises RuntimeError naming clip and step where the network gives NaN.
        """
        span = range(audio.frames) if span is None else span
        plan, pictures = plan_song(span, self.options), torch.empty(0)

        def report(clip: Clip, step: int, latents: Tensor) -> None:
            if on_step is not None:
                on_step(Step(clip.index, len(plan), step, self.options.steps, latents))

        def carry(latents: Tensor, rest: float) -> Tensor:
            return self.carry(latents, pictures[-len(latents) :], song.conditions, rest)

        def decoded(clips: Iterator[FinishedClip]) -> Iterator[FinishedClip]:
            nonlocal pictures
            for done in clips:
                pictures = self.vae.decode(done.latents[: done.frames])
                yield dataclasses.replace(done, pictures=pictures)

        song = self._song(portrait, audio, weights, self.noises(plan, seed, portrait), report)
        sample, sing = functools.partial(self._sample, song), functools.partial(self._take, song, span, store)
        given = (sample, carry, report, store, audio.activity, self.network.device)
        clips = decoded(render_song(span, self.options, *given))
        for done in with_takes(clips, takes, span, self.options, sing, audio.activity):
            shown = self.vae.decode(done.latents[: done.frames]) if done.pictures is None else done.pictures
            yield RenderedClip(done.clip, done.latents, shown, song.made.pop(done.clip.index, None))

    def plan(self, audio: AudioFeatures, span: range | None = None) -> list[Clip]:
        """The clips of a song, or of some of its frames."""
        return plan_song(range(audio.frames) if span is None else span, self.options)

    def shared_key(self, portrait: Portrait) -> str:
        """What all clips of a portrait share, hashed. Reads all weights once.

        Not in it: the machine and its number of threads, which may change last bits.
        """
        pictures = (portrait.image, portrait.region, portrait.masks, portrait.identity)
        networks = (self.network, self.network.architecture, self.network.device.type, self.vae.vae)
        return fingerprint(FORMAT, torch.__version__, networks, self.options, pictures)

    def clip_keys(
        self,
        shared: str,
        audio: AudioFeatures,
        seed: int = constants.DEFAULT_SEED,
        weights: Tensor | None = None,
        span: range | None = None,
    ) -> list[str]:
        """The key of every clip of `render`: all that determines every bit of its latents, hashed.

        shared  `shared_key` of the portrait
        """
        plan = self.plan(audio, span)
        past = self.network.architecture.audio_past
        return chained(shared, ((seed, *own_part(audio, weights, self.options, clip, past)) for clip in plan))

    def take_store(
        self, store: ClipStore, take: Take, audio: AudioFeatures, weights: Tensor | None, span: range
    ) -> ClipStore:
        """The clips of a take in the store of its song."""
        weights = weights_of(take, weights, len(audio.features))
        past = self.network.architecture.audio_past

        def own(clip: Clip) -> object:
            return take.seed, *own_part(audio, weights, self.options, clip, past)

        return take_store(store, take, span, self.options, audio.activity, own)

    def _take(self, song: _Song, span: range, store: ClipStore | None, take: Take, known: Known) -> Tensor:
        """Latents (k, 4, h, w) of the frames of a take."""

        def carry(latents: Tensor, rest: float) -> Tensor:
            pictures = latents if self.options.carry == "latents" else self.vae.decode(latents)
            return self.carry(latents, pictures, song.conditions, rest)

        plan, activity = plan_take(take, span, self.options), song.audio.activity
        sung = dataclasses.replace(
            song,
            weights=weights_of(take, song.weights, len(song.audio.features)),
            noises=enumerate(self.noises(plan, take.seed, song.portrait)),
            report=_unheard,
            made={},
        )
        sample, device = functools.partial(self._sample, sung), self.network.device
        kept = store and self.take_store(store, take, song.audio, song.weights, span)
        return render_take(take, span, self.options, known, sample, carry, kept, activity, device)

    def _song(
        self,
        portrait: Portrait,
        audio: AudioFeatures,
        weights: Tensor | None,
        noises: Iterator[Tensor],
        report: Callable[[Clip, int, Tensor], None],
    ) -> _Song:
        first = next(noises)
        weighting = SpectralWeighting(self.network.adapter, self.options)
        weighting = dataclasses.replace(weighting, locked=weighting.kept(first.to(self.network.dtype)))
        conditions = portrait_conditions(self.network, portrait)
        numbered = enumerate(itertools.chain([first], noises))
        return _Song(portrait, audio, weights, conditions, weighting, numbered, report, {})

    def _sample(self, song: _Song, clip: Clip, carried: Tensor | None, held: Held | None = None) -> Tensor:
        """Latents of one clip, (f, 4, h, w); where half precision gives NaN, sampled again in float32."""
        noise = next(noise for index, noise in song.noises if index == clip.index)
        heard = audio_tokens(self.network, song.audio, clip)
        references = self.reference_latents(song.conditions, carried)
        song.made[clip.index] = ClipInputs(noise, heard, references)
        own = clip.index == 0 and held is None
        weighting = SpectralWeighting(self.network.adapter, self.options) if own else song.weighting
        report, weights = functools.partial(song.report, clip), rows_of(song.weights, clip)
        where = f"Clip {clip.index + 1} (frames {clip.start} to {clip.stop})"

        def sung(portrait: PortraitConditions, heard: Tensor) -> Tensor:
            given = clip_conditions(self.network, self.options, portrait, heard, references, weights)
            tokens = portrait.tokens
            return sample_clip(self.network, self.options, noise, tokens, given, weighting, report, held)

        try:
            return sung(song.conditions, heard)
        except NotFiniteError as error:
            if self.network.dtype == torch.float32 or not self.options.retry_in_float32:
                raise RuntimeError(f"{where}: {error}. {NAN_REMEDY}") from error
            log.warning("%s: %s; sampling the clip again in float32.", where, error)
        with _in_float32(self.network):
            portrait = portrait_conditions(self.network, song.portrait)
            try:
                return sung(portrait, audio_tokens(self.network, song.audio, clip))
            except NotFiniteError as error:
                raise RuntimeError(f"{where}: {error}, after half precision. {NAN_REMEDY}") from error

    def noises(self, plan: Sequence[Clip], seed: int, portrait: Portrait) -> Iterator[Tensor]:
        """The noise of each clip, (f, 4, h, w); all from one generator."""
        generator = torch.Generator().manual_seed(seed)
        size = (side // constants.VAE_STRIDE for side in portrait.image.shape[-2:])
        shape = (self.network.architecture.latent_channels, self.options.clip_frames, *size)
        if self.options.clip_noise == "fresh":
            for _ in plan:
                yield self._draw_noise(shape, generator)
            return
        first = self._draw_noise(shape, generator)
        for rows in shared_noise_rows(plan, generator):
            yield first[rows.to(first.device)]

    def _draw_noise(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """The next clip's noise, (f, 4, h, w); drawn on the CPU in the authors' order (channel, frame)."""
        return torch.randn(shape, generator=generator).transpose(0, 1).contiguous().to(self.network.device)

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

    def carry(self, latents: Tensor, pictures: Tensor, conditions: PortraitConditions, rest: float) -> Tensor:
        """What the next clip is shown: latents (k, 4, h, w), or pictures (k, 3, H, W), now in [-1, 1].

        rest  0 to 1: how far the portrait takes their place
        """
        as_latents, options = self.options.carry == "latents", self.options
        frames = latents if as_latents else pictures * 2 - 1
        hold, beyond = options.hold_colours, options.restart_beyond
        if not (hold or beyond or rest):
            return frames
        still = self.encode(conditions.pixels[None])[0] if as_latents else conditions.pixels.to(frames)
        return steadied(frames, still, hold, rest, beyond, conditions.outside_lips)

    def encode(self, pixels: Tensor) -> Tensor:
        """pixels (k, 3, H, W) in [-1, 1] -> latents (k, 4, h, w) on the network's device."""
        if self.options.brighten_bright and pixels.min() >= 0:
            pixels = pixels * 2 - 1  # taken for [0, 1] (numerics section 13)
        return self.vae.encode(pixels).to(self.network.device)


def _unheard(_clip: Clip, _step: int, _latents: Tensor) -> None:
    """Steps of a take are none of the song's."""


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
