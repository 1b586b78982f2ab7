"""What one training step minimises: the error of the predicted v of noised clips (numerics section 17)."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import constants
from ..network.adapter import SiteModules
from ..network.backbone import SingerNetwork
from ..network.conditions import (
    CONDITIONAL,
    PORTRAIT_ONLY,
    UNCONDITIONAL,
    AudioTokens,
    Branch,
    ClipConditions,
    ReferenceFeatures,
)
from ..network.schedule import ddim, min_snr_weight, signal_to_noise
from .config import TrainConfig
from .dataset import Sample

GOLDEN = (math.sqrt(5) - 1) / 2  # multiples of it fill the unit interval evenly


@dataclass(frozen=True)
class Draws:
    """All chance of one forward.

    noise          b f 4 h w
    timesteps      b
    no_reference, no_audio, no_start   what the forward goes without
    motion_keep    b k 1 h w  0 where a patch of the carried frames is dropped, else 1
    motion_noise   b k 4 h w
    """

    noise: Tensor
    timesteps: Tensor
    no_reference: bool
    no_audio: bool
    no_start: bool
    motion_keep: Tensor
    motion_noise: Tensor

    def to(self, device: torch.device) -> Draws:
        values: dict[str, Any] = {
            k: v.to(device) if isinstance(v, Tensor) else v for k, v in vars(self).items()
        }
        return Draws(**values)


def seeded(*names: object) -> torch.Generator:
    """A generator that depends on the names alone, e.g. (seed, "clip", 17): nothing to save or restore."""
    digest = hashlib.blake2b("/".join(map(str, names)).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


def draw(config: TrainConfig, shape: tuple[int, ...], numbers: range, forward: int) -> Draws:
    """Chance of a forward of the samples `numbers`, counted over the run; `forward` is the same on all
    devices.

    shape   of one sample's clip, (f, 4, h, w)
    """
    channels, height, width = shape[1:]
    noise, kept, jitter = [], [], []
    for number in numbers:
        generator = seeded(config.seed, "noise", number)
        offset = torch.randn(1, channels, 1, 1, generator=generator)
        noise.append(torch.randn(shape, generator=generator) + config.noise_offset * offset)
        patches = torch.rand(
            config.motion_frames, 1, -(-height // 2), -(-width // 2), generator=generator
        ).ge(config.motion_drop)
        kept.append(F.interpolate(patches.float(), scale_factor=2)[..., :height, :width])
        jitter.append(torch.randn(config.motion_frames, channels, height, width, generator=generator))
    chance = torch.rand(3, generator=seeded(config.seed, "forward", forward)).tolist()
    return Draws(
        noise=torch.stack(noise),
        timesteps=torch.stack([_timestep(config, number) for number in numbers]),
        no_reference=chance[0] < config.reference_dropout,
        no_audio=chance[1] < config.audio_dropout,
        no_start=chance[2] < config.start_dropout,
        motion_keep=torch.stack(kept),
        motion_noise=torch.stack(jitter),
    )


def _timestep(config: TrainConfig, number: int) -> Tensor:
    """Uniform over 0..999; except for the authors' recipe, successive samples are spread evenly over it."""
    if config.recipe == "authors":
        return torch.randint(constants.TRAIN_TIMESTEPS, (), generator=seeded(config.seed, "time", number))
    first = torch.rand((), generator=seeded(config.seed, "time"), dtype=torch.float64)
    return ((first + number * GOLDEN) % 1 * constants.TRAIN_TIMESTEPS).long()


@dataclass(frozen=True)
class Objective:
    """The loss of a batch under a run's settings.

    `authors` keeps their oddities: a forward without reference has empty reference features and four carried
    frames of
    zeros, one without start frames grey ones, and min-SNR weights multiply the mean loss. Otherwise a forward
    goes
    without something exactly as a guidance branch does at inference, the portrait stands still where start
    frames are
    dropped, and every sample has its own weight.
    """

    config: TrainConfig

    @property
    def by_authors(self) -> bool:
        return self.config.recipe == "authors"

    def __call__(self, network: SingerNetwork, batch: Sample, draws: Draws) -> Tensor:
        scheduler = ddim(self.config.noise_schedule, constants.TRAIN_TIMESTEPS)
        alphas = scheduler.alphas_cumprod.to(draws.timesteps.device)[draws.timesteps].view(-1, 1, 1, 1, 1)
        noisy = alphas.sqrt() * batch.latents + (1 - alphas).sqrt() * draws.noise
        target = alphas.sqrt() * draws.noise - (1 - alphas).sqrt() * batch.latents
        prediction = predict(network, self.config, batch, draws, noisy)
        error = (prediction.float() - target).square()
        snr = signal_to_noise(scheduler, draws.timesteps)
        return self.weighted(error, snr, batch.lips)

    def weighted(self, error: Tensor, snr: Tensor, lips: Tensor) -> Tensor:
        """Squared error (b, f, 4, h, w), signal-to-noise ratio (b,), lips (b, f, h, w) -> loss."""
        weight = min_snr_weight(snr)
        if self.by_authors:
            return error.mean() * weight.mean()
        if self.config.lip_weight:
            region = 1 + self.config.lip_weight * lips
            error = error * (region / region.mean((1, 2, 3), keepdim=True))[:, :, None]
        return (error.mean((1, 2, 3, 4)) * weight).mean()


def predict(
    network: SingerNetwork, config: TrainConfig, batch: Sample, draws: Draws, noisy: Tensor
) -> Tensor:
    """The network's v for noisy latents (b, f, 4, h, w), the same shape."""
    frames = noisy.shape[1]
    tokens = image_tokens(network, batch.identity)
    clip = clip_conditions(network, config, batch, draws, noisy, tokens)
    timesteps = draws.timesteps.repeat_interleave(frames)
    return network(noisy.flatten(0, 1), timesteps, tokens, clip).unflatten(0, (-1, frames))


def clip_conditions(
    network: SingerNetwork, config: TrainConfig, batch: Sample, draws: Draws, noisy: Tensor, tokens: Tensor
) -> ClipConditions:
    """Conditions of a batch of clips, some of them dropped as `draws` says."""
    count, frames = noisy.shape[:2]
    branch, reference = CONDITIONAL, None
    if config.recipe != "authors":
        branch = branch_of(draws)
    if config.recipe != "authors" or not draws.no_reference:
        reference = reference_features(network, config, batch, draws, tokens)
    if config.stage == 1:
        heard = noisy.new_zeros(count * frames, 1, 1)
    else:
        heard = audio_tokens(network, batch.windows, noisy)
        if config.recipe == "authors" and draws.no_audio:
            heard = torch.zeros_like(heard)
    return ClipConditions(
        branches=(branch,),
        frames=frames,
        audio=AudioTokens(heard, made=None),
        masks=tuple(level.transpose(0, 1).repeat_interleave(frames, 1) for level in batch.masks),
        weights=noisy.new_ones(1, 3),
        face=network.adapter.face_locator(batch.shown.expand(-1, 3, -1, -1)).repeat_interleave(frames, 0),
        reference=reference,
    )


def branch_of(draws: Draws) -> Branch:
    """The guidance branch that a forward is trained as."""
    if draws.no_reference:
        return UNCONDITIONAL
    return PORTRAIT_ONLY if draws.no_audio else CONDITIONAL


def image_tokens(network: SingerNetwork, identity: Tensor) -> Tensor:
    """identity (b, e) -> (2, b, n, d): without identity, with it."""
    both = torch.stack([torch.zeros_like(identity), identity])
    return network.adapter.image_projection(both.flatten(0, 1)).unflatten(0, (2, -1))


def audio_tokens(network: SingerNetwork, windows: Tensor, noisy: Tensor) -> Tensor:
    """Audio tokens after the MSM, ((b f), m, d), of windows (b, f, k, l, d) and noisy latents (b, f, 4, h,
    w).

    Gains are sums over the clip's frames; longer or shorter clips than the authors' 14 are scaled to it.
    """
    adapter, frames = network.adapter, windows.shape[1]
    tokens = adapter.audio_projection(windows.flatten(0, 1))
    if adapter.multi_scale_spectral is None:
        return tokens
    scale = constants.TRAINED_CLIP_FRAMES / frames
    clips = zip(tokens.split(frames), noisy, strict=True)
    return torch.cat([scale * adapter.multi_scale_spectral(part, latents) for part, latents in clips])


def reference_features(
    network: SingerNetwork, config: TrainConfig, batch: Sample, draws: Draws, tokens: Tensor
) -> ReferenceFeatures:
    """What the reference UNet says of portrait and carried frames (at stage 1 of the portrait alone)."""
    images = batch.reference[:, None]
    if config.stage == 2:
        images = torch.cat([images, carried_latents(config, batch, draws)], dim=1)
    made = network.reference_features(images, tokens[1:])
    return ReferenceFeatures(made.features, made=None)


def carried_latents(config: TrainConfig, batch: Sample, draws: Draws) -> Tensor:
    """Latents of the carried frames as the network is shown them, (b, k, 4, h, w)."""
    carried = batch.carried
    if draws.no_start:
        still = batch.grey if config.recipe == "authors" else batch.reference
        return still[:, None].expand_as(carried)
    return (carried + config.motion_noise * draws.motion_noise) * draws.motion_keep


class _Nothing(nn.Module):
    """Stands in for an audio or motion module: returns its first argument."""

    def forward(self, x: Tensor, *_: object) -> Tensor:
        return x


@contextmanager
def without_clip_modules(network: SingerNetwork) -> Iterator[None]:
    """Stage 1: the network as pictures need it, its audio and motion modules out of the way."""
    kept: list[tuple[SiteModules, nn.Module, nn.Module]] = []
    try:
        for site in network.adapter.sites.values():
            assert isinstance(site, SiteModules)
            kept.append((site, site.audio, site.motion))
            site.audio, site.motion = _Nothing(), _Nothing()  # type: ignore[assignment]
        yield
    finally:
        for site, audio, motion in kept:
            site.audio, site.motion = audio, motion  # type: ignore[assignment]
