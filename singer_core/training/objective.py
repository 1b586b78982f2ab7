"""What one training step minimises: the error of the predicted v of noised clips (numerics section 17)."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import constants
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
from ..network.warp import CERTAIN, FIELD
from .config import TrainConfig
from .dataset import Batch, Sample

GOLDEN = (math.sqrt(5) - 1) / 2  # multiples of it fill the unit interval evenly


@dataclass(frozen=True)
class Draws(Batch):
    """All chance of one forward.

    noise          b f 4 h w
    timesteps      b
    no_reference, no_audio, no_start, no_locator   b  True for what a sample goes without
    motion_keep    b k 1 h w  0 where a patch of the carried frames is dropped, else 1
    motion_noise   b k 4 h w
    own_beginning, own_carried  b  True where a student goes on from its own outputs (recipe `distill`)
    """

    noise: Tensor
    timesteps: Tensor
    no_reference: Tensor
    no_audio: Tensor
    no_start: Tensor
    no_locator: Tensor
    motion_keep: Tensor
    motion_noise: Tensor
    own_beginning: Tensor
    own_carried: Tensor

    def of_frames(self, count: int) -> Draws:
        """For the first frames of the clips alone; the last where `count` is negative."""
        return dataclasses.replace(self, noise=self.noise[:, :count] if count > 0 else self.noise[:, count:])


def seeded(*names: object) -> torch.Generator:
    """A generator that depends on the names alone, e.g. (seed, "clip", 17): nothing to save or restore."""
    digest = hashlib.blake2b("/".join(map(str, names)).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


def draw(config: TrainConfig, shape: tuple[int, ...], numbers: range, forward: int) -> Draws:
    """Chance of a forward of the samples `numbers`, counted over the run.

    shape    of one sample's clip, (f, 4, h, w)
    forward  its number, the same on all devices; the authors drop from all samples of a forward alike
    """
    channels, height, width = shape[1:]
    carried, patches = config.motion_frames, (-(-height // 2), -(-width // 2))
    noise, kept, jitter, chances, own = [], [], [], [], []
    for number in numbers:
        generator = seeded(config.seed, "noise", number)
        offset = torch.randn(1, channels, 1, 1, generator=generator)
        noise.append(torch.randn(shape, generator=generator) + config.noise_offset * offset)
        kept.append(torch.rand(carried, 1, *patches, generator=generator).ge(config.motion_drop))
        jitter.append(torch.randn(carried, channels, height, width, generator=generator))
        names = ("forward", forward) if config.recipe == "authors" else ("sample", number)
        chances.append(torch.rand(5, generator=seeded(config.seed, *names)))
        own.append(torch.rand(2, generator=seeded(config.seed, "own", number)) < config.own_outputs)
    reference, audio, start, locator, blank = torch.stack(chances, 1).double()
    keep = F.interpolate(torch.stack(kept).float().flatten(0, 1), scale_factor=2)[..., :height, :width]
    shown = blank.ge(config.carried_dropout)[:, None, None, None, None]
    return Draws(
        noise=torch.stack(noise),
        timesteps=torch.stack([_timestep(config, number) for number in numbers]),
        no_reference=reference < config.reference_dropout,
        no_audio=audio < config.audio_dropout,
        no_start=start < config.start_dropout,
        no_locator=locator < config.locator_dropout,
        motion_keep=keep.unflatten(0, (len(numbers), carried)) * shown,
        motion_noise=torch.stack(jitter),
        own_beginning=torch.stack(own)[:, 0],
        own_carried=torch.stack(own)[:, 1],
    )


def _timestep(config: TrainConfig, number: int) -> Tensor:
    """Uniform over 0..999; except for the authors' recipe, successive samples are spread evenly over it.

    Or the next of those that a sampler of `sampled_steps` visits.
    """
    if config.sampled_steps:
        return ddim(config.noise_schedule, config.sampled_steps).timesteps[number % config.sampled_steps]
    if config.recipe == "authors":
        return torch.randint(constants.TRAIN_TIMESTEPS, (), generator=seeded(config.seed, "time", number))
    first = torch.rand((), generator=seeded(config.seed, "time"), dtype=torch.float64)
    return ((first + number * GOLDEN) % 1 * constants.TRAIN_TIMESTEPS).long()


@dataclass(frozen=True)
class Objective:
    """The loss of a batch under a run's settings.

    `authors` keeps their oddities: a forward without reference has empty reference features and four carried
    frames of zeros, one without start frames grey ones, and min-SNR weights multiply the mean loss. Otherwise
    a sample goes without something exactly as a guidance branch does at inference, the portrait stands still
    where start frames are dropped, and every sample has its own weight.
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
        prediction, field = predictions(network, self.config, batch, draws, noisy)
        error = (prediction.float() - target).square()
        snr = signal_to_noise(scheduler, draws.timesteps)
        return self.weighted(error, snr, self.watched(batch)) + self._astray(field, batch, draws)

    def watched(self, batch: Sample) -> Tensor:
        """Extra weight of every place of the pictures, (b, f, h, w)."""
        extra = self.config.lip_weight * batch.lips
        cover = batch.ways[:, :, FIELD:].nan_to_num(0)
        if not cover.shape[2]:
            return extra
        return extra + self.config.paint_weight / CERTAIN * cover.mean(2)

    def _astray(self, field: Tensor, batch: Sample, draws: Draws) -> Tensor:
        """How far the motion (b, f, c, h, w) is from what is known of it, where the portrait is seen."""
        weight, ways = self.config.ways_weight, batch.ways
        if not weight or not field.numel() or field.shape != ways.shape:
            return field.new_zeros(())
        known = ways.isfinite() & ~draws.no_reference.view(-1, 1, 1, 1, 1)
        error = (field.float() - ways).where(known, 0).square()  # NaN would reach the gradient of a square
        return weight * weighed(error, self.config.lip_weight * batch.lips).mean()

    def weighted(self, error: Tensor, snr: Tensor, extra: Tensor) -> Tensor:
        """Squared error (b, f, 4, h, w), signal-to-noise ratio (b,), weights as of `weighed` -> loss."""
        weight = min_snr_weight(snr)
        if self.by_authors:
            return error.mean() * weight.mean()
        return (weighed(error, extra).mean((1, 2, 3, 4)) * weight).mean()


def weighed(error: Tensor, extra: Tensor) -> Tensor:
    """Errors (b, f, 4, h, w), `extra` (b, f, h, w) more of them at every place, the mean weight 1."""
    region = 1 + extra
    return error * (region / region.mean((1, 2, 3), keepdim=True))[:, :, None]


def with_wrong_portrait(batch: Sample) -> dict[str, Sample]:
    """Different people, each given the next one's portrait: in all inputs, or in the reference UNet alone."""
    other = {name: getattr(batch, name).roll(1, 0) for name in ("reference", "base", "identity", "shown")}
    return {
        "wrong": dataclasses.replace(batch, **other),
        "attention": dataclasses.replace(batch, reference=other["reference"]),
    }


def predict(
    network: SingerNetwork, config: TrainConfig, batch: Sample, draws: Draws, noisy: Tensor
) -> Tensor:
    """The network's v for noisy latents (b, f, 4, h, w), the same shape."""
    return predictions(network, config, batch, draws, noisy)[0]


def predictions(
    network: SingerNetwork, config: TrainConfig, batch: Sample, draws: Draws, noisy: Tensor
) -> tuple[Tensor, Tensor]:
    """v, and the motion (b, f, c, h, w) of a network that predicts motion, of others without channels.

    Samples that are trained as the same guidance branch run together.
    """
    groups: dict[Branch, list[int]] = {}
    for row, branch in enumerate(branches_of(config, draws)):
        groups.setdefault(branch, []).append(row)
    parts = [
        _predict(network, config, batch.pick(rows), draws.pick(rows), noisy[rows]) for rows in groups.values()
    ]
    order = torch.tensor([row for rows in groups.values() for row in rows])
    together = torch.cat(parts)[order.argsort().to(noisy.device)]
    channels = noisy.shape[2]
    return together[:, :, :channels], together[:, :, channels:]


def _predict(
    network: SingerNetwork, config: TrainConfig, batch: Sample, draws: Draws, noisy: Tensor
) -> Tensor:
    frames = noisy.shape[1]
    tokens = image_tokens(network, batch.identity)
    clip = clip_conditions(network, config, batch, draws, noisy, tokens)
    timesteps = draws.timesteps.repeat_interleave(frames)
    latents = noisy.flatten(0, 1)
    output = network.output(latents, timesteps, tokens, clip)
    v = network.velocity(output, latents, timesteps, clip)
    return torch.cat([v, output[:, v.shape[1] :]], dim=1).unflatten(0, (-1, frames))


def clip_conditions(
    network: SingerNetwork, config: TrainConfig, batch: Sample, draws: Draws, noisy: Tensor, tokens: Tensor
) -> ClipConditions:
    """Conditions of a batch of clips of one branch, some of them dropped as `draws` says."""
    count, frames = noisy.shape[:2]
    branch = branches_of(config, draws)[0]
    by_authors, pictures = config.recipe == "authors", config.stage == 1
    unseen = draws.no_reference[0] if by_authors else pictures and not branch.portrait
    if pictures:
        heard = noisy.new_zeros(count * frames, 1, 1)
    else:
        heard = audio_tokens(network, batch.windows, noisy)
        if by_authors and draws.no_audio[0]:
            heard = torch.zeros_like(heard)
    return ClipConditions(
        branches=(branch,),
        frames=frames,
        audio=AudioTokens(heard, made=None),
        masks=tuple(level.transpose(0, 1).repeat_interleave(frames, 1) for level in batch.masks),
        weights=noisy.new_ones(1, 3),
        face=located(network, batch, draws).repeat_interleave(frames, 0),
        reference=None if unseen else reference_features(network, config, batch, draws, tokens),
        pictures=pictures,
    )


def located(network: SingerNetwork, batch: Sample, draws: Draws) -> Tensor:
    """Face-locator features of each sample, (b, c, h, w); zeros where it is shown nothing."""
    face = network.adapter.face_locator(batch.shown.expand(-1, 3, -1, -1))
    return face * ~draws.no_locator[:, None, None, None]


def branches_of(config: TrainConfig, draws: Draws) -> list[Branch]:
    """The guidance branch that each sample is trained as."""
    if config.recipe == "authors":
        return [CONDITIONAL] * len(draws.timesteps)
    return [
        UNCONDITIONAL if blind else PORTRAIT_ONLY if deaf and config.stage == 2 else CONDITIONAL
        for blind, deaf in zip(draws.no_reference.tolist(), draws.no_audio.tolist(), strict=True)
    ]


def image_tokens(network: SingerNetwork, identity: Tensor) -> Tensor:
    """identity (b, e) -> (2, b, n, d): without identity, with it."""
    both = torch.stack([torch.zeros_like(identity), identity])
    return network.adapter.image_projection(both.flatten(0, 1)).unflatten(0, (2, -1))


def audio_tokens(network: SingerNetwork, windows: Tensor, noisy: Tensor) -> Tensor:
    """Audio tokens after the MSM, ((b f), m, d).

    windows  (b, f, k, l, d)
    noisy    (b, f, 4, h, w) latents
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
    return dataclasses.replace(made, made=None, base=None if made.base is None else batch.base)


def carried_latents(config: TrainConfig, batch: Sample, draws: Draws) -> Tensor:
    """Latents of the carried frames as the network is shown them, (b, k, 4, h, w)."""
    still = batch.grey if config.recipe == "authors" else batch.reference
    first = draws.no_start[:, None, None, None, None]
    carried = (batch.carried + config.motion_noise * draws.motion_noise) * draws.motion_keep
    return torch.where(first, still[:, None], carried)
